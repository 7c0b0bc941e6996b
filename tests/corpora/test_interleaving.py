"""The benchmark of questions in text, speech and both in turn."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.cli.main import main
from clsr.corpora.config import InterleavingConfig
from clsr.corpora.interleaving import interleave
from clsr.data.kaldi import Utterance, write_data_dir, write_table
from clsr.data.retrieval_set import RetrievalSet, check_retrieval_set, read_retrieval_set, write_retrieval_sets

CONFIG = InterleavingConfig(jobs=1)
needs_espeak = pytest.mark.usefixtures("espeak")


@pytest.fixture
def espeak() -> None:
    pytest.importorskip("espeakng_loader", reason="speech synthesis is an extra")


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    """Three passages of a chapter and one of another, a recorded question about each, of tones."""
    folder = tmp_path / "chapter"
    passages, asked = [], []
    for number, id_ in enumerate(("1-7-0000", "1-7-0001", "1-7-0002", "2-9-0005")):
        for name, of_kind in ((id_, passages), (f"q-{id_}", asked)):
            path = tmp_path / f"{name}.wav"
            write_waveform(path, np.full(SAMPLE_RATE + 160 * number, 0.1, np.float32))
            text = f"passage number {number}" if name == id_ else f"which one is number {number}?"
            of_kind.append(Utterance(name, path, 0.0, 1 + number / 100, text, "tone"))
    questions = {one.id: one.text or "" for one in asked}
    relevance = {id_: {id_.removeprefix("q-"): 1} for id_ in questions}
    write_retrieval_sets([RetrievalSet(folder, passages, questions, asked, relevance, {"q-1-7-0000": "zero"})])
    return folder


def forms(output: Path) -> dict[str, tuple[str, str | None]]:
    rows = map(json.loads, (output / "questions.jsonl").read_text().splitlines())
    return {row["id"]: (row["form"], row["context"]) for row in rows}


def spoken(part: str | Utterance) -> Utterance:
    assert isinstance(part, Utterance)
    return part


def texts_of(parts: Sequence[str | Utterance]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]


@needs_espeak
def test_follow_ups_have_context_in_the_other_modality(chapter: Path, tmp_path: Path) -> None:
    seen = set()
    for seed in range(4):
        output = tmp_path / f"made{seed}"
        made = interleave([chapter], output, replace(CONFIG, chapters=True, seed=seed))
        found = forms(output)
        assert {id_: context for id_, (_, context) in found.items()} == {
            "q-1-7-0000": None, "q-1-7-0001": "1-7-0000", "q-1-7-0002": "1-7-0001", "q-2-9-0005": None
        }  # fmt: skip
        whole = read_retrieval_set(made.sets["iat2a", "clean"].path)
        form, parts = found["q-1-7-0002"][0], whole.question_parts["q-1-7-0002"]
        seen |= {form, found["q-1-7-0001"][0]}
        if form == "spoken context":
            assert spoken(parts[0]).recording == tmp_path / "1-7-0001.wav" and parts[1] == "which one is number 2?"
            assert whole.questions["q-1-7-0002"] == "passage number 1 which one is number 2?"
        else:
            assert parts[0] == "passage number 1" and spoken(parts[1]).recording == tmp_path / "q-1-7-0002.wav"
    assert seen == {"spoken context", "spoken question"}


@needs_espeak
def test_without_chapters_questions_are_cut(chapter: Path, tmp_path: Path) -> None:
    made = interleave([chapter], tmp_path / "made", CONFIG)
    assert set(forms(tmp_path / "made").values()) == {("cut", None)} and made.forms == {"cut": 4}
    whole = read_retrieval_set(made.sets["iat2t", "clean"].path, text_passages=True)
    for id_, parts in whole.question_parts.items():
        is_text = [isinstance(part, str) for part in parts]
        assert 2 <= len(parts) <= 4 and all(a != b for a, b in pairwise(is_text))
        words = " ".join(texts_of(parts)).split()
        asked = whole.questions[id_].split()
        assert asked == f"which one is number {int(id_[-1]) if id_[2] == '1' else 3}?".split()
        assert [word for word in asked if word in words] == words and len(words) < len(asked)


@needs_espeak
def test_each_setting_has_its_two_sides(chapter: Path, tmp_path: Path) -> None:
    made = interleave([chapter], tmp_path / "made", CONFIG)
    assert list(made.sets) == [(setting, "clean") for setting in ("a2t", "t2a", "iat2t", "iat2a")]
    source = read_retrieval_set(chapter)
    for (setting, _), written in made.sets.items():
        assert check_retrieval_set(written.path) == []
        whole = read_retrieval_set(written.path, text_passages=True)
        asked, found = setting.split("2")
        assert whole.has_text_passages == (found == "t") and bool(whole.question_parts) == (asked == "iat")
        assert (whole.question_speech == source.question_speech) if asked == "a" else whole.question_speech is None
        assert found == "t" or whole.passages == source.passages
        assert [(p.id, p.text) for p in whole.passages] == [(p.id, p.text) for p in source.passages]
        assert (whole.questions, whole.relevance) == (source.questions, source.relevance)
        assert whole.answers == {"q-1-7-0000": "zero"}


@needs_espeak
def test_what_has_no_recording_is_spoken(tmp_path: Path) -> None:
    texts = [Utterance("only", Path(), 0.0, 0.0, "the baker sold a horse", "only")]
    source = RetrievalSet(tmp_path / "texts", texts, {"only": "why"}, None, {"only": {"only": 1}})
    write_retrieval_sets([source])
    made = interleave([source.path], tmp_path / "made", CONFIG)
    (passage,) = read_retrieval_set(made.sets["t2a", "clean"].path).passages
    assert passage.text == "the baker sold a horse" and 0.5 < passage.duration_s < 5
    (question,) = read_retrieval_set(made.sets["a2t", "clean"].path, text_passages=True).question_speech or ()
    (part,) = read_retrieval_set(made.sets["iat2t", "clean"].path, text_passages=True).question_parts["only"]
    assert np.array_equal(read_waveform(spoken(part).recording), read_waveform(question.recording))  # a single word


@needs_espeak
def test_environments_change_all_speech_alike(chapter: Path, tone_set: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, media=tone_set / "passages", chapters=True, snr_db=20.0)
    made = interleave([chapter], tmp_path / "made", config)
    assert {environment for _, environment in made.sets} == {"clean", "media"}
    noisy = read_retrieval_set(made.sets["iat2a", "media"].path)
    for passage in noisy.passages:
        clean, heard = read_waveform(tmp_path / f"{passage.id}.wav"), read_waveform(passage.recording)
        assert len(clean) == len(heard)
        assert np.mean(clean**2) / np.mean((heard - clean) ** 2) == pytest.approx(100, rel=0.02)
    assert noisy.passages == read_retrieval_set(made.sets["t2a", "media"].path).passages
    by_id = {passage.id: passage for passage in noisy.passages}
    for id_, (form, context) in forms(tmp_path / "made").items():
        if form == "spoken context":
            assert spoken(noisy.question_parts[id_][0]).recording == by_id[context or ""].recording
    again = interleave([chapter], tmp_path / "made", config)  # resumes
    assert again.sets == made.sets


@needs_espeak
def test_the_same_seed_makes_the_same_benchmark(chapter: Path, tmp_path: Path) -> None:
    def words_of(name: str, seed: int) -> list[list[str]]:
        made = interleave([chapter], tmp_path / name, replace(CONFIG, seed=seed))
        return [texts_of(parts) for parts in made.sets["iat2t", "clean"].question_parts.values()]

    assert words_of("a", 0) == words_of("b", 0) != words_of("c", 1)


@needs_espeak
def test_distractors_answer_no_question(chapter: Path, tone_set: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, distractors=(tone_set, tmp_path / "data"))
    write_data_dir(tmp_path / "data", [Utterance("d", tmp_path / "1-7-0000.wav", 0.0, 1.0, "another one", "d")])
    made = interleave([chapter], tmp_path / "made", config)
    for whole in made.sets.values():
        assert {passage.id for passage in whole.passages} - {p.removeprefix("q-") for p in whole.questions} == {
            "p-a", "p-b", "p-c", "d"
        }  # fmt: skip


@needs_espeak
def test_han_characters_are_cut_as_words(chapter: Path, tmp_path: Path) -> None:
    write_table(chapter / "questions" / "text", ((id_, "北京在哪里") for id_ in read_retrieval_set(chapter).questions))
    for file in (chapter / "questions").iterdir():
        if file.name != "text":
            file.unlink()
    made = interleave([chapter], tmp_path / "made", replace(CONFIG, voices=("cmn",)))
    whole = made.sets["iat2t", "clean"]
    assert set(whole.questions.values()) == {"北京在哪里"}
    assert all(len(parts) > 1 for parts in whole.question_parts.values())


@needs_espeak
def test_a_text_like_a_path_stays_text(chapter: Path, tmp_path: Path) -> None:
    whole = read_retrieval_set(chapter)
    texts = {passage.id: f"look at {number}.wav" for number, passage in enumerate(whole.passages)}
    write_table(chapter / "passages" / "text", texts.items())
    first = set()
    for seed in range(4):
        output = tmp_path / f"made{seed}"
        made = interleave([chapter], output, replace(CONFIG, chapters=True, seed=seed))
        parts = read_retrieval_set(made.sets["iat2a", "clean"].path).question_parts
        first |= {parts[id_][0] for id_, (form, _) in forms(output).items() if form == "spoken question"}
    assert first == {"look at 0.wav."}  # with a full stop it is no path


def test_bad_input_is_named(chapter: Path, tone_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str | Path) -> str:
        assert main(["data", "interleave", *map(str, arguments)]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    made = ("--output", tmp_path / "made")
    assert "passage 1-7-0000 is in another set too; make ids unique" in refused(chapter, chapter, *made)
    assert "passage p-a is in another set too" in refused(tone_set, "--distractors", tone_set, *made)
    assert "is no retrieval set" in refused(tmp_path, *made)
    assert "is no ratio" in refused(chapter, *made, "--snr-db", "nan")
    assert "holds something else; name a new folder" in refused(tone_set, "--output", chapter)
    (tone_set / "passages" / "text").unlink()
    assert "p-a has no text" in refused(chapter, "--distractors", tone_set / "passages", *made)
    assert "no such file or folder" in refused(chapter, *made, "--media", tmp_path / "nowhere")
    assert not (tmp_path / "made" / "iat2t").exists()
    (tmp_path / "made" / "interleaving.json").write_text("{}")
    assert "made from other rows or settings" in refused(chapter, *made)
