"""Chapters begin where vectors change, on made-up sequences and in an index."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.cli.main import main
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.metrics.segmentation import boundary_f1, p_k
from clsr.model import Model
from clsr.search import chapters
from clsr.search.chapters import SpokenUnit, boundaries, central_words, find_chapters, read_units
from clsr.vocabulary import Word

Speak = Callable[[Path, str], Path]


def noisy(subjects: list[int], seed: int = 0, noise: float = 0.15) -> list[SpokenUnit]:
    """Segments of 10 s, each the axis of its subject and noise in 32 dimensions."""
    draw = np.random.default_rng(seed)
    units = []
    for at, subject in enumerate(subjects):
        vector = np.eye(32)[subject] + noise * draw.standard_normal(32)
        units.append(SpokenUnit(10.0 * at, 10.0 * at + 10, [], (vector / np.linalg.norm(vector)).astype(np.float32)))
    return units


@pytest.mark.parametrize("seed", range(5))
def test_boundaries_of_made_up_subjects_are_found(seed: int) -> None:
    """Four subjects of 5, 8, 4 and 6 minutes: F1 is 1 and P_k 0 where a uniform cut has 0 and 0.3."""
    lengths = [30, 48, 24, 36]
    units = noisy([subject for subject, length in enumerate(lengths) for _ in range(length)], seed)
    truth, duration_s = [300.0, 780.0, 1020.0], 1380.0
    found = [units[place].start_s for place in boundaries(units, depth=0.5)]
    assert boundary_f1(truth, found, 10.0) == 1
    assert p_k(truth, found, duration_s) <= 0.02
    uniform = [duration_s * i / 4 for i in (1, 2, 3)]
    assert boundary_f1(truth, uniform, 10.0) == 0
    assert p_k(truth, uniform, duration_s) > 0.2


def test_short_digressions_begin_no_chapter() -> None:
    units = noisy([0] * 30 + [1] * 4 + [0] * 30, noise=0.0)
    assert all(units[place].start_s - 300 in (0, 40) for place in boundaries(units, context_s=40))
    assert boundaries(units[:40], least_s=1000.0) == []


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_units_are_one_chapter(count: int) -> None:
    assert boundaries(noisy([0] * count)) == []


def test_one_subject_without_noise_is_one_chapter() -> None:
    assert boundaries(noisy([0] * 60, noise=0.0)) == []


def test_central_words_are_those_of_the_chapter(speech_encoder: object, model: Model) -> None:
    def said(text: str) -> list[SpokenUnit]:
        words = [Word(word, float(s), s + 1.0) for s, word in enumerate(text.split())]
        vector = np.asarray(model.text_encoder.encode([text], "passage"))[0]
        return [SpokenUnit(0.0, float(len(words)), words, vector)]

    central = central_words(model.query_encoder, [said("the cat the dog dog the tea"), said("sea boat boat the tea")])
    assert [words[0] for words in central] == ["dog", "boat"]
    assert all("the" not in words for words in central)


@pytest.fixture
def index(model: Model, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """A recording of two subjects, with pauses, in windows of 8 s that overlap by 2."""
    monkeypatch.setattr(chapters, "CONTEXT_S", 8.0)
    monkeypatch.setattr(chapters.boundaries, "__defaults__", (8.0, 8.0, 0.0))
    text = "cat dog cat - " * 6 + "sea sun boat - " * 6
    path = speak(tmp_path / "a.wav", text)
    index = Index.create(tmp_path / "index", model, IndexConfig("8/6"))
    index.add([path])
    return index


def test_chapters_of_a_recording_cover_it(index: Index, model: Model, tmp_path: Path) -> None:
    found = find_chapters(index, model.query_encoder, tmp_path / "a.wav")
    assert len(found) == 2
    assert found[0].end_s == found[1].start_s
    assert 23 <= found[0].end_s <= 24
    assert {"cat", "dog"} == set(found[0].words[:2])
    assert set(found[1].words[:3]) == {"sea", "sun", "boat"}
    assert " ".join(chapter.text for chapter in found).split().count("boat") == 6  # each second once


def test_units_are_in_order_each_once(index: Index, tmp_path: Path) -> None:
    units = read_units(index, tmp_path / "a.wav")
    starts_s = [word.start_s for unit in units for word in unit.words]
    assert starts_s == sorted(set(starts_s))
    assert all(np.linalg.norm(unit.vector) == pytest.approx(1, abs=1e-5) for unit in units)


def test_command_prints_chapters(index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["chapters", "--index", str(index.location)]
    assert main([*arguments, str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().out.startswith("00:00-00:2")
    assert main([*arguments, "--json", str(tmp_path / "a.wav")]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert set(first) == {"recording", "start_s", "end_s", "words", "text"}
    assert main([*arguments, str(tmp_path / "none.wav")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_recording_without_an_index_is_recognised(
    index: Index, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chapters", "--model", str(model_folder), "--json", str(tmp_path / "a.wav")]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["start_s"] == 0.0
    assert rows[-1]["end_s"] > 46
