"""Token vectors are stored beside the windows, follow them, and rank them by MaxSim."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loudness import WORDS

from clsr.cli.main import main
from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.ranking import RankedWindow
from clsr.index.tables import TOKENS, IndexTables
from clsr.index.tokens.building import word_places
from clsr.index.tokens.compression import Projection, scales_of, unit_rows
from clsr.index.tokens.description import MEMBER, TokenDescription, read_description
from clsr.index.tokens.maxsim import TokenCache, expected
from clsr.model import Model
from clsr.search.retriever import Retriever
from clsr.vocabulary import Word

SMALL = IndexConfig("4/3")
PLAIN = IndexConfig("4/3", token_vectors=False)
Speak = Callable[[Path, str], Path]


@pytest.fixture
def index(model: Model, speak: Speak, tmp_path: Path) -> Index:
    """Two recordings: ``a`` with windows of 0-4 cat dog tea sea, 3-7 sea sun boat the, and ``b`` with 0-2 sea cat."""
    speak(tmp_path / "a.wav", "cat dog tea sea sun boat the")
    speak(tmp_path / "b.wav", "sea cat")
    index = Index.create(tmp_path / "index", model, SMALL)
    index.add([tmp_path])
    return index


def token_rows(index: Index) -> list[dict[str, Any]]:
    table = IndexTables(index.location).tokens
    assert table is not None
    return sorted(table.to_arrow().to_pylist(), key=lambda row: (row["recording"], row["start_s"]))


def test_seconds_of_overlapping_windows_are_stored_once(index: Index) -> None:
    rows = token_rows(index)
    assert [(row["start_s"], row["end_s"]) for row in rows] == [(0, 3), (3, 4), (4, 7), (0, 2)]
    tokens = [len(np.frombuffer(row["members"], MEMBER)) for row in rows]
    assert tokens == [3, 1, 3, 2]
    assert [len(row["vectors"]) // 8 for row in rows] == [2, 1, 2, 1]  # half, rounded up


def test_maxsim_is_that_of_the_slow_version() -> None:
    """Windows over the tiles of three recordings, each compared with all its vectors one by one."""
    draw = np.random.default_rng(0)
    rows, vectors = [], {}
    for recording in "abc":
        for tile in range(5):
            of_tile = draw.integers(-127, 128, (draw.integers(1, 5), 16)).astype(np.int8)
            vectors[recording, tile] = of_tile * scales_of(of_tile)[:, None]
            times = {"start_s": 10.0 * tile, "end_s": 10.0 * (tile + 1)}
            source = {"window_start_s": 0.0, "window_end_s": 50.0, "members": b"", "vectors": of_tile.tobytes()}
            rows.append({"recording": recording} | times | source)
    windows = [RankedWindow("", r, 10.0 * i, 10.0 * j, 0) for r in "abc" for i in range(5) for j in range(i + 1, 6)]
    query = unit_rows(draw.standard_normal((3, 16)).astype(np.float32))
    weights = np.array([0.5, 0.2, 0.3], np.float32)
    slow = [
        sum(weight * max(float(v @ q) for t in range(5) if w.start_s <= 10 * t < w.end_s
                         for v in vectors[w.recording, t]) for weight, q in zip(weights, query, strict=True))
        for w in windows
    ]  # fmt: skip
    cache = TokenCache(rows, 16)
    assert cache.scores(windows, query, weights) == pytest.approx(slow, abs=1e-5)
    assert cache.scores(windows[7:9], query, weights) == pytest.approx(slow[7:9], abs=1e-5)
    assert np.isnan(cache.scores([RankedWindow("", "d", 0.0, 10.0, 0)], query, weights)).all()


def test_hits_have_the_tokens_that_matched(index: Index, tmp_path: Path) -> None:
    hit = Retriever(index, index.model).search("boat sun", mode="maxsim")[0]
    assert (hit.window_start_s, hit.window_end_s) == (3.0, 7.0)
    # of three words of 4-7 two share a vector, the mean of theirs: cosines of 1 and 0.707, or of 0.707 twice
    assert [(match.token, match.start_s) for match in hit.tokens] in ([("boat", 5.0), ("sun", 4.0)],)
    assert hit.score == pytest.approx(np.mean([match.cosine for match in hit.tokens]), abs=1e-4)  # both in one tile
    assert json.loads(hit.to_json())["tokens"][0][:4] == ["boat", "boat", 5.0, 6.0]


def test_every_search_gives_the_same(index: Index) -> None:
    retriever = Retriever(index, index.model)
    first, second, third = (retriever.search("sea cat tea", mode="maxsim") for _ in range(3))
    assert first == second == third
    assert {Path(hit.recording).name for hit in first} == {"a.wav", "b.wav"}


def test_token_vectors_are_added_without_recognising(
    model: Model, speech_encoder: Any, speak: Speak, tmp_path: Path, index: Index
) -> None:
    plain = Index.create(tmp_path / "plain", model, PLAIN)
    plain.add([tmp_path / "a.wav", tmp_path / "b.wav"])
    with pytest.raises(InputError, match=r"clsr index --index \S+ --token-vectors"):
        Retriever(plain, model).search("sea", mode="maxsim")
    recognised = len(speech_encoder.batches)
    assert plain.add_token_vectors() == 3
    assert len(speech_encoder.batches) == recognised
    assert token_rows(plain) == token_rows(index)
    assert plain.add_token_vectors() == 0


def test_changed_recordings_get_new_token_vectors(index: Index, model: Model, speak: Speak, tmp_path: Path) -> None:
    speak(tmp_path / "a.wav", "tea tea")
    later = Index.open(index.location.uri, model)  # which does not ask for them: the index has some
    later.add([tmp_path / "a.wav"])
    assert [(Path(row["recording"]).name, row["end_s"]) for row in token_rows(index)] == [("a.wav", 2), ("b.wav", 2)]
    later.remove([tmp_path / "a.wav"])
    assert [Path(row["recording"]).name for row in token_rows(index)] == ["b.wav"]


def test_windows_without_token_vectors_are_found(
    index: Index, model: Model, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """As a run leaves them that was killed before it came to token vectors."""
    monkeypatch.setattr(Index, "update_token_vectors", lambda self: 0)
    index.add([speak(tmp_path / "c.wav", "sea")])
    monkeypatch.undo()
    hits = Retriever(index, model).search("sea", mode="maxsim")
    assert {Path(hit.recording).name for hit in hits if not hit.tokens} == {"c.wav"}
    assert "1 of 4 windows have no token vectors yet" in caplog.text
    damage, stale = index.verify()
    assert (damage, ["c.wav" in line and "--token-vectors" in line for line in stale]) == ([], [True])
    assert index.add_token_vectors() == 1
    assert Path(Retriever(index, model).search("sea", mode="maxsim")[0].recording).name in ("b.wav", "c.wav", "a.wav")


def test_verification_finds_damaged_and_missing_rows(index: Index) -> None:
    assert index.verify().damage == []
    table = IndexTables(index.location).tokens
    assert table is not None
    table.update(where="start_s = 4", values={"vectors": b"\x01" * 16})
    assert ["token vectors" in line and "a.wav" in line for line in index.verify().damage] == [True]
    table.delete("recording LIKE '%a.wav'")
    damage, stale = index.verify()
    assert (damage, ["a.wav: its token vectors are missing" in line for line in stale]) == ([], [True])


def test_damaged_description_is_one_line(index: Index, model: Model) -> None:
    folder = index.location.folder
    assert folder is not None
    (folder / "tokens.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokens\.json: cannot be read"):
        Retriever(index, model).search("sea", mode="maxsim")


def test_command_adds_and_searches(
    index: Index, model_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = str(index.location)
    (tmp_path / "index" / "tokens.json").unlink()
    shutil.rmtree(tmp_path / "index" / "tokens.lance")
    assert main(["search", "--index", name, "--mode", "maxsim", "sea"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"clsr index --index {name} --token-vectors" in error
    assert main(["index", "--index", name, "--token-vectors"]) == 0
    assert "3 windows" in capsys.readouterr().err
    assert main(["search", "--index", name, "--json", "sea"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["tokens"][0][0] == "sea"


def test_tokens_belong_to_their_words() -> None:
    words = [Word("rachel's", 0, 1), Word("北", 1, 2), Word("京", 2, 3), Word("boat", 3, 4)]
    spans = [(0, 6), (6, 8), (8, 9), (9, 10), (10, 14)]  # of rachel's北京boat: no space beside a Han character
    assert word_places(words, spans).tolist() == [0, 0, 1, 2, 3]
    assert word_places([Word("a", 0, 1), Word("b", 1, 2)], [(0, 1), (1, 3)]).tolist() == [0, 1]  # a space before


def test_reader_sees_no_table_where_there_is_none(model: Model, speak: Speak, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model, PLAIN)
    index.add([speak(tmp_path / "a.wav", "sea")])
    assert IndexTables(IndexLocation.of(tmp_path / "index")).reader(TOKENS) is None
    assert not index.has_token_vectors


def test_rare_tokens_count_more(index: Index) -> None:
    """Of four tiles, "sea" stands in two, "tea" in one, and "red" in none."""
    description = read_description(index.location)
    assert description is not None
    weights = description.weights([WORDS.index("sea"), WORDS.index("tea"), 99])
    rarity = np.log(5 / np.array([2.5, 1.5, 0.5]))
    assert weights == pytest.approx(rarity / rarity.sum(), abs=1e-6)
    everywhere = TokenDescription(Projection(np.eye(2), 1), tiles=10, counts={1: 10, 2: 10})
    assert everywhere.weights([1, 2]) == pytest.approx([0.5, 0.5])


def test_silence_has_no_token_vectors(model: Model, speak: Speak, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model, SMALL)
    index.add([speak(tmp_path / "a.wav", "- -")])
    assert not index.has_token_vectors
    index.add([speak(tmp_path / "a.wav", "sea sun")])
    assert len(token_rows(index)) == 1


def test_score_without_vectors_goes_by_cosine() -> None:
    """The others lie on score = 0.1 + cosine / 2; of one alone no line follows."""
    scores = np.array([0.3, np.nan, 0.5, 0.4], np.float32)
    assert expected(np.array([0.4, 0.2, 0.8, 0.6]), scores) == pytest.approx([0.3, 0.2, 0.5, 0.4])
    assert expected(np.array([0.4, 0.2]), np.array([0.3, np.nan])).tolist() == [0.4, 0.2]


def test_best_mode_goes_by_what_is_there(index: Index, model: Model, tmp_path: Path) -> None:
    """The windows of ``a`` have "sea" once in four words or three, which a single vector hardly shows."""
    retriever = Retriever(index, model)
    assert retriever.search("sea") == retriever.search("sea", mode="maxsim") != retriever.search("sea", mode="dense")
    assert retriever.profiles("sea", [str(tmp_path / "a.wav")]) != retriever.profiles(
        "sea", [str(tmp_path / "a.wav")], "dense"
    )
    nowhere = Filter(until="2001-01-01")
    assert retriever.search("sea", mode="maxsim", only=nowhere) == []
    plain = Index.create(tmp_path / "plain", model, PLAIN)
    plain.add([tmp_path / "a.wav", tmp_path / "b.wav"])
    of_plain = Retriever(plain, model)
    assert of_plain.search("sea") == of_plain.search("sea", mode="dense") == retriever.search("sea", mode="dense")


def test_index_stays_with_or_without_them(
    model: Model, speak: Speak, tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Index.create(tmp_path / "plain", model, PLAIN)
    plain.add([speak(tmp_path / "c.wav", "sea")])
    Index.open(plain.location.uri, model).add([speak(tmp_path / "d.wav", "sea")])
    assert not plain.has_token_vectors
    plain.add_token_vectors()
    assert plain.has_token_vectors and plain.description.token_vectors
    with pytest.raises(InputError, match="leave out --no-token-vectors"):
        Index.open(index.location.uri, model, PLAIN).add([tmp_path / "c.wav"])

    with monkeypatch.context() as patch:  # killed before it comes to token vectors for the first time
        patch.setattr(Index, "update_token_vectors", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Index.create(tmp_path / "killed", model, SMALL).add([tmp_path / "c.wav"])
    killed = Index.open(tmp_path / "killed", model)
    assert Retriever(killed, model).search("sea")[0].tokens == ()
    killed.add([tmp_path / "c.wav"])
    assert Retriever(killed, model).search("sea")[0].tokens != ()
