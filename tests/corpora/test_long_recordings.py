"""Tests of clsr/corpora/long_recordings.py: passages lie in the recordings where the set says."""

import json
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, duration_s, read_waveform, write_waveform
from clsr.cli.main import main
from clsr.corpora.long_recordings import find_answer, lengthen, read_long_form
from clsr.data.kaldi import Utterance, write_data_dir, write_table
from clsr.data.retrieval_set import write_relevance
from clsr.errors import InputError

WORDS = ["red", "green", "blue", "white", "black", "brown"]


@pytest.fixture
def noises(tmp_path: Path) -> Path:
    """Retrieval set of six passages of noise, 1.0 to 1.5 s, the first two of them in one file; two spoken questions."""
    folder = tmp_path / "noises"
    (folder / "passages").mkdir(parents=True)
    (folder / "questions").mkdir()
    generator = np.random.default_rng(0)
    lengths = [1.0 + number / 10 for number in range(6)]
    for number in (1, 2, 3, 4, 5):
        samples = round((lengths[0] + lengths[1] if number == 1 else lengths[number]) * SAMPLE_RATE)
        write_waveform(folder / "passages" / f"{number}.wav", generator.uniform(-0.5, 0.5, samples))
    spans = [("1", 0.0, 1.0), ("1", 1.0, 2.1), *((str(n), 0.0, lengths[n]) for n in range(2, 6))]
    passages = [
        Utterance(f"p{n}", folder / "passages" / f"{file}.wav", start_s, end_s, f"a {word} noise", "ann")
        for n, (word, (file, start_s, end_s)) in enumerate(zip(WORDS, spans, strict=True))
    ]
    write_data_dir(folder / "passages", passages)
    write_waveform(folder / "questions" / "q.wav", generator.uniform(-0.5, 0.5, SAMPLE_RATE))
    halves = [(0.0, 0.5), (0.5, 1.0)]
    utterances = [
        Utterance(f"q{n}", folder / "questions" / "q.wav", *half, f"which noise is {n}", "bob")
        for n, half in zip((1, 4), halves, strict=True)
    ]
    write_data_dir(folder / "questions", utterances)
    write_table(folder / "questions" / "answers", [("q1", "Green!")])
    write_relevance(folder / "qrels", {"q1": {"p0": 1, "p1": 2, "p2": 2}, "q4": {"p4": 1}})
    return folder


def test_passages_are_cut_out_as_they_went_in(noises: Path, tmp_path: Path) -> None:
    lengthen(noises, tmp_path / "long", minutes=3 / 60)
    first, second = read_long_form(tmp_path / "long")
    sources = {"q1": ("1.wav", 1.0, 2.1), "q4": ("4.wav", 0.0, 1.4)}
    for question in (first, second):
        file, *span = sources[question.id]
        there = read_waveform(question.recording, *question.passage_span)
        assert np.array_equal(there, read_waveform(noises / "passages" / file, *span))
    assert [question.passage for question in (first, second)] == ["p1", "p4"]  # the most relevant, the first of two
    assert first.audio is not None and second.text == "which noise is 4"
    assert np.array_equal(read_waveform(first.audio), read_waveform(noises / "questions" / "q.wav", 0.0, 0.5))
    start_s, end_s = first.passage_span
    assert first.answer == "Green!" and first.answer_span is not None
    assert first.answer_span[0] == pytest.approx(start_s + 2 / 13 * (end_s - start_s))  # "a green noise"
    assert first.answer_span[1] == pytest.approx(start_s + 7 / 13 * (end_s - start_s))
    assert second.answer is None and second.answer_span is None


def test_recordings_have_their_length_and_hold_everything(noises: Path, tmp_path: Path) -> None:
    lengthen(noises, tmp_path / "long", minutes=3 / 60)
    lengths = [duration_s(path) for path in sorted((tmp_path / "long" / "recordings").iterdir())]
    assert len(lengths) == 2 and min(lengths) >= 3.0
    speech_s, gaps = 7.5, 6 - len(lengths)
    assert speech_s + 0.2 * gaps <= sum(lengths) <= speech_s + 0.8 * gaps
    lengthen(noises, tmp_path / "long", minutes=7 / 60)  # over the other: nothing of it stays
    assert [path.name for path in (tmp_path / "long" / "recordings").iterdir()] == ["r000.wav"]


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    """Retrieval set of five passages of noise of a second, of two short chapters and a longer one; two questions."""
    folder = tmp_path / "readings"
    generator = np.random.default_rng(0)
    passages = []
    for id_ in ("1-1-0", "2-1-0", "2-1-1", "3-1-0", "3-1-1"):
        (folder / "passages").mkdir(parents=True, exist_ok=True)
        write_waveform(folder / "passages" / f"{id_}.wav", generator.uniform(-0.5, 0.5, SAMPLE_RATE))
        passages.append(Utterance(id_, folder / "passages" / f"{id_}.wav", 0.0, 1.0, "a noise", "ann"))
    write_data_dir(folder / "passages", passages)
    (folder / "questions").mkdir()
    write_table(folder / "questions" / "text", [("q1", "which one"), ("q2", "and which")])
    write_relevance(folder / "qrels", {"q1": {"2-1-1": 1}, "q2": {"3-1-0": 1}})
    return folder


def test_chapters_are_read_on_without_silence(readings: Path, tmp_path: Path) -> None:
    first, second = lengthen(readings, tmp_path / "long", minutes=2 / 60, chapters=True)
    files = sorted((tmp_path / "long" / "recordings").iterdir())
    assert [duration_s(file) for file in files] == [2.0, 2.0, 1.0]  # 2-1, 3-1, and 1-1, which is left over
    assert (first.recording.name, first.passage_span) == ("r000.wav", (1.0, 2.0))
    assert (second.recording.name, second.passage_span) == ("r001.wav", (0.0, 1.0))


def test_articles_are_joined_by_number(readings: Path, tmp_path: Path) -> None:
    numbered = {
        "1-1-0": "Oak_10",
        "2-1-0": "Oak_9",
        "2-1-1": "Harp_(music)_2",
        "3-1-0": "Harp_(music)_1",
        "3-1-1": "Elm",
    }
    for file in [*readings.glob("passages/*"), readings / "qrels"]:
        if file.suffix != ".wav" and file.name != "spk2utt":
            lines = [
                " ".join(numbered.get(word, word) for word in line.split()) for line in file.read_text().splitlines()
            ]
            file.write_text("".join(f"{line}\n" for line in sorted(lines)))
    (readings / "questions" / "answer_spans").write_text("q1 Harp_(music)_2 0.25 0.5\n")
    harp, other = lengthen(readings, tmp_path / "long", minutes=2 / 60, chapters=True)
    assert harp.passage_span == (1.0, 2.0) and other.passage_span == (0.0, 1.0)  # 2 stands behind 1, 10 behind 9
    assert harp.answer_span == (1.25, 1.5) and other.answer_span is None


def test_short_chapters_are_joined(readings: Path, tmp_path: Path) -> None:
    main(["data", "lengthen", "--set", str(readings), "--output", str(tmp_path / "long"), "--minutes", str(2.5 / 60),
          "--chapters"])  # fmt: skip
    lengths = [duration_s(file) for file in sorted((tmp_path / "long" / "recordings").iterdir())]
    assert lengths == [3.0, 2.0]  # 1-1 with 2-1, and 3-1


def test_seed_decides(noises: Path, tmp_path: Path) -> None:
    def made(name: str, seed: int) -> dict[str, bytes]:
        lengthen(noises, tmp_path / name, 2 / 60, seed)
        return {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}

    assert made("a", 0) == made("b", 0) != made("c", 1)


def test_an_answer_is_found_word_by_word() -> None:
    assert find_answer("an artist sold art", "art", (0.0, 18.0)) == (15.0, 18.0)
    assert find_answer("an artist", "art", (0.0, 9.0)) is None
    assert find_answer("anything", "?!", (0.0, 8.0)) is None
    assert find_answer("他在山上找到一座廟", "山上", (0.0, 9.0)) == (2.0, 4.0)


def test_too_little_speech_is_one_line(noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "lengthen", "--set", str(noises), "--output", str(tmp_path / "long")]) == 2
    error = capsys.readouterr().err
    assert "holds 0.125 minutes, 30 are asked for" in error and error.count("\n") == 1
    assert not (tmp_path / "long").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"question": ""}, "question is no text"),
        ({"start_s": 5.0, "end_s": 4.0}, "5.0 to 4.0 s is no span"),
        ({"recording": "gone.wav"}, "q1: no such audio file"),
        ({"answer": 7}, "answer or question_audio is no text"),
        ({"id": "q4"}, "q4: is there twice"),
        ({"answer_end_s": None}, "is no question of a long-form set"),
    ],
)
def test_damaged_sets_are_refused(noises: Path, tmp_path: Path, change: dict[str, object], what: str) -> None:
    lengthen(noises, tmp_path / "long", minutes=3 / 60)
    file = tmp_path / "long" / "questions.jsonl"
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([*rest, json.dumps(json.loads(first) | change)]) + "\n")
    with pytest.raises(InputError, match=what) as refused:
        read_long_form(tmp_path / "long")
    assert str(refused.value).startswith(f"{file}:2: ")


def test_other_folders_are_no_long_form_sets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="questions.jsonl: no such file"):
        read_long_form(tmp_path)
