"""mteb with a model of clsr: tasks made of retrieval sets, and one of its registry with data at hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.clip import Clip
from clsr.audio.waveform import write_waveform
from clsr.cli.main import main
from clsr.data.kaldi import Utterance, read_text, write_table
from clsr.data.question_parts import write_question_parts
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError
from clsr.model import Model, load

pytest.importorskip("mteb", reason="mteb needs Python 3.11")
import mteb
from datasets import Audio, Dataset
from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader

from clsr.adapters.mteb import RetrievalSetTask, evaluate

Say = Callable[[str], np.ndarray]


@pytest.fixture
def measured(tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    def measure(task: object) -> str:
        status = main(["mteb", str(task), "--model", str(tone_model), "--output", str(tmp_path / "out")])
        output = capsys.readouterr()
        assert status == 0, output.err
        return output.out

    return measure


def results(folder: Path, model: Path) -> dict:
    path = folder / "out" / "results" / f"clsr__{model.name}" / load(model).fingerprint
    assert (path / "model_meta.json").is_file()
    (found,) = [file for file in path.glob("*.json") if file.name != "model_meta.json"]
    return json.loads(found.read_text())


def hit_rate(model: Model, questions: list, passages: list, k: int) -> float:
    """The share of questions whose passage, that of the same number, is among the best ``k``."""
    scores = model.encode(questions, side="question") @ model.encode(passages).T
    return float(np.mean([(row > row[i]).sum() < k for i, row in enumerate(scores)]))


def test_retrieval_set_is_a_task(tone_corpus: Path, tone_model: Path, tmp_path: Path, measured) -> None:
    line = measured(tone_corpus / "dev")
    (scores,) = results(tmp_path, tone_model)["scores"]["test"]
    assert line == f"dev  test  default  hit_rate_at_5 {100 * scores['hit_rate_at_5']:.1f}\n"


@pytest.mark.parametrize("category", ["t2a", "a2t", "at2t", "at2a"])
def test_category_follows_what_is_there(
    category: str, tone_corpus: Path, tone_model: Path, say_in_tones: Say, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(tone_corpus / "dev", folder)
    texts = read_text(folder / "questions" / "text")
    clips = {}
    for id_, text in texts.items():
        clips[id_] = Utterance(id_, folder / "questions" / f"{id_}.wav", 0.0, 0.3, None, id_)
        write_waveform(clips[id_].recording, say_in_tones(text.removeprefix("Where is the ").rstrip("?")))
    wanted: list = list(texts.values())
    if category.startswith("at"):
        parts = {id_: [clip, "is where"] for id_, clip in clips.items()}
        write_question_parts(folder / "questions" / "parts.jsonl", parts)
        wanted = [["is where", Clip(clip.recording, 0.0, 0.3)] for clip in clips.values()]  # in the order of columns
    elif category.startswith("a"):
        write_table(folder / "questions" / "wav.scp", ((id_, f"{id_}.wav") for id_ in texts))
        wanted = [clip.recording for clip in clips.values()]
    passages: list = list(read_text(folder / "passages" / "text").values())
    if category.endswith("t"):
        shutil.copyfile(folder / "passages" / "text", tmp_path / "text")
        shutil.rmtree(folder / "passages")
        (folder / "passages").mkdir()
        (tmp_path / "text").rename(folder / "passages" / "text")
    else:
        passages = sorted((folder / "passages").glob("*.wav"))
    task = RetrievalSetTask(read_retrieval_set(folder, text_passages=True))
    assert task.metadata.category == category and task.metadata.type == "Any2AnyRetrieval"
    model = load(tone_model)
    evaluate(model, [str(folder)], tmp_path / "out")
    (scores,) = results(tmp_path, tone_model)["scores"]["test"]
    for k in (1, 3):
        assert scores[f"hit_rate_at_{k}"] == pytest.approx(hit_rate(model, wanted, passages, k), abs=1e-5)


def test_task_of_the_registry(tone_corpus: Path, tone_model: Path, tmp_path: Path, measured, monkeypatch) -> None:
    """With a folder in place of the data in Hugging Face's cache: audio is the bytes of files."""
    files = sorted((tone_corpus / "dev" / "passages").glob("*.wav"))
    texts = read_text(tone_corpus / "dev" / "questions" / "text")
    rows = {
        "corpus": [{"id": file.stem, "audio": {"bytes": file.read_bytes(), "path": file.name}} for file in files],
        "queries": [{"id": id_, "text": text} for id_, text in texts.items()],
        "qrels": [{"query-id": id_, "corpus-id": id_.replace("q", "p"), "score": 1} for id_ in texts],
    }
    folder = tmp_path / "hub"
    folder.mkdir()
    card = "---\nconfigs:\n"
    for name, content in rows.items():
        data = Dataset.from_list(content)
        data = data.cast_column("audio", Audio()) if name == "corpus" else data
        data.to_parquet(folder / f"{name}.parquet")
        card += f"- config_name: {name}\n  data_files: [{{split: test, path: {name}.parquet}}]\n"
    (folder / "README.md").write_text(f"{card}---\n")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    place = mteb.get_task("SpokenSQuADT2ARetrieval").metadata.dataset
    monkeypatch.setitem(place, "path", str(folder))
    line = measured("SpokenSQuADT2ARetrieval")
    wanted = hit_rate(load(tone_model), list(texts.values()), files, 5)
    assert line == f"SpokenSQuADT2ARetrieval  test  default  hit_rate_at_5 {100 * wanted:.1f}\n"


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        ("SpokenSQuADT2A", "neither a retrieval set nor a task of mteb: .* Did you mean: 'SpokenSQuADT2ARetrieval'"),
        ("Banking77Classification", r"a task of Classification \(text\); give one of retrieval in text and audio"),
        ("SpokenSQuADT2ARetrieval", r"its data cannot be loaded \(no network\): where there is a network"),
    ],
)
def test_faulty_tasks_are_one_line(task: str, fault: str, monkeypatch: pytest.MonkeyPatch, tone_model: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(RetrievalDatasetLoader, "__init__", fail)
    with pytest.raises(InputError, match=f"^{task}: {fault}"):
        evaluate(load(tone_model), [task], Path("nowhere"))
