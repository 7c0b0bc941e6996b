"""Tests of recipes/spoken_squad/local/prepare_published.py on a miniature of the publisher's corpus, made here."""

import importlib.util
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from clsr.audio.waveform import write_waveform
from clsr.data.kaldi import read_text
from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "spoken_squad" / "local" / "prepare_published.py"

WREN = (
    "The wren (Troglodytes) builds several nests, i.e. the male does so. Only one of them is used.  It is lined by "
    "the female!  It sings loudly."
)
WREN_HYPOTHESIS = (
    "the ran trog love dies build several nests i e. the mail does so. only one of them is used. it is lined by the "
    "female it sings loudly."
)


def make_question(id_: str, question: str, answer: str, context: str, start: int | None = None) -> dict[str, Any]:
    place = context.index(answer) if start is None else start
    return {"id": id_, "question": question, "answers": [{"text": answer, "answer_start": place}]}


def article(title: str, *paragraphs: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs]}


def write(path: Path, *articles: dict[str, Any]) -> None:
    path.write_text(json.dumps({"version": "1.1", "data": articles}))


def plain(title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A written article of two sentences and its hypothesis; the second sentence answers."""
    written, hypothesis = (
        f"{title} is a town. It has {title} mills.",
        f"{title} is a town. it has {title} mill.".lower(),
    )
    qas = [make_question(f"q-{title}", f"What has {title}?", f"{title} mills", written)]
    spoken = [make_question(f"q-{title}", f"What has {title}?", f"{title} mill".lower(), hypothesis)]
    return article(title, (written, qas)), article(title, (hypothesis, spoken))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Test: the wren's paragraph is the second of its article. Train: four towns; recordings of 0.1 s a sentence."""
    folder = tmp_path / "corpus"
    audio = folder / "Spoken-SQuAD_audio"
    (audio / "train_wav").mkdir(parents=True)
    (audio / "dev_wav").mkdir()
    qas = [
        make_question("w1", "How many nests are used?", "one", WREN, 0),  # said to be at the start: looked for
        make_question("w2", "What is used?", "Only one of them", WREN),
        make_question("w3", "Who  builds?", "the male", WREN),
        make_question("w4", "how many nests are used?", "loudly", WREN),  # repeats w1
        make_question("w5", "What does it do?", "sings", WREN),  # not kept by the publisher
    ]
    spoken = [make_question(qa["id"], qa["question"], "e", WREN_HYPOTHESIS) for qa in qas[:4]]
    lost = ("One. Two. Three.", [make_question("l1", "What is first?", "One", "One.")])
    lost_hypothesis = ("one. two three four five six.", [make_question("l1", "What is first?", "one", "one.")])
    write(folder / "dev-v1.1.json", article("Wren", ("None.", []), (WREN, qas)), article("Lost", lost))
    write(
        folder / "spoken_test-v1.1.json", article("Wren", (WREN_HYPOTHESIS, spoken)), article("Lost", lost_hypothesis)
    )
    towns = [plain(name) for name in ("Ash", "Birch", "Cedar", "Dale")]
    write(folder / "train-v1.1.json", *(town for town, _ in towns))
    write(folder / "spoken_train-v1.1.json", *(spoken for _, spoken in towns))
    names = [f"dev_wav/0_1_{i}" for i in range(5)] + [f"train_wav/{t}_0_{i}" for t in range(4) for i in range(2)]
    for name in names:
        write_waveform(audio / f"{name}.wav", np.full(2_400, 0.1), 24_000)
    return folder


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_published", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the script in this process, without the digests of the real corpus; status and what was message on stderr."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    monkeypatch.setattr(script, "SOURCES", [source._replace(sha256=None) for source in script.SOURCES])
    try:
        script.main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        monkeypatch.undo()
    return status, capsys.readouterr().err


def test_sentences_are_those_that_were_read(script: ModuleType) -> None:
    """The abbreviation ends one, and so does the exclamation mark only if the recogniser had it so."""
    spans = script.sentences_written(WREN, 4)
    assert [WREN[start:end].strip() for start, end in spans] == [
        "The wren (Troglodytes) builds several nests, i.e.",
        "the male does so.",
        "Only one of them is used.",
        "It is lined by the female!  It sings loudly.",
    ]
    assert WREN[slice(*script.sentences_written(WREN, 5)[3])].strip() == "It is lined by the female!"
    assert script.sentences_written(WREN, 3) is None
    assert script.sentences_spoken(WREN_HYPOTHESIS) == 4


def test_one_to_one(
    script: ModuleType,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "clsr"):
        status, error = run(script, capsys, corpus, tmp_path / "sets")
    assert status == 0, error
    test = read_retrieval_set(tmp_path / "sets" / "test")
    assert test.relevance == {"w1": {"0_1_2": 1}, "w3": {"0_1_1": 1}}  # w2 has w1's passage, w4 its question
    assert test.questions == {"w1": "How many nests are used?", "w3": "Who builds?"}
    assert read_text(test.path / "passages" / "text") == {
        "0_1_1": "the male does so",
        "0_1_2": "only one of them is used",
    }
    assert {u.recording.name for u in test.passages} == {"0_1_1.wav", "0_1_2.wav"}
    assert [round(u.duration_s, 3) for u in test.passages] == [0.1, 0.1]
    assert "1 questions of paragraphs with other sentences than were read are left out" in caplog.text
    assert f"{tmp_path / 'sets' / 'test'}: 2 questions, 2 passages" in caplog.messages
    train, dev = (read_retrieval_set(tmp_path / "sets" / name) for name in ("train", "dev"))
    assert (len(train.questions), len(dev.questions)) == (3, 1)
    assert {q.split("_")[1] for whole in (train, dev) for p in whole.relevance.values() for q in p} == {"0"}
    assert {next(iter(p)) for whole in (train, dev) for p in whole.relevance.values()} == {f"{t}_0_1" for t in range(4)}
    assert [check_retrieval_set(tmp_path / "sets" / name) for name in ("train", "dev", "test")] == [[], [], []]


def test_the_transcripts_answer_names_the_sentence(
    script: ModuleType, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The publisher found the answer where its words stand first: "e" is the second letter of the first sentence."""
    assert script.sentence_at(WREN_HYPOTHESIS, WREN_HYPOTHESIS.index("only")) == 2
    assert script.sentence_at(WREN_HYPOTHESIS, WREN_HYPOTHESIS.index("nly")) == 2
    assert run(script, capsys, corpus, tmp_path / "sets", "--pairs", "all", "--answer-in", "transcript")[0] == 0
    test = read_retrieval_set(tmp_path / "sets" / "test")
    assert test.relevance == {f"w{number}": {"0_1_0": 1} for number in (1, 2, 3, 4)}
    assert test.answers == {"w1": "one", "w2": "Only one of them", "w3": "the male", "w4": "loudly"}


def test_all_pairs(script: ModuleType, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(script, capsys, corpus, tmp_path / "sets", "--pairs", "all")[0] == 0
    test = read_retrieval_set(tmp_path / "sets" / "test")
    assert test.relevance == {
        "w1": {"0_1_2": 1},
        "w2": {"0_1_2": 1},
        "w3": {"0_1_1": 1},
        "w4": {"0_1_3": 1},
    }
    assert [u.id for u in test.passages] == ["0_1_1", "0_1_2", "0_1_3"]
    assert test.questions["w4"] == "how many nests are used?"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda c: (c / "train-v1.1.json").unlink(),
            "train-v1.1.json: no such file or folder; get it with: wget https",
        ),
        (lambda c: (c / "spoken_test-v1.1.json").unlink(), "spoken_test-v1.1.json: no such file or folder"),
        (lambda c: (c / "Spoken-SQuAD_audio/dev_wav").rename(c / "x"), "dev_wav: no such file or folder; get it with"),
        (lambda c: (c / "Spoken-SQuAD_audio/dev_wav/0_1_2.wav").unlink(), "0_1_2.wav: no such recording, of 6 needed"),
        (lambda c: (c / "Spoken-SQuAD_audio/dev_wav/0_1_2.wav").write_bytes(b""), "0_1_2.wav"),
        (lambda c: (c / "dev-v1.1.json").write_text('{"data": [{"title": "T"}]}'), "article 0: paragraphs is missing"),
        (lambda c: (c / "dev-v1.1.json").write_bytes((c / "train-v1.1.json").read_bytes()), "no question is left"),
    ],
)
def test_fault_is_one_line_and_nothing_is_written(
    script: ModuleType, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, message: str
) -> None:
    damage(corpus)
    status, error = run(script, capsys, corpus, tmp_path / "sets")
    assert status == 2 and message in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("error: ") and error.count("error: ") == 1
    assert not (tmp_path / "sets").exists()


def test_other_files_than_the_published_are_refused(corpus: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, SCRIPT, corpus, tmp_path / "sets"], check=False, capture_output=True, text=True
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "train-v1.1.json: sha256 is " in result.stderr and "not the published 3527663986" in result.stderr


def test_real_paragraphs_are_cut_as_they_were_read(script: ModuleType, shared_data: Path) -> None:
    """Written paragraphs of SQuAD, and their ASR hypotheses."""
    rows = [json.loads(line) for line in (shared_data / "text_qa" / "xquad_en_zh.jsonl").open(encoding="utf-8")]
    spoken = [json.loads(line) for line in (shared_data / "text_qa" / "spoken_squad.jsonl").open(encoding="utf-8")]
    transcripts = {row["id"]: row["context"] for row in spoken}
    both = [(row["context"], transcripts[row["id"]]) for row in rows if row["id"] in transcripts]
    assert len(both) == 55
    assert all(script.sentences_written(text, script.sentences_spoken(hypothesis)) for text, hypothesis in both)
