"""Hits of any granularity from one index: runs of tokens, segments, windows, recordings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clsr.cli.main import main
from clsr.errors import InputError
from clsr.index.config import HitUnit, IndexConfig
from clsr.index.index import Index
from clsr.index.ranking import RankedWindow, RecognisedWindow
from clsr.model import Model
from clsr.search.retriever import Retriever
from clsr.search.token_matches import TokenMatch
from clsr.search.units import best_recordings, token_run
from clsr.vocabulary import Word

Speak = Callable[[Path, str], Path]


@pytest.fixture
def retriever(model: Model, speak: Speak, tmp_path: Path) -> Retriever:
    """``a``: "cat the dog | sea sun tea boat the sun" in windows of 8 s, ``b``: "sea sea", ``c``: "cat sea" twice."""
    speak(tmp_path / "a.wav", "cat the dog - sea sun tea boat the sun")
    speak(tmp_path / "b.wav", "sea sea")
    speak(tmp_path / "c.wav", "cat sea - - - - - - cat sea - - - - - -")
    index = Index.create(tmp_path / "index", model, IndexConfig("8/8", token_vectors=True))
    index.add([tmp_path])
    return Retriever(index, model)


def found(retriever: Retriever, unit: HitUnit, **options: Any) -> list[tuple[str, float, float, str]]:
    hits = retriever.search("sea", unit=unit, **options)
    return [(Path(hit.recording).name, hit.start_s, hit.end_s, hit.text) for hit in hits]


def test_segments_rank_by_their_own_vectors(retriever: Retriever) -> None:
    hits = retriever.search("sea", unit="segment")
    assert (Path(hits[0].recording).name, hits[0].text, round(hits[0].score, 3)) == ("b.wav", "sea sea", 1.0)
    of_a = [(hit.text, round(hit.score, 2)) for hit in hits if hit.recording.endswith("a.wav")]
    assert ("cat the dog", 0.0) in of_a
    assert ("sea sun tea boat", 0.5) in of_a  # of the window 0-8, whose own cosine is lower
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_recordings_are_found_whole_and_once(retriever: Retriever) -> None:
    """``b`` has a window of cosine 1, ``c`` two of 0.71, and ``a`` one of 0.4 and, touching it, one without "sea"."""
    names = [(name, start_s, end_s) for name, start_s, end_s, _ in found(retriever, "recording")]
    assert names == [("c.wav", 0.0, 16.0), ("b.wav", 0.0, 2.0), ("a.wav", 0.0, 10.0)]
    assert retriever.search("sea", unit="recording")[0].score == pytest.approx(2 * 2**-0.5, abs=1e-6)


def test_three_best_windows_are_summed() -> None:
    ranked = [RankedWindow("", "a", i, i + 1, 1.0 - i / 10) for i in range(5)] + [RankedWindow("", "b", 0, 1, 0.5)]
    (best,) = best_recordings(ranked, 1)
    assert (best.recording, best.start_s, best.score) == ("a", 0, pytest.approx(2.7))


def test_token_run_is_the_shortest_with_half() -> None:
    words = [Word(text, float(s), s + 1.0) for s, text in enumerate("so he sold the old horse to me".split())]
    window = RecognisedWindow(0.0, 8.0, "so he sold the old horse to me", words, b"")

    def match(place: int, cosine: float) -> TokenMatch:
        return TokenMatch("", *words[place], cosine)

    assert token_run(window, [match(0, 0.3), match(4, 0.5), match(5, 0.5), match(7, 0.3)])[2] == range(4, 6)
    assert token_run(window, [match(2, 0.9), match(7, 0.1)])[2] == range(2, 3)
    assert token_run(window, [match(0, 0.5), match(7, 0.5), match(3, -0.9)])[2] == range(1)
    assert token_run(window, [])[2] == range(8)
    assert token_run(RecognisedWindow(0, 8, "", [], b""), [])[1:] == ([[]], range(1))


def test_token_runs_are_words_of_the_window(retriever: Retriever) -> None:
    hits = retriever.search("boat", mode="maxsim", unit="tokens")
    assert "boat" in hits[0].text.split()
    assert hits[0].end_s - hits[0].start_s < 8
    with pytest.raises(InputError, match="mode maxsim"):
        retriever.search("boat", mode="dense", unit="tokens")


def test_command_takes_a_unit(
    retriever: Retriever, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["search", "--index", str(retriever.index.location), "--json", "--unit"]
    assert main([*arguments, "recording", "sea"]) == 0
    assert len({json.loads(line)["recording"] for line in capsys.readouterr().out.splitlines()}) == 3
    assert main([*arguments, "tokens", "--mode", "dense", "sea"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
