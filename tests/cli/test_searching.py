"""``clsr search`` and ``clsr ask`` as commands, over an index that can be worked out by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE
from clsr.cli.main import main
from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.model import Model
from clsr.search.answering import ask
from clsr.search.retriever import Retriever

Speak = Callable[[Path, str], Path]


class Command:
    """Runs ``clsr`` on the index and keeps what was printed."""

    def __init__(self, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.index = index
        self.capsys = capsys
        self.error = ""

    def __call__(self, name: str, *arguments: object, status: int = 0) -> list[str]:
        """Run it, check its status, and return the lines printed."""
        self.capsys.readouterr()
        assert main([name, "--index", str(self.index), *map(str, arguments)]) == status
        out, self.error = self.capsys.readouterr()
        return out.splitlines()


class EchoAnswerer:
    """Answers by what it was given."""

    def answer(self, question: str | np.ndarray, windows: Sequence[np.ndarray]) -> str:
        query = question if isinstance(question, str) else f"{len(question) / SAMPLE_RATE:g} s of speech"
        return f"{query}: {[len(window) / SAMPLE_RATE for window in windows]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return (tmp_path / "talks").resolve()


@pytest.fixture
def clsr(
    speech_encoder: Any, model: Model, speak: Speak, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:  # fmt: skip
    """An index of ``a``: "cat the dog the | - - - - | tea sea sun boat", and ``it's b``: "sea sun"."""
    monkeypatch.setattr("clsr.checkpoint.load_speech_encoder", lambda *_: speech_encoder)
    folder.mkdir()
    speak(folder / "a.wav", "cat the dog the - - - - tea sea sun boat")
    speak(folder / "it's b.wav", "sea sun")
    Index.create(tmp_path / "index", model, IndexConfig("4/4", token_vectors=False)).add([folder])
    return Command(tmp_path / "index", capsys)


def test_search_prints_hits(clsr: Command, folder: Path) -> None:
    assert clsr("search", "sea sun") == [
        f"{folder}/it's b.wav  00:00-00:02  1.000  *sea* *sun*",
        f"{folder}/a.wav  00:08-00:12  0.707  tea *sea* *sun* boat",
        f"{folder}/a.wav  00:00-00:04  0.000  *cat* *the* *dog* *the*",  # no word is better than another
    ]
    assert clsr("search", "--top-k", 1, "--exact", "sea sun") == [
        f"{folder}/it's b.wav  00:00-00:02  1.000  *sea* *sun*"
    ]
    assert clsr.error == ""


def test_search_by_words_and_by_both(clsr: Command, folder: Path) -> None:
    (line,) = clsr("search", "--mode", "bm25", "boats")
    assert "a.wav  00:08-00:12" in line
    assert clsr("search", "--mode", "bm25", "winter") == []
    assert clsr.error == (
        "no hits: no window that passes the filters has a word of this question; --mode dense compares meanings\n"
    )
    hits = [json.loads(line) for line in clsr("search", "--mode", "hybrid", "--json", "sea sun")]
    # "it's b" is the best of both rankings, then a's second window; its first shares no word and is third by vectors
    assert [hit["score"] for hit in hits] == [0.03279, 0.03226, 0.01587]
    clsr("search", "--mode", "best", "sea", status=2)
    assert "--mode" in clsr.error and len(clsr.error.splitlines()) == 1


def test_search_in_some_recordings(clsr: Command, folder: Path) -> None:
    (line,) = clsr("search", "--recording", folder / "it's b.wav", "sea")
    assert "it's b.wav" in line
    assert len(clsr("search", "--recording", folder / "it's b.wav", "--recording", folder / "a.wav", "sea")) == 3
    assert len(clsr("search", "--folder", folder, "sea")) == 3
    assert clsr("search", "--folder", folder / "none", "sea") == []
    assert clsr.error == "no hits: no window passes the filters, or the index is empty\n"
    assert clsr("search", "--until", "2001-01-01", "sea") == []
    assert len(clsr("search", "--since", "2001-01-01", "sea")) == 3
    clsr("search", "--since", "last week", "sea", status=2)
    assert "'last week' is no date" in clsr.error
    clsr("search", "--recording", folder / "c.wav", "sea", status=2)
    assert "c.wav: not in the index" in clsr.error


def test_search_for_a_spoken_question(clsr: Command, folder: Path, speak: Speak, tmp_path: Path) -> None:
    question_file = speak(tmp_path / "q.wav", "boat tea")
    assert clsr("search", "--audio", question_file, "--top-k", 1) == [
        f"{folder}/a.wav  00:08-00:12  0.707  *tea* sea sun *boat*"
    ]
    assert clsr.error == f"{question_file}: boat tea\n"


def test_search_by_parts(clsr: Command, folder: Path, speak: Speak, tmp_path: Path) -> None:
    spoken = speak(tmp_path / "q.wav", "the cat sun")
    for sound, text in ((spoken, "sea the cat sun"), (f"{spoken}:2-3", "sea sun"), (f"{spoken}:2-", "sea sun")):
        for mode in ("dense", "bm25", "hybrid"):
            found = clsr("search", "--mode", mode, "--part", "sea", "--part", sound)
            assert clsr.error == f"the question: {text}\n"
            assert found == clsr("search", "--mode", mode, text)
    assert clsr("search", "--part", "sea sun") == clsr("search", "sea sun")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "one", "data": ["sea", "q.wav:2-3"]}\n{"id": "two", "question": "tea"}\n')
    lines = clsr("search", "--questions", questions, "--top-k", 1)
    assert (
        lines[0] == "one  sea sun" and lines[1].startswith(f"  {folder}/it's b.wav") and clsr.error == "one: sea sun\n"
    )


def test_parts_at_fault_are_one_line(clsr: Command, speak: Speak, tmp_path: Path) -> None:
    for arguments, message in (
        (("--part", "sea", "--part", "none.wav"), "the question, part 2: none.wav: no such audio file"),
        (("--part", ""), "the question: no part has words or speech"),
        (("--part", f"{speak(tmp_path / 'q.wav', 'the cat')}:5-9"), "the question, part 1: "),
        (("--part", "a.wav:9-5"), "a.wav:9-5: the span is empty"),
        (("--part", "sea", "--audio", "q.wav"), "--part makes the whole question"),
        (("--part", "sea", "sun"), "--part makes the whole question"),
    ):
        assert clsr("search", *arguments, status=2) == []
        assert clsr.error.count("\n") == 1 and message in clsr.error
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "one", "question": "sea"}\n{"id": "two", "data": ["sea", "none.wav"]}\n')
    clsr("search", "--questions", questions, status=2)
    assert "two, part 2: " in clsr.error and clsr.error.count("\n") == 1


def test_search_for_many_questions(clsr: Command, folder: Path, speak: Speak, tmp_path: Path) -> None:
    speak(tmp_path / "q.wav", "dog")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "one", "question": "sea sun"}\n{"id": "two", "audio": "q.wav"}\n')
    lines = clsr("search", "--questions", questions, "--top-k", 1)
    assert lines == [
        "one  sea sun",
        f"  {folder}/it's b.wav  00:00-00:02  1.000  *sea* *sun*",
        "two  dog",
        f"  {folder}/a.wav  00:00-00:04  0.408  cat the *dog* the",
    ]
    hits = [json.loads(line) for line in clsr("search", "--questions", questions, "--json", "--top-k", 2)]
    assert [(hit["question_id"], hit["rank"]) for hit in hits] == [("one", 1), ("one", 2), ("two", 1), ("two", 2)]
    plain = tmp_path / "questions.txt"
    plain.write_text("sea sun\ndog\n")
    again = [json.loads(line) for line in clsr("search", "--questions", plain, "--json", "--top-k", 2)]
    assert [hit | {"question_id": ""} for hit in again] == [hit | {"question_id": ""} for hit in hits]
    assert [hit["question_id"] for hit in again] == ["1", "1", "2", "2"]


def test_search_writes_subtitles_and_clips(clsr: Command, folder: Path, tmp_path: Path) -> None:
    assert clsr("search", "--srt", "-", "--top-k", 1, "sea sun") == [
        "1", "00:00:00,000 --> 00:00:02,000", "<b>sea</b> <b>sun</b>"
    ]  # fmt: skip
    assert len(clsr("search", "--srt", tmp_path / "hits.srt", "sea sun")) == 3
    assert (tmp_path / "hits.srt").read_text().count("-->") == 3
    clsr("search", "--save-clips", tmp_path / "clips", "--top-k", 2, "sea sun")
    names = sorted(file.name for file in (tmp_path / "clips").iterdir())
    assert names == ["01_it's b_0.0s.wav", "02_a_8.0s.wav"]
    clsr("search", "--save-clips", tmp_path / "clips", "--top-k", 2, "sea sun", status=2)
    assert "exists already" in clsr.error


@pytest.mark.parametrize(
    "arguments",
    [(), ("sea", "--audio", "q.wav"), ("sea", "--questions", "q.txt"), ("--questions", "q.txt", "--srt", "-")],
)
def test_search_for_nothing_or_too_much_is_refused(clsr: Command, arguments: tuple[str, ...]) -> None:
    clsr("search", *arguments, status=2)
    assert clsr.error.startswith("clsr: ") and len(clsr.error.splitlines()) == 1


def test_ask_prints_the_answer_and_its_sources(
    clsr: Command, folder: Path, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clsr.search.answering.load_answerer", lambda reference: EchoAnswerer())
    sources = [
        f"{folder}/it's b.wav  00:00-00:02  1.000  *sea* *sun*",
        f"{folder}/a.wav  00:08-00:12  0.707  tea *sea* *sun* boat",
    ]
    given = ("--answerer", "local:model", "--top-k", 2)
    assert clsr("ask", *given, "sea sun") == ["sea sun: [2.0, 4.0]", *sources]
    assert clsr.error == ""
    question_file = speak(tmp_path / "q.wav", "sea sun")
    assert clsr("ask", *given, "--audio", question_file) == ["2 s of speech: [2.0, 4.0]", *sources]
    (line,) = clsr("ask", *given, "--json", "sea sun")
    reply = json.loads(line)
    assert (reply["question"], reply["answer"]) == ("sea sun", "sea sun: [2.0, 4.0]")
    assert [hit["rank"] for hit in reply["sources"]] == [1, 2] and "error" not in reply


def test_ask_without_answerer_shows_windows_and_advice(clsr: Command) -> None:
    assert len(clsr("ask", "sea sun")) == 3
    assert "--answerer local:FOLDER or http://HOST:PORT/v1#MODEL" in clsr.error
    reply = json.loads(clsr("ask", "--json", "sea sun")[0])
    assert reply["answer"] is None and len(reply["sources"]) == 3


def test_ask_shows_the_windows_when_the_answerer_fails(clsr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = clsr("ask", "--answerer", "nobody", "sea sun", status=2)
    assert len(lines) == 3 and clsr.error.startswith("clsr: nobody: names no answerer")
    assert len(clsr.error.splitlines()) == 1

    def run_out(self: EchoAnswerer, *_: object) -> str:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("clsr.search.answering.load_answerer", lambda reference: EchoAnswerer())
    monkeypatch.setattr(EchoAnswerer, "answer", run_out)
    (line,) = clsr("ask", "--answerer", "local:model", "--json", "sea sun", status=2)
    reply = json.loads(line)
    assert reply["error"] == "the answerer failed (RuntimeError: out of memory)" and len(reply["sources"]) == 3


def test_empty_question_reaches_no_answerer(clsr: Command, folder: Path) -> None:
    assert clsr("ask", "--answerer", "nobody", "--folder", folder / "none", "sea") == []
    assert "nothing was found" in clsr.error


def test_an_answerer_may_be_an_object(clsr: Command, folder: Path) -> None:
    retriever = Retriever.open(clsr.index)
    reply = ask(retriever, "boat", EchoAnswerer(), top_k=1)
    assert (reply.answer, reply.error) == ("boat: [4.0]", None)
    (folder / "a.wav").unlink()
    reply = ask(retriever, "boat", EchoAnswerer(), top_k=1)
    assert reply.answer is None and reply.error and "a.wav: no such audio file" in reply.error
    with pytest.raises(InputError, match="question is empty"):
        ask(retriever, " ", EchoAnswerer())
