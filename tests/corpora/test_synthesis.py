"""Tests of clsr/corpora/synthesis.py with a few short sentences."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.corpora.config import SynthesisConfig
from clsr.corpora.synthesis import Synthesizer, read_rows, synthesize, synthesize_recording
from clsr.data.kaldi import check_data_dir, read_data_dir
from clsr.data.retrieval_set import check_retrieval_set, is_retrieval_set, read_retrieval_set
from clsr.errors import InputError

pytest.importorskip("espeakng_loader", reason="speech synthesis is an extra")

ROWS = [
    {"id": "r1", "question": "Who sold a horse?", "context": "The baker sold a horse."},
    {"id": "r2", "question": "What did  the nurse find?", "context": "The nurse found a ring, in Rome!"},
    {"id": "r3", "question": "When did it rain?", "context": "It rained on Monday."},
]
CONFIG = SynthesisConfig(voices=["en-us+f2", "en-us+m3", "en-gb-x-rp+m1"], jobs=1)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", ROWS)


def waves(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "wav").iterdir())}


def test_synthesis_has_no_memory() -> None:
    synthesizer = Synthesizer()
    first = synthesizer.say("The baker sold a horse.", "en-us+f2")
    synthesizer.say("Something else.", "en-gb-x-rp+m3", 200, 70)
    assert np.array_equal(synthesizer.say("The baker sold a horse.", "en-us+f2"), first)


def test_speech_is_16_khz_and_follows_the_rate() -> None:
    synthesizer = Synthesizer()
    slow, fast = (synthesizer.say("one two three four five six", "en-us", rate) for rate in (100, 200))
    assert slow.dtype == np.float32 and 0.1 < np.abs(slow).max() <= 1.0
    assert 1.5 < len(slow) / len(fast) < 2.5
    assert 6 * 60 / 100 * 0.6 < len(slow) / SAMPLE_RATE < 6 * 60 / 100 * 1.4  # six words at 100 a minute


def test_pitch_moves_the_fundamental() -> None:
    def period_samples(pitch: int) -> int:
        vowel = Synthesizer().say("aaaa", "en-us", 80, pitch)
        middle = vowel[len(vowel) // 2 :][: SAMPLE_RATE // 10]
        return 40 + int(np.argmax(np.correlate(middle, middle, "full")[len(middle) - 1 + 40 :]))

    assert period_samples(10) > period_samples(50) > period_samples(90)


@pytest.mark.parametrize("voice", ["xx", "en-us+nobody", "en-gb", "", "en-us+../en"])
def test_unknown_voice_or_variant_is_refused(voice: str) -> None:
    with pytest.raises(InputError, match="no such voice"):
        Synthesizer().say("hello", voice)


def test_unknown_voice_leaves_nothing_behind(jsonl: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="en-us\\+nobody: espeak-ng has no such voice"):
        synthesize(jsonl, tmp_path / "set", replace(CONFIG, voices=["en-us", "en-us+nobody"]))
    assert not (tmp_path / "set").exists()


def test_words_that_cannot_be_spoken_are_refused() -> None:
    with pytest.raises(InputError, match="says nothing"):
        Synthesizer().say(" ", "en-us")


def test_retrieval_set_is_sound_and_one_to_one(jsonl: Path, tmp_path: Path) -> None:
    synthesize(jsonl, tmp_path / "set", CONFIG)
    assert check_retrieval_set(tmp_path / "set") == []
    read = read_retrieval_set(tmp_path / "set")
    assert [passage.text for passage in read.passages] == [
        "the baker sold a horse",
        "the nurse found a ring in rome",
        "it rained on monday",
    ]
    assert read.questions["r2"] == "What did the nurse find?"
    assert read.relevance == {"r1": {"r1": 1}, "r2": {"r2": 1}, "r3": {"r3": 1}}
    assert read.question_speech is None
    for passage in read.passages:
        assert passage.speaker in CONFIG.voices
        assert passage.duration_s == pytest.approx(len(read_waveform(passage.recording)) / SAMPLE_RATE, abs=1e-4)


def test_answers_stand_beside_the_questions_that_have_one(tmp_path: Path) -> None:
    answers: list[Any] = [" the  baker", None, ""]
    rows = [{**row, "answer": answer} for row, answer in zip(ROWS, answers, strict=True)]
    synthesize(write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "set", CONFIG)
    assert (tmp_path / "set" / "questions" / "answers").read_text() == "r1 the baker\n"
    assert read_retrieval_set(tmp_path / "set").answers == {"r1": "the baker"}
    assert check_retrieval_set(tmp_path / "set") == []
    with pytest.raises(InputError, match=r"rows.jsonl:1: r1: answer is no text"):
        read_rows(write_rows(tmp_path / "rows.jsonl", [{**ROWS[0], "answer": ["the baker"]}]), CONFIG)


def test_choice_depends_on_seed_and_id_alone(jsonl: Path, tmp_path: Path) -> None:
    synthesize(jsonl, tmp_path / "a", CONFIG)
    reordered = write_rows(tmp_path / "fewer.jsonl", [ROWS[2], ROWS[0]])
    synthesize(reordered, tmp_path / "b", replace(CONFIG, jobs=2))
    first, second = waves(tmp_path / "a" / "passages"), waves(tmp_path / "b" / "passages")
    assert second == {name: first[name] for name in ("r1.wav", "r3.wav")}
    many = write_rows(tmp_path / "many.jsonl", [{**ROWS[2], "id": f"x{number}"} for number in range(20)])
    speakers = []
    for seed in (0, 1):
        synthesize(many, tmp_path / f"seed{seed}", replace(CONFIG, seed=seed))
        speakers.append([passage.speaker for passage in read_data_dir(tmp_path / f"seed{seed}" / "passages")])
    assert speakers[0] != speakers[1] and set(speakers[0]) == set(CONFIG.voices)


def test_finished_files_are_kept_and_missing_ones_made(jsonl: Path, tmp_path: Path) -> None:
    synthesize(jsonl, tmp_path / "set", CONFIG)
    wav = tmp_path / "set" / "passages" / "wav"
    whole = waves(tmp_path / "set" / "passages")
    kept = (wav / "r1.wav").stat().st_mtime_ns
    (wav / "r2.wav").unlink()
    (wav / ".r2.wav.123.tmp").write_bytes(b"half")
    synthesize(jsonl, tmp_path / "set", CONFIG)
    assert waves(tmp_path / "set" / "passages") == whole
    assert (wav / "r1.wav").stat().st_mtime_ns == kept


def test_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "id": f"x{number:03d}", "context": "The baker sold a horse in Rome."} for number in range(150)]
    jsonl, output = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "set"
    code = "import sys; from clsr.corpora.synthesis import *; synthesize(*sys.argv[1:], SynthesisConfig(jobs=1))"
    run = subprocess.Popen([sys.executable, "-c", code, str(jsonl), str(output)])
    deadline = time.monotonic() + 30
    while len(list(output.glob("passages/wav/*.wav"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    done = list((output / "passages" / "wav").glob("*.wav"))
    assert 5 <= len(done) < 150
    assert all(len(read_waveform(path)) > SAMPLE_RATE for path in done)
    assert not (output / "qrels").exists()
    synthesize(jsonl, output, SynthesisConfig())
    assert check_retrieval_set(output) == []


def test_other_rows_or_settings_are_kept_out(jsonl: Path, tmp_path: Path) -> None:
    synthesize(jsonl, tmp_path / "set", CONFIG)
    with pytest.raises(InputError, match="holds speech made from other rows or settings"):
        synthesize(jsonl, tmp_path / "set", replace(CONFIG, seed=1))
    write_rows(jsonl, ROWS[:2])
    with pytest.raises(InputError, match="holds speech made from other rows or settings"):
        synthesize(jsonl, tmp_path / "set", CONFIG)


def test_noise_has_the_requested_ratio(jsonl: Path, tmp_path: Path) -> None:
    synthesize(jsonl, tmp_path / "clean", CONFIG)
    synthesize(jsonl, tmp_path / "noisy", replace(CONFIG, noise_snr_db=10.0))
    for id_ in ("r1", "r2", "r3"):
        clean, noisy = (
            read_waveform(tmp_path / name / "passages" / "wav" / f"{id_}.wav") for name in ("clean", "noisy")
        )
        scale = np.dot(noisy, clean) / np.dot(clean, clean)  # below 1 where the mixture would have clipped
        ratio_db = 10 * np.log10(np.mean((scale * clean) ** 2) / np.mean((noisy - scale * clean) ** 2))
        assert ratio_db == pytest.approx(10.0, abs=0.1)


def test_several_voices_a_text(jsonl: Path, tmp_path: Path) -> None:
    synthesize(jsonl, tmp_path / "set", replace(CONFIG, voices_per_text=2))
    read = read_retrieval_set(tmp_path / "set")
    assert [passage.id for passage in read.passages] == ["r1-v0", "r1-v1", "r2-v0", "r2-v1", "r3-v0", "r3-v1"]
    assert read.passages[0].speaker != read.passages[1].speaker
    assert read.relevance["r1"] == {"r1-v0": 1, "r1-v1": 1}
    assert check_retrieval_set(tmp_path / "set") == []


def test_passages_that_answer_no_question(jsonl: Path, tmp_path: Path) -> None:
    rows = [{"id": "o1", "context": "Nobody asks."}, {"id": "o2", "question": "", "context": "Nor here."}]
    others = write_rows(tmp_path / "others.jsonl", rows)
    synthesize(jsonl, tmp_path / "set", CONFIG, others)
    read = read_retrieval_set(tmp_path / "set")
    assert [passage.id for passage in read.passages] == ["o1", "o2", "r1", "r2", "r3"]
    assert read.passages[0].text == "nobody asks"
    assert (
        read.relevance == {id_: {id_: 1} for id_ in ("r1", "r2", "r3")} and check_retrieval_set(tmp_path / "set") == []
    )
    with pytest.raises(InputError, match="holds speech made from other rows"):
        synthesize(jsonl, tmp_path / "set", CONFIG)
    write_rows(others, [*rows, {"id": "r2", "context": "Again."}])
    with pytest.raises(InputError, match=r"others\.jsonl: r2: is in .*rows\.jsonl too"):
        synthesize(jsonl, tmp_path / "other", CONFIG, others)
    assert not (tmp_path / "other").exists()


def test_spoken_questions(jsonl: Path, tmp_path: Path) -> None:
    synthesize(jsonl, tmp_path / "set", replace(CONFIG, speak_questions=True))
    speech = read_retrieval_set(tmp_path / "set").question_speech
    assert speech is not None and [question.id for question in speech] == ["r1", "r2", "r3"]
    assert check_retrieval_set(tmp_path / "set") == []


def test_passages_only_is_a_data_directory(tmp_path: Path) -> None:
    jsonl = write_rows(
        tmp_path / "rows.jsonl", [{"id": "a", "question": "", "context": "One."}, {"id": "b", "context": "Two."}]
    )
    with pytest.raises(InputError, match=r"rows\.jsonl:1: a: question is missing or empty"):
        synthesize(jsonl, tmp_path / "set", CONFIG)
    synthesize(jsonl, tmp_path / "set", replace(CONFIG, passages_only=True))
    assert check_data_dir(tmp_path / "set") == [] and not is_retrieval_set(tmp_path / "set")
    assert [utterance.text for utterance in read_data_dir(tmp_path / "set")] == ["one", "two"]


def test_recording_holds_each_context_where_the_list_says(jsonl: Path, tmp_path: Path) -> None:
    synthesize_recording(jsonl, tmp_path / "long.wav", CONFIG, gap_s=0.25)
    synthesize(jsonl, tmp_path / "set", CONFIG)
    places = json.loads((tmp_path / "long.json").read_text())
    assert [{key: place[key] for key in ("id", "context")} for place in places] == [
        {"id": row["id"], "context": row["context"]} for row in ROWS
    ]
    whole = read_waveform(tmp_path / "long.wav")
    for place in places:
        spoken = read_waveform(tmp_path / "set" / "passages" / "wav" / f"{place['id']}.wav")
        assert np.array_equal(read_waveform(tmp_path / "long.wav", place["start_s"], place["end_s"]), spoken)
    assert places[0]["start_s"] == 0 and places[-1]["end_s"] == len(whole) / SAMPLE_RATE
    assert places[1]["start_s"] - places[0]["end_s"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ("", "is not JSON"),
        ('{"question": "Why?", "context": "One."}', "None: id is missing or empty"),
        ('{"id": "r1", "question": "Why?", "context": "One."}', "r1: is there twice"),
        ('{"id": "r9", "context": "One."}', "r9: question is missing or empty"),
        ('{"id": "r9", "question": "Why?", "context": " "}', "r9: context is missing or empty"),
        ('{"id": "r9", "question": "Why?", "context": 3}', "r9: context is missing or empty"),
        ('{"id": "r9", "question": "Why?", "context": "?!"}', "r9: context has no words"),
        ('{"id": "r9", "question": "Why?", "context": "One \\ud800."}', "has half a character"),
        ('{"id": "../r9", "question": "Why?", "context": "One."}', "is one word without"),
        ('{"id": "r 9", "question": "Why?", "context": "One."}', "is one word without"),
    ],
)
def test_faulty_row_is_named_and_nothing_written(jsonl: Path, tmp_path: Path, line: str, what: str) -> None:
    jsonl.write_text(f"{jsonl.read_text()}{line}\n")
    with pytest.raises(InputError) as refused:
        synthesize(jsonl, tmp_path / "set", CONFIG)
    assert str(refused.value).startswith(f"{jsonl}:4: ") and what in str(refused.value)
    assert not (tmp_path / "set").exists()


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_rows(tmp_path / "gone.jsonl", CONFIG)
    with pytest.raises(InputError, match="is empty"):
        read_rows(write_rows(tmp_path / "rows.jsonl", []), CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"rate_wpm": (200, 100)},
        {"rate_wpm": (10, 100)},
        {"pitch": (0, 100)},
        {"voices": []},
        {"voices": ["en-us", "en-us"]},
        {"voices_per_text": 4},
        {"voices_per_text": 0},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(CONFIG, **change)
