"""Windows that follow the speech: the plan worked out by hand, its invariants, and silero-vad on sound of all kinds."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio import voice_activity
from clsr.audio.pauses import Span
from clsr.audio.voice_activity import FRAME_SAMPLES, RUN_SAMPLES, SpeechCutter, SpeechDetector
from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.corpora.synthesis import Synthesizer
from clsr.errors import InputError

MARGIN = 3_200  # samples, 0.2 s


def loudness(run: np.ndarray) -> np.ndarray:
    """Judge of recordings whose samples are the probabilities."""
    return run.reshape(-1, FRAME_SAMPLES)[:, 0]


def recording(*parts: tuple[int, float]) -> np.ndarray:
    """So many frames of each probability."""
    return np.repeat([p for frames, p in parts for _ in range(frames)], FRAME_SAMPLES).astype(np.float32)


def cut(waveform: np.ndarray, length_s: float, judge: Callable[[np.ndarray], np.ndarray] | None = None) -> list[Span]:
    cutter = SpeechCutter(length_s, judge)
    return cutter.feed(waveform) + cutter.finish()


def plan(waveform: np.ndarray, length_s: float) -> list[tuple[int, int]]:
    """Windows in samples, of a recording whose samples are the probabilities."""
    return [(round(s * SAMPLE_RATE), round(e * SAMPLE_RATE)) for s, e in cut(waveform, length_s, loudness)]


def test_speech_gets_a_margin() -> None:
    """Frames 100 to 199 are 3.2 to 6.4 s."""
    assert cut(recording((100, 0), (100, 1), (200, 0)), 40, loudness) == [(3.0, 6.6)]


def test_the_margin_ends_with_the_recording() -> None:
    assert plan(recording((5, 1), (3, 0))[:-100], 40) == [(0, 8 * 512 - 100)]


def test_a_pause_of_three_seconds_ends_a_window() -> None:
    """93 frames are 2.976 s, 94 are 3.008 s."""
    assert plan(recording((10, 1), (93, 0), (10, 1)), 40) == [(0, 113 * 512)]
    assert plan(recording((10, 1), (94, 0), (10, 1)), 40) == [(0, 10 * 512 + MARGIN), (104 * 512 - MARGIN, 114 * 512)]


def test_a_window_is_final_after_three_seconds_pause() -> None:
    cutter = SpeechCutter(40, loudness)
    assert cutter.feed(recording((10, 1), (86, 0))) == []  # judged to frame 95, and 10 + 94 are needed
    assert cutter.needed_from_s == 0.0
    assert cutter.feed(recording((32, 0))) == [(0.0, 0.52)]
    assert cutter.needed_from_s == (128 * 512 - MARGIN) / SAMPLE_RATE  # speech can begin with the next frame
    assert cutter.finish() == []


def test_a_long_window_ends_at_its_last_pause() -> None:
    """100 frames fit. Speech reaches the margin at frame 94; the pause of frames 50 to 59 is shorter than two margins,
    so that the windows meet in its middle."""
    parts = (20, 1), (20, 0), (10, 1), (10, 0), (81, 1)
    assert plan(recording(*parts), 3.2) == [(0, 55 * 512), (55 * 512, 141 * 512)]


def test_windows_keep_their_margins_in_a_long_pause() -> None:
    windows = plan(recording((50, 1), (20, 0), (70, 1)), 3.2)
    assert windows == [(0, 50 * 512 + MARGIN), (70 * 512 - MARGIN, 140 * 512)]


@pytest.mark.parametrize(
    ("pauses", "border"),
    [
        ((60, 10, 8), 157 * 512),  # the longest lies before the last quarter, which starts at frame 150
        ((10, 8, 10), 180 * 512),  # frames 175 to 184
        ((10, 9, 9), 179 * 512 + 256),  # the later of two equal ones, frames 175 to 183
    ],
)
def test_the_longest_late_pause_is_cut(pauses: tuple[int, int, int], border: int) -> None:
    """200 frames are a window; the second pause starts at frame 152, the third at 175."""
    speech = (20, 152 - 20 - pauses[0], 175 - 152 - pauses[1])
    parts = [part for frames in zip(speech, pauses) for part in zip(frames, (1, 0))]
    windows = plan(recording(*parts, (60, 1)), 6.4)
    assert windows[0][1] == windows[1][0] == border


def test_speech_without_pause_is_cut_where_least_likely() -> None:
    """Of a window of 100 frames the last quarter starts at 75: frame 74 is too early, and frame 80 is cut amid."""
    speech = recording((74, 0.9), (1, 0.36), (5, 0.9), (1, 0.6), (50, 0.9), (1, 0.4), (10, 0.9))
    assert plan(speech, 3.2) == [(0, 80 * 512 + 256), (80 * 512 + 256, 142 * 512)]


def test_ties_are_cut_at_the_last_frame() -> None:
    """Frame 93, the 94th, leaves no room for a margin. What is left of it is speech, however short."""
    border = 93 * 512 + 256
    assert plan(recording((94, 1), (200, 0)), 3.2) == [(0, border), (border, 94 * 512 + MARGIN)]


def test_a_gap_shorter_than_a_pause_is_speech() -> None:
    """Six frames, 0.19 s: a cut goes through them as through speech, at the last of them."""
    assert plan(recording((80, 1), (6, 0), (60, 1)), 3.2)[0] == (0, 85 * 512 + 256)


@pytest.mark.parametrize("place", [0, 40, 196])
def test_a_click_is_no_speech(place: int) -> None:
    assert plan(recording((place, 0), (3, 1), (197 - place, 0)), 40) == []
    assert len(plan(recording((place, 0), (4, 1), (196 - place, 0)), 40)) == 1


def test_a_click_beside_speech_moves_no_border() -> None:
    speech = recording((100, 0), (3, 1), (20, 0), (50, 1), (20, 0), (3, 1), (100, 0))
    assert plan(speech, 40) == [(123 * 512 - MARGIN, 173 * 512 + MARGIN)]


def test_doubtful_frames_go_on_as_they_were() -> None:
    windows = plan(recording((50, 0.45), (10, 0.5), (50, 0.36), (50, 0.34)), 40)
    assert windows == [(50 * 512 - MARGIN, 110 * 512 + MARGIN)]


def test_what_follows_the_end_is_silence() -> None:
    runs = []
    cutter = SpeechCutter(40, lambda run: runs.append(run.copy()) or loudness(run))
    cutter.feed(np.ones(RUN_SAMPLES + 700, np.float32))
    cutter.finish()
    assert [run.sum() for run in runs] == [RUN_SAMPLES, 700]


@pytest.mark.parametrize("waveform", [np.zeros(0), np.zeros(1), np.zeros(SAMPLE_RATE)])
def test_there_is_no_window_where_nobody_speaks(waveform: np.ndarray) -> None:
    assert cut(waveform.astype(np.float32), 40) == []


@pytest.mark.parametrize("length_s", [0.99, -1.0, float("nan")])
def test_windows_too_short_for_a_word_are_refused(length_s: float) -> None:
    with pytest.raises(InputError, match="cannot follow speech; give 1 s or more"):
        SpeechCutter(length_s, loudness)


def made_up(generator: np.random.Generator, frames: int) -> np.ndarray:
    """A recording with clicks, words, pauses short and long, and doubt, in some order; its last frame is cut off."""
    parts = []
    while sum(n for n, _ in parts) < frames:
        longest = int(generator.choice([5, 12, 120, 400]))
        level = generator.choice([0.0, 0.3, 0.4, 0.5, 0.9])
        parts += [(int(generator.integers(1, longest)), level)]
    noise = np.repeat(generator.uniform(-0.1, 0.1, sum(n for n, _ in parts)), FRAME_SAMPLES)
    return (recording(*parts) + noise).astype(np.float32)[
        : frames * FRAME_SAMPLES - int(generator.integers(FRAME_SAMPLES))
    ]


def feed_in_blocks(
    waveform: np.ndarray, blocks: Sequence[int], cutter: SpeechCutter
) -> Iterator[tuple[int, float, list[Span]]]:
    """After each block: samples fed, needed_from_s before it, and the windows it settles; the last is the finish."""
    start = 0
    for block in blocks:
        needed_from_s = cutter.needed_from_s
        start += block
        yield start, needed_from_s, cutter.feed(waveform[start - block : start])
    needed_from_s = cutter.needed_from_s
    yield start, needed_from_s, cutter.finish()


def random_blocks(generator: np.random.Generator, samples: int, longest: int) -> list[int]:
    edges = np.cumsum(generator.integers(0, longest, 2 * samples // longest + 100))
    edges = [0, *edges[edges < samples].tolist(), samples]
    return [end - start for start, end in pairwise(edges)]


def test_blocks_change_nothing() -> None:
    generator = np.random.default_rng(0)
    for longest in (200, 3_000, 40_000, 500_000):
        waveform = made_up(generator, 1_000)
        blocks = random_blocks(generator, len(waveform), longest)
        fed = feed_in_blocks(waveform, blocks, SpeechCutter(4.0, loudness))
        assert [window for *_, windows in fed for window in windows] == cut(waveform, 4.0, loudness) != []


def test_blocks_of_one_sample() -> None:
    waveform = made_up(np.random.default_rng(1), 150)
    fed = feed_in_blocks(waveform, [1] * len(waveform), SpeechCutter(1.5, loudness))
    assert [window for *_, windows in fed for window in windows] == cut(waveform, 1.5, loudness) != []


def speech_frames(probabilities: np.ndarray) -> np.ndarray:
    """What counts as speech, found the slow way: doubt resolved, gaps bridged, then clicks left out."""
    speaking = np.zeros(len(probabilities), bool)
    for i, p in enumerate(probabilities):
        speaking[i] = p >= 0.5 or (p >= 0.35 and i > 0 and speaking[i - 1])
    for least, kind in ((7, False), (4, True)):
        edges = [0, *(np.flatnonzero(np.diff(speaking)) + 1).tolist(), len(speaking)]
        for start, end in pairwise(edges):
            inside = kind or (start > 0 and end < len(speaking))  # gaps are between speech
            if speaking[start] == kind and end - start < least and inside:
                speaking[start:end] = not kind
    return speaking


@pytest.mark.parametrize("seed", range(60))
def test_windows_hold_the_speech_and_little_else(seed: int) -> None:
    generator = np.random.default_rng(seed)
    length_s = float(generator.choice([1.0, 1.7, 4.0, 10.0, 40.0]))
    waveform = made_up(generator, 3_000)
    windows = []
    blocks = random_blocks(generator, len(waveform), 30_000)
    for samples, needed_from_s, settled in feed_in_blocks(waveform, blocks, cutter := SpeechCutter(length_s, loudness)):
        assert all(start_s >= needed_from_s for start_s, _ in settled)
        assert samples / SAMPLE_RATE - length_s - 5 <= cutter.needed_from_s >= needed_from_s
        windows += settled
    assert all(0 <= s < e <= len(waveform) / SAMPLE_RATE and e - s <= length_s for s, e in windows)
    assert all(one[1] <= other[0] for one, other in pairwise(windows))
    assert all(round(edge * SAMPLE_RATE) / SAMPLE_RATE == edge for window in windows for edge in window)
    speaking = np.repeat(speech_frames(waveform[::FRAME_SAMPLES]), FRAME_SAMPLES)[: len(waveform)]
    inside = np.zeros(len(waveform), bool)
    for start_s, end_s in windows:
        inside[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)] = True
    assert inside[speaking].all()
    edges = [0, *(np.flatnonzero(np.diff(speaking)) + 1).tolist(), len(speaking)]
    for start, end in pairwise(edges):
        if not speaking[start] and end - start >= 94 * FRAME_SAMPLES:
            assert inside[start:end].sum() <= 2 * MARGIN


def siren(seconds: float) -> np.ndarray:
    """A tone that goes up from 100 Hz, 50 Hz a second."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * (100 + 25 * time_s) * time_s)).astype(np.float32)


def noise(seconds: float, level: float) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    return (level * samples).astype(np.float32)


@pytest.mark.parametrize("waveform", [noise(20, 0.5), noise(20, 0.1), noise(20, 1e-3), siren(20)])
def test_noise_and_a_siren_are_no_speech(waveform: np.ndarray) -> None:
    assert cut(waveform, 40) == []


@pytest.fixture(scope="module")
def sentence() -> np.ndarray:
    return Synthesizer().say("The boat left the harbour at dawn, and nobody saw it again.", "en-us+m3")


@pytest.mark.parametrize("between", [noise(10, 0), noise(10, 1e-3), siren(10)], ids=["silence", "noise", "siren"])
def test_a_sentence_is_found_between_other_sound(sentence: np.ndarray, between: np.ndarray) -> None:
    """espeak-ng ends in some 0.3 s of silence."""
    found = cut(np.concatenate([between, sentence, between, sentence, between]), 40)
    spoken_s = len(sentence) / SAMPLE_RATE
    assert len(found) == 2
    for (start_s, end_s), start in zip(found, (10.0, 20.0 + spoken_s), strict=True):
        assert start - 0.35 <= start_s <= start + 0.05
        assert start + spoken_s - 0.4 <= end_s <= start + spoken_s + 0.5


def test_probabilities_equal_those_of_the_package(sentence: np.ndarray) -> None:
    waveform = np.concatenate([noise(1, 0.01), sentence])
    waveform = waveform[: len(waveform) // RUN_SAMPLES * RUN_SAMPLES]
    path = distribution("silero-vad").locate_file("silero_vad/data/silero_vad.jit")
    model = torch.jit.load(str(path)).eval()
    with torch.inference_mode():
        expected = [model(frame, SAMPLE_RATE).item() for frame in torch.from_numpy(waveform).view(-1, FRAME_SAMPLES)]
    detector = SpeechDetector()
    found = np.concatenate([detector(run) for run in waveform.reshape(-1, RUN_SAMPLES)])
    assert max(expected) > 0.9 and min(expected) < 0.1
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_detector_leaves_torch_s_threads_alone(sentence: np.ndarray) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # importing silero_vad sets 1
        cut(sentence, 40)
        assert torch.get_num_threads() == 2 and "silero_vad" not in sys.modules
    finally:
        torch.set_num_threads(threads)


def test_blocks_change_nothing_of_real_judgements(sentence: np.ndarray) -> None:
    waveform = np.concatenate([sentence, noise(4, 0.01), sentence, sentence])
    for seed, longest in ((0, 100), (1, 20_000)):
        blocks = random_blocks(np.random.default_rng(seed), len(waveform), longest)
        fed = feed_in_blocks(waveform, blocks, SpeechCutter(3.0))
        assert [window for *_, windows in fed for window in windows] == cut(waveform, 3.0) != []


def test_speech_is_kept_and_long_silences_dropped(shared_data: Path) -> None:
    """Twelve readers with 0.5 or 8 s of silence between them, in order; LibriSpeech's own silence at both ends of an
    utterance is up to 0.6 s."""
    files = sorted((shared_data / "speech" / "librispeech_en" / "audio").glob("*.flac"))[:12]
    parts, spoken, at = [], [], 0
    for number, file in enumerate(files):
        waveform, silence = (
            read_waveform(file),
            np.zeros((8, 1)[number % 2] * SAMPLE_RATE // (1 + number % 2), np.float32),
        )
        spoken.append((at / SAMPLE_RATE, (at + len(waveform)) / SAMPLE_RATE))
        at += len(waveform) + len(silence)
        parts += [waveform, silence]
    windows = cut(np.concatenate(parts), 20.0)
    assert all(end_s - start_s <= 20 for start_s, end_s in windows)
    for start_s, end_s in spoken:
        assert sum(max(0, min(e, end_s) - max(s, start_s)) for s, e in windows) >= end_s - start_s - 1.5
    for (_, end_s), (next_s, _) in list(pairwise(spoken))[::2]:  # 8 s
        assert sum(max(0, min(e, next_s) - max(s, end_s)) for s, e in windows) <= 0.8


def test_every_aligned_word_is_in_a_window(shared_data: Path) -> None:
    """Five sentences of real speech 5 s apart; the aligner's borders are good to 0.05 s."""
    folder = shared_data / "speech" / "austen_en"
    parts, words, at_s = [], [], 0.0
    for file in sorted((folder / "audio").glob("*.wav")):
        line = json.loads((folder / "align" / f"{file.stem}.json").read_text().splitlines()[0])
        words += [(at_s + w["b"], at_s + w["b"] + w["d"]) for w in line["w"] if w["t"] not in ("<sil>", "<s>", "</s>")]
        parts += [read_waveform(file), np.zeros(5 * SAMPLE_RATE, np.float32)]
        at_s += sum(map(len, parts[-2:])) / SAMPLE_RATE
    windows = cut(np.concatenate(parts), 40.0)
    assert len(windows) == 5
    assert all(any(s - 0.05 <= b and e <= f + 0.05 for s, f in windows) for b, e in words)


def test_loading_silero_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    voice_activity._load_silero.__wrapped__()
    assert not recwarn.list
