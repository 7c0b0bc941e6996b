"""Tests of recipes/drcd/local/prepare_odsqa.py on a miniature of the publisher's files, made here."""

import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "drcd" / "local" / "prepare_odsqa.py"

WRITTEN = "橋建於１９２３年。村裡的木匠花了兩年才完工！渡船一次能載十二個人。"
SPOKEN = "橋建魚一九二三年村裡的木匠花了兩年才完工渡船一次能載十二個人"
QUESTIONS = {  # by id: the question, its answer, what a recogniser made of it
    "7-1-1": ("橋建於哪一年？", "１９２３年", "橋建魚哪一年"),
    "7-1-2": ("誰花了兩年？", "木匠", "隨花了兩年"),
    "7-1-3": ("完工花了幾年？", "兩年", "完工花了幾年"),  # the same sentence
    "7-1-4": ("渡船能載幾個人？", "十二個人", ""),  # nothing was recognised
    "7-1-5": ("渡船載誰？", "十二個人", "渡船載隨"),
}


def article(context: str, questions: dict[str, tuple[str, str]]) -> dict[str, Any]:
    qas = [
        {
            "id": id_,
            "question": text,
            "answers": [{"id": "1", "text": answer, "answer_start": max(0, context.find(answer))}],
        }
        for id_, (text, answer) in questions.items()
    ]
    return {"title": "木橋", "id": "7", "paragraphs": [{"id": "7-1", "context": context, "qas": qas}]}


def sound() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(1_600, 0.1), 16_000, format="WAV")
    return buffer.getvalue()


def pack(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, sound())


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    written = article(WRITTEN, {id_: (text, answer) for id_, (text, answer, _) in QUESTIONS.items()})
    spoken = article(SPOKEN, {id_: (heard, "渡船") for id_, (_, _, heard) in QUESTIONS.items()})
    for name, whole in (("DRCD_dev.json", written), ("ODSQA_spokenq_test-v1.1.json", spoken)):
        (folder / name).write_text(json.dumps({"data": [whole]}, ensure_ascii=False), encoding="utf-8")
    questions = [f"audio_data/question/{id_}.wav" for id_ in QUESTIONS]
    pack(folder / "audio_data.zip", *questions, *(f"audio_data/document/7-1-{number}.wav" for number in (1, 2, 3)))
    return folder


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_odsqa", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        try:
            script.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_pairs_are_spoken_and_one_to_one(
    script: ModuleType,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "clsr"):
        assert run(script, capsys, corpus, tmp_path / "odsqa") == (0, [])
    whole = read_retrieval_set(tmp_path / "odsqa")
    assert whole.relevance == {"7-1-1": {"7-1_1": 1}, "7-1-2": {"7-1_2": 1}, "7-1-5": {"7-1_3": 1}}
    assert {passage.id: passage.text for passage in whole.passages}["7-1_1"] == "橋建於1923年"
    assert whole.questions["7-1-2"] == "誰花了兩年？" and whole.answers["7-1-2"] == "木匠"  # as they were read
    assert whole.question_speech is not None and whole.question_speech[0].duration_s == 0.1
    assert check_retrieval_set(tmp_path / "odsqa") == []
    assert len(list((tmp_path / "odsqa_audio").rglob("*.wav"))) == 6
    assert "7-1-4: left out, as its transcript is empty" in caplog.text
    assert "3 pairs (questions with a transcript" in caplog.text and "the paper has 1425" in caplog.text


def test_other_names_are_described_by_templates(
    script: ModuleType, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(corpus / "audio_data.zip", *(f"q/{id_}.flac" for id_ in QUESTIONS), *(f"p/7-1/s{n}.wav" for n in range(3)))
    status, errors = run(script, capsys, corpus, tmp_path / "odsqa")
    assert status == 2 and [error.partition(": no name is like ")[2].partition(";")[0] for error in errors] == [
        "question/{id}.wav",
        "document/{paragraph}-{sentence}.wav",
    ]
    assert "the archive has q/7-1-1.flac, q/7-1-2.flac, q/7-1-3.flac, ..." in errors[0]
    names = ("--question-name", "q/{id}.flac", "--sentence-name", "{paragraph}/s{sentence}.wav", "--first-sentence", 0)
    assert run(script, capsys, corpus, tmp_path / "odsqa", *names) == (0, [])
    assert sorted(p.id for p in read_retrieval_set(tmp_path / "odsqa").passages) == ["7-1_0", "7-1_1", "7-1_2"]


def test_every_fault_is_named_and_nothing_written(
    script: ModuleType, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(
        corpus / "audio_data.zip",
        "question/7-1-1.wav",
        "document/7-1-1.wav",
        "document/7-1-2.wav",
        "a/document/7-1-2.wav",
    )
    spoken = corpus / "ODSQA_spokenq_test-v1.1.json"
    spoken.write_text(spoken.read_text(encoding="utf-8").replace('"7-1-3"', '"9-9-9"'), encoding="utf-8")
    status, errors = run(script, capsys, corpus, tmp_path / "odsqa")
    assert status == 2
    for what in (
        "ODSQA_spokenq_test-v1.1.json: question 9-9-9: has no answer in DRCD_dev.json",
        "question 7-1-2: recordings like question/{id}.wav for 7-1-2: 0, not one",
        "question 7-1-5: recordings like question/{id}.wav for 7-1-5: 0, not one",
        "question 7-1-2: recordings like document/{paragraph}-{sentence}.wav for 7-1 2: 2, not one",
        "question 7-1-5: recordings like document/{paragraph}-{sentence}.wav for 7-1 3: 0, not one",
    ):
        assert sum(what in error for error in errors) == 1, errors
    assert len(errors) == 5 and not list(tmp_path.glob("odsqa*"))
    (corpus / "audio_data.zip").unlink()
    status, errors = run(script, capsys, corpus, tmp_path / "odsqa")
    assert status == 2 and "audio_data.zip: no such file or folder; get it with: wget" in errors[0]
