"""Tests of recipes/slue_sqa5/local/prepare_data.py on a miniature of the publisher's layout, made here."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from clsr.audio.waveform import write_waveform
from clsr.data.kaldi import read_data_dir
from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "slue_sqa5" / "local" / "prepare_data.py"

HEADER = (
    "question_id question_text normalized_question_text question_speaker_id document_id document_text "
    "normalized_document_text document_speaker_id answer_spans"
).split()


def row(question: str, document: str, **change: str) -> dict[str, str]:
    cells = {
        "question_id": question,
        "question_text": f'Who said "{question}?',  # one quotation mark, as the publisher's tables have
        "normalized_question_text": f"who said {question.replace('-', ' ')}",
        "question_speaker_id": f"speaker-{question}",
        "document_id": document,
        "document_text": "So\u2028it is.",
        "normalized_document_text": f"so it is {len(document)}",
        "document_speaker_id": "",
        "answer_spans": '[["it", 0.12, 0.18]]',
    }
    return cells | change


def write(corpus: Path, part: str, rows: list[dict[str, str]], ending: str = "\n", start: bytes = b"") -> None:
    """Write the table of a part and tones for what it names: 0.2 s a document, 0.1 s a question."""
    lines = ["\t".join(HEADER), *("\t".join(cells.values()) for cells in rows)]
    corpus.mkdir(exist_ok=True)
    (corpus / f"slue-sqa5_{part}.tsv").write_bytes(start + "".join(line + ending for line in lines).encode())
    for kind, samples in (("question", 1_600), ("document", 3_200)):
        (corpus / part / kind).mkdir(parents=True, exist_ok=True)
        for cells in rows:
            write_waveform(corpus / part / kind / f"{cells[f'{kind}_id']}.wav", np.full(samples, 0.1))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "slue-sqa5"
    write(folder, "fine-tune", [row("nq-1", "Harp_(music)_1"), row("nq-2", "Harp_(music)_1"), row("squad-3", "Oak 2")])
    write(folder, "dev", [row("nq-4", "Elm_1"), row("nq-5", "Elm_12")])
    answers = {"answer_spans": ""}  # the test part is blind
    rows = [row("trec-6", "Ash_1", **answers), row("trec-7", "Ash_12", **answers), row("trec-6", "Ash_123", **answers)]
    write(folder, "test", rows, ending="\r\n", start=b"\xef\xbb\xbf")
    return folder


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=False, capture_output=True, text=True)


def test_sets(corpus: Path, tmp_path: Path) -> None:
    result = run(corpus, tmp_path / "data")
    assert result.returncode == 0, result.stderr
    sets = {name: read_retrieval_set(tmp_path / "data" / "sets" / name) for name in ("train", "dev", "test")}
    assert sets["train"].relevance == {
        "nq-1": {"Harp_(music)_1": 1},
        "nq-2": {"Harp_(music)_1": 1},
        "squad-3": {"Oak_2": 1},
    }
    assert sets["test"].relevance == {"trec-6": {"Ash_1": 1, "Ash_123": 1}, "trec-7": {"Ash_12": 1}}
    assert sets["train"].answers == {"nq-1": "it", "nq-2": "it", "squad-3": "it"}
    assert sets["train"].answer_spans["squad-3"] == ("Oak_2", 0.12, 0.18)
    assert sets["test"].answers == {} and sets["test"].answer_spans == {}
    assert [(p.id, p.text, p.speaker, p.duration_s) for p in sets["train"].passages] == [
        ("Harp_(music)_1", "so it is 14", "Harp_(music)_1", 0.2),
        ("Oak_2", "so it is 5", "Oak_2", 0.2),
    ]
    assert sets["train"].passages[1].recording.name == "Oak 2.wav"
    spoken = sets["test"].question_speech
    assert spoken is not None
    assert [(q.id, q.text, q.speaker, q.duration_s) for q in spoken] == [
        ("trec-6", "who said trec 6", "speaker-trec-6", 0.1),
        ("trec-7", "who said trec 7", "speaker-trec-7", 0.1),
    ]
    assert all(check_retrieval_set(tmp_path / "data" / "sets" / name) == [] for name in sets)
    recognised = read_data_dir(tmp_path / "data" / "asr" / "train")
    assert [u.id for u in recognised] == ["Harp_(music)_1", "Oak_2", "nq-1", "nq-2", "squad-3"]
    assert [u.id for u in read_data_dir(tmp_path / "data" / "asr" / "dev")] == ["Elm_1", "Elm_12", "nq-4", "nq-5"]
    assert result.stderr.count("(none is published)") == 3


def test_verified_part_is_written_where_it_is_there(corpus: Path, tmp_path: Path) -> None:
    write(corpus, "verified-test", [row("trec-6", "Ash_1")])
    assert run(corpus, tmp_path / "data").returncode == 0
    assert read_retrieval_set(tmp_path / "data" / "sets" / "verified").relevance == {"trec-6": {"Ash_1": 1}}


def rewrite(part: str, *rows: dict[str, str]) -> Callable[[Path], None]:
    return lambda corpus: write(corpus, part, list(rows))


def replaced(old: str, new: str) -> Callable[[Path], None]:
    """Replace text in the table of the development part."""

    def damage(corpus: Path) -> None:
        path = corpus / "slue-sqa5_dev.tsv"
        path.write_text(path.read_text().replace(old, new))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: (c / "slue-sqa5_dev.tsv").unlink(), "slue-sqa5_dev.tsv: no such file or folder; get it with: wget "),
        (lambda c: (c / "test/document").rename(c / "x"), "test/document: no such file or folder; get it with: wget "),
        (
            lambda c: (c / "dev/question/nq-5.wav").unlink(),
            "dev/question/nq-5.wav: no such recording, of 4 needed; get",
        ),
        (lambda c: (c / "dev/document/Elm_1.wav").write_bytes(b"RIFF"), "dev/document/Elm_1.wav"),
        (replaced("normalized_document_text", "text"), "dev.tsv:1: has no column normalized_document_text"),
        (replaced("who said nq 5", " "), "dev.tsv:3: nq-5: normalized_question_text is empty"),
        (replaced("who said nq 5", "?!"), "dev.tsv:3: question nq-5: has no words"),
        (replaced("0.18]]\n", "0.18]]\tmore\n"), "dev.tsv:2: nq-4: has too many cells"),
        (replaced("who said nq 5", "who\tsaid"), "dev.tsv:3: nq-5: has too many cells"),
        (replaced("nq-5\t", "nq-4\t"), "dev.tsv:3: question nq-4: was another text before"),
        (rewrite("dev"), "dev.tsv: has no row"),
        (rewrite("dev", row("Elm_1", "Elm_1")), "a question and a document of dev have one id"),
        (lambda c: (c / "slue-sqa5_dev.tsv").write_bytes(b"\xff\xfe\x00"), "slue-sqa5_dev.tsv: is not UTF-8"),
    ],
)
def test_fault_is_one_line_and_nothing_is_written(
    corpus: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(corpus)
    result = run(corpus, tmp_path / "data")
    errors = [line for line in result.stderr.splitlines() if "(none is published)" not in line]
    assert result.returncode == 2 and message in errors[0], result.stderr
    assert all(error.startswith("error: ") for error in errors) and len(set(errors)) == len(errors)
    assert len(errors) == 1 + (
        "too many cells" in errors[-1] and ":2:" in errors[0]
    )  # the second row has the same fault
    assert not (tmp_path / "data").exists()


def test_every_fault_is_named_at_once(corpus: Path, tmp_path: Path) -> None:
    rows = [
        row("nq-4", "Elm_1", answer_spans='[["it", 3, 1]]'),
        row("nq-5", "Elm_12", normalized_document_text="?"),
        row("nq-6", "Elm_1", normalized_document_text="another"),
    ]
    write(corpus, "dev", rows)
    replaced("who said nq 5", "")(corpus)
    (corpus / "test/document/Ash_1.wav").unlink()
    result = run(corpus, tmp_path / "data")
    errors = [
        line.removeprefix(f"error: {corpus}/") for line in result.stderr.splitlines() if line.startswith("error: ")
    ]
    assert result.returncode == 2 and [error.partition(";")[0].partition(" (")[0] for error in errors] == [
        "slue-sqa5_dev.tsv:2: question nq-4: answer_spans are no answers with times",
        "slue-sqa5_dev.tsv:3: nq-5: normalized_question_text is empty",
        "slue-sqa5_dev.tsv:4: document Elm_1: was another text before",
        "test/document/Ash_1.wav: no such recording, of 5 needed",
    ]
    assert not (tmp_path / "data").exists()


def write_parquet(path: Path, rows: list[dict[str, Any]], audio: bytes, as_lists: bool) -> None:
    """The table of a part: recordings within, times as a list of objects or as lists of fields."""
    for cells in rows:
        words, first, last = ["it"], [0.12], [0.18]
        if as_lists:
            cells["answer_spans"] = {"answer": words, "start_second": first, "end_second": last}
        else:
            cells["answer_spans"] = [{"answer": words[0], "start_second": first[0], "end_second": last[0]}]
        for kind in ("question", "document"):
            cells[f"{kind}_audio"] = {"bytes": audio, "path": f"{cells[f'{kind}_id']}.wav"}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize("as_lists", [True, False])
def test_parquet_gives_the_same_sets(corpus: Path, tmp_path: Path, as_lists: bool) -> None:
    packed, audio = tmp_path / "packed", (corpus / "dev/document/Elm_1.wav").read_bytes()
    rows: dict[str, list[dict[str, Any]]] = {
        "train-00000-of-00002": [row("nq-1", "Harp_(music)_1"), row("nq-2", "Harp_(music)_1")],
        "train-00001-of-00002": [row("squad-3", "Oak 2")],
        "validation-00000-of-00001": [row("nq-4", "Elm_1"), row("nq-5", "Elm_12")],
        "test-00000-of-00001": [row("trec-6", "Ash_1"), row("trec-7", "Ash_12"), row("trec-6", "Ash_123")],
    }
    for name, of_file in rows.items():
        write_parquet(packed / "sqa5" / f"{name}.parquet", of_file, audio, as_lists)
    assert run(corpus, tmp_path / "unpacked").returncode == 0
    result = run(packed, tmp_path / "data")
    assert result.returncode == 0, result.stderr
    for name in ("train", "dev", "test"):
        expected, found = (read_retrieval_set(tmp_path / of / "sets" / name) for of in ("unpacked", "data"))
        assert (found.relevance, found.questions) == (expected.relevance, expected.questions)
        assert [(p.id, p.text, p.speaker) for p in found.passages] == [
            (p.id, p.text, p.speaker) for p in expected.passages
        ]
        assert found.answers == dict.fromkeys(found.questions, "it")
        assert check_retrieval_set(found.path) == []
    assert (tmp_path / "data/audio/fine-tune/document/Oak 2.wav").read_bytes() == audio


def test_faults_of_parquet_name_file_and_row(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    for name in ("train", "validation", "test"):
        rows = [row("nq-1", "Elm_1"), row("nq-2", "Elm_2", normalized_question_text=" " if name != "train" else "who")]
        write_parquet(packed / f"{name}-00000-of-00001.parquet", rows, b"RIFF", True)
    result = run(packed, tmp_path / "data")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 2
    assert "validation-00000-of-00001.parquet: row 1: nq-2: normalized_question_text is empty" in errors[0]
    (packed / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    result = run(packed, tmp_path / "data")
    assert result.returncode == 2 and "test-00000-of-00001.parquet: is no whole parquet file" in result.stderr
    assert not (tmp_path / "data").exists()


def test_documents_of_an_article_are_joined(corpus: Path, tmp_path: Path) -> None:
    write(corpus, "dev", [row("nq-4", "Harp_(music)_10"), row("nq-5", "Elm_12", answer_spans="")])
    assert run(corpus, tmp_path / "data").returncode == 0
    joiner = [sys.executable, SCRIPT.with_name("join_documents.py"), tmp_path / "data" / "sets", tmp_path / "long"]
    result = subprocess.run([*joiner, "--part", "dev"], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    whole = read_retrieval_set(tmp_path / "long")
    assert list(whole.questions) == ["nq-4"] and whole.answers == {"nq-4": "it"}  # nq-5 has no answer
    assert [passage.id for passage in whole.passages] == ["Harp_(music)_1", "Harp_(music)_10"]  # of dev and train
    assert whole.answer_spans == {"nq-4": ("Harp_(music)_10", 0.12, 0.18)}
    assert "1 questions about 1 articles of 2 documents" in result.stderr
    result = subprocess.run(joiner, check=False, capture_output=True, text=True)
    assert result.returncode == 2 and "sets/test: none of its questions has a known answer" in result.stderr
