import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from clsr.cli.main import main
from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.ranking import merge
from clsr.index.tables import IndexTables
from clsr.model import Model
from clsr.search.hit import Hit
from clsr.search.retriever import Retriever
from clsr.search.weak import LEAST_SCORES
from clsr.vocabulary import Word

SMALL = IndexConfig("4/3")
Speak = Callable[[Path, str], Path]


class Span(NamedTuple):
    recording: str
    start_s: float
    end_s: float
    score: float


@pytest.fixture
def index(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> Path:
    """Three recordings: ``cat the dog the | the - - - | - tea``, ``sea sun``, and one of silence."""
    speak(tmp_path / "a.wav", "cat the dog the - - - - - - tea sea sun boat")
    speak(tmp_path / "b.wav", "sea sun")
    speak(tmp_path / "c.wav", "- - - -")
    Index.create(tmp_path / "index", model, SMALL).add([tmp_path])
    return tmp_path / "index"


def test_ranking_and_scores(index: Path, tmp_path: Path) -> None:
    """Windows of ``a``: 0-4 cat the dog the, 3-7 the, 6-10 silent, 9-13 tea sea sun, 10-14 tea sea sun boat."""
    hits = Retriever.open(index).search("sea", mode="dense")
    places = [(Path(hit.recording).name, hit.window_start_s, hit.window_end_s, hit.window_text) for hit in hits]
    assert places[:2] == [("b.wav", 0.0, 2.0, "sea sun"), ("a.wav", 9.0, 13.0, "tea sea sun")]
    assert places[2:] == [("a.wav", 0.0, 4.0, "cat the dog the")]  # overlapping and silent windows are left out
    assert [hit.score for hit in hits] == pytest.approx([2**-0.5, 3**-0.5, 0.0], abs=1e-6)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    # what is said in 9-13 begins at 10, and a quarter of a second before it belongs to the moment
    assert [(hit.start_s, hit.end_s, hit.text) for hit in hits[:2]] == [(0, 2, "sea sun"), (9.75, 13, "tea sea sun")]


def test_best_words_are_marked_stop_words_not(index: Path) -> None:
    best = Retriever.open(index).search("dog the cat dog cat dog", top_k=1)[0]
    # question: dog 3, cat 2, the 1, over sqrt(14); mean of the three words 2; halfway to the best 2.5
    assert best.text == "cat the dog the"
    assert best.matches == (Word("dog", 2.0, 3.0),)


def test_three_words_marked_at_every_occurrence(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    speak(tmp_path / "a.wav", "boat sea the tea sun cat sea the")
    Index.create(tmp_path / "index", model, IndexConfig("8/8")).add([tmp_path])
    best = Retriever.open(tmp_path / "index").search("boat sun sea tea")[0]
    # four words score equally: the first three of the alphabet are kept
    assert best.matches == (Word("boat", 0, 1), Word("sea", 1, 2), Word("sun", 4, 5), Word("sea", 6, 7))


def test_later_windows_keep_recording_word_times(index: Path) -> None:
    hit = Retriever.open(index).search("tea", top_k=1)[0]
    assert (hit.window_start_s, hit.matches) == (9.0, (Word("tea", 10.0, 11.0),))


def test_hits_are_those_of_the_whole_ranking(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    """With ten windows over every second, the hits asked for lie far below the first rows of the ranking."""
    speak(tmp_path / "a.wav", "cat " * 12 + "dog sea " * 6 + "tea cat sun " * 8 + "boat the cat the " * 5)
    Index.create(tmp_path / "index", model, IndexConfig("10/1")).add([tmp_path / "a.wav"])
    table = IndexTables(IndexLocation.of(tmp_path / "index")).windows
    assert table is not None
    cat = speech_encoder.text_encoder.encode(["cat"], "question")[0].numpy()
    rows = [row for row in table.to_arrow().to_pylist() if row["text"]]
    ranking = merge(
        Span(row["recording"], row["start_s"], row["end_s"], float(np.dot(row["vector"], cat))) for row in rows
    )
    assert len(rows) > 40 and len(ranking) > 4  # more than what is read first
    retriever = Retriever.open(tmp_path / "index")
    for top_k in range(1, len(ranking) + 2):
        hits = retriever.search("cat", top_k, "dense")
        assert [hit.window_start_s for hit in hits] == [span.start_s for span in ranking[:top_k]]
        assert [hit.score for hit in hits] == pytest.approx([span.score for span in ranking[:top_k]])


def test_recordings_indexed_later_are_found(speech_encoder: Any, index: Path, model: Model, speak: Speak) -> None:
    retriever = Retriever.open(index)
    path = speak(index.parent / "d.wav", "sea")
    Index.create(index, model, SMALL).add([path])
    assert retriever.search("sea", top_k=1)[0].recording == str(path)


def test_index_without_any_word_has_no_hits(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    Index.create(tmp_path / "index", model, SMALL).add([speak(tmp_path / "a.wav", "- -")])
    assert Retriever.open(tmp_path / "index").search("sea") == []


def test_model_that_moved_is_named(index: Path, model_folder: Path) -> None:
    moved = model_folder.rename(model_folder.with_name("moved"))
    with pytest.raises(InputError, match=f"is not at {model_folder}"):
        Retriever.open(index)
    assert Retriever.open(index, moved).search("sea sun", top_k=1, mode="dense")[0].text == "sea sun"


def test_model_that_changed_is_refused_with_both_fingerprints(index: Path, model_folder: Path) -> None:
    (model_folder / "weights").write_text("model-2")
    with pytest.raises(InputError, match=r"by model .* \(model-1\), but the model given is .* \(model-2\)"):
        Retriever.open(index)


def test_no_index_and_an_empty_one_are_refused(speech_encoder: Any, model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no index here"):
        Retriever.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "a.wav").touch()
    Index.create(tmp_path / "index", model, SMALL).add([tmp_path / "a.wav"])
    assert IndexTables(IndexLocation.of(tmp_path / "index")).windows is None
    with pytest.raises(InputError, match="nothing is indexed yet"):
        Retriever.open(tmp_path / "index")


def test_empty_question_and_zero_hits_are_refused(index: Path) -> None:
    retriever = Retriever.open(index)
    with pytest.raises(InputError, match="question is empty"):
        retriever.search("  ")
    with pytest.raises(InputError, match="top_k is 0"):
        retriever.search("sea", top_k=0)


HIT = Hit(
    rank=1,
    recording="/talks/a.wav",
    start_s=754.2,
    end_s=790.0,
    window_start_s=750.0,
    window_end_s=790.0,
    score=0.71234567,
    text="the sea is the sea",
    window_text="a boat the sea is the sea",
    matches=(Word("sea", 760.1234, 760.5),),
)


def test_hit_as_a_line() -> None:
    assert str(HIT) == "/talks/a.wav  12:34-13:10  0.712  the *sea* is the *sea*"


def test_hit_over_an_hour_in_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = str(Path.cwd() / "talks" / "a.wav")
    hit = replace(HIT, recording=place, start_s=3599.5, end_s=3639.2, score=-0.05, text="sea", matches=())
    assert str(hit) == "talks/a.wav  59:59-1:00:40  -0.050  sea"


def test_hit_as_json() -> None:
    assert json.loads(HIT.to_json()) == {
        "rank": 1,
        "recording": "/talks/a.wav",
        "start_s": 754.2,
        "end_s": 790.0,
        "score": 0.7123,
        "text": "the sea is the sea",
        "matches": [["sea", 760.123, 760.5]],
        "window_start_s": 750.0,
        "window_end_s": 790.0,
        "window_text": "a boat the sea is the sea",
    }


def test_a_question_is_encoded_once_for_many_uses(
    index: Path, model: Model, speech_encoder: Any, speak: Speak, tmp_path: Path
) -> None:
    retriever = Retriever(Index.open(index), model)
    query = retriever.encode(speak(tmp_path / "query.wav", "tea sea"))
    batches = len(speech_encoder.batches)
    assert query.text == "tea sea" and query.vector == pytest.approx([0, 0, 0, 0, 0.5**0.5, 0.5**0.5, 0, 0])
    assert retriever.search(query) == retriever.search("tea sea")
    recording = retriever.search(query, top_k=1)[0].recording
    typed = retriever.encode("tea sea")
    assert retriever.index.profile(query.vector, recording) == retriever.index.profile(typed.vector, recording)
    assert len(speech_encoder.batches) == batches


def test_weak_hits_are_those_below_the_threshold(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best window of ``a`` is four seconds long, that of ``b`` two."""
    retriever = Retriever.open(index)
    of_a, of_b = retriever.search("tea sun", 2)
    assert [Path(hit.recording).name for hit in (of_a, of_b)] == ["a.wav", "b.wav"] and not (of_a.weak or of_b.weak)
    above_both, below_both = of_a.score + 0.01, of_b.score - 0.01
    monkeypatch.setitem(LEAST_SCORES, ("", ""), {3.0: above_both, 0.0: below_both})
    assert [hit.weak for hit in retriever.search("tea sun", 2)] == [True, False]
    assert not any(hit.weak for hit in retriever.search("tea sun", mode="dense"))
    assert not any(hit.weak for hit in retriever.search("tea sun", unit="recording"))
    assert main(["search", "--index", str(index), "--top-k", "2", "tea sun"]) == 0
    assert capsys.readouterr().err == ""  # one of them is not weak
    monkeypatch.setitem(LEAST_SCORES, ("", ""), {0.0: above_both})
    assert main(["search", "--index", str(index), "--json", "tea sun"]) == 0
    out, err = capsys.readouterr()
    assert all(json.loads(line)["weak"] for line in out.splitlines()) and err.startswith("clsr: nothing matches well")
