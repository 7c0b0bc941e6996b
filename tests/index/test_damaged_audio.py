"""Damaged recordings, found and made: blocks or one line, in seconds, within the memory, and the next file is whole."""

import csv
import io
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from clsr.audio.decoding import Decoder
from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.errors import InputError

WRITTEN_BY_SOUNDFILE = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"),
]  # fmt: skip
WRITTEN_BY_FFMPEG = [
    ("ipod", "aac"), ("mp4", "aac"), ("adts", "aac"), ("webm", "libopus"), ("matroska", "aac"), ("asf", "wmav2"),
]  # fmt: skip
HUGE = (
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"\0\0\xff\xff",
)
RATE = 48_000
DECODED_S = 10.0  # any file, at most
MEMORY_BYTES = 1 << 30


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(memory_bytes=MEMORY_BYTES) as decoder:
        yield decoder


def written() -> list[bytes]:
    """Two seconds of noise under a tone, in every format that can be written here."""
    draw = np.random.default_rng(0)
    waveform = 0.3 * np.sin(np.arange(2 * RATE) / 20) + draw.uniform(-0.1, 0.1, 2 * RATE)
    contents = []
    for container, codec in WRITTEN_BY_SOUNDFILE:
        stream = io.BytesIO()
        soundfile.write(stream, waveform, RATE, codec, format=container)
        contents.append(stream.getvalue())
    for container, codec in WRITTEN_BY_FFMPEG:
        stream = io.BytesIO()
        with av.open(stream, "w", format=container) as file:
            track = file.add_stream(codec, rate=RATE, layout="mono")
            track.bit_rate = 64_000
            resampler = av.AudioResampler(track.format, "mono", RATE, track.codec_context.frame_size or 1_024)
            frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            for part in [*resampler.resample(frame), *resampler.resample(None), None]:
                file.mux(track.encode(part))
        contents.append(stream.getvalue())
    return contents


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """A file with one to three faults: bits flipped, cut off, a part doubled, a number made huge, a part zeroed."""
    damaged = bytearray(content)
    for _ in range(draw.integers(1, 4)):
        size = len(damaged)
        place = int(draw.integers(min(size, 200) if draw.random() < 0.5 else size))  # heads are worth more tries
        kind = draw.integers(5)
        if kind == 0:
            for bit in draw.integers(8 * size, size=draw.integers(1, 20)):
                damaged[bit // 8] ^= 1 << bit % 8
        elif kind == 1:
            del damaged[max(place, 12) :]
        elif kind == 2:
            part = damaged[place : place + int(draw.integers(1, 2_000))]
            damaged[place:place] = part * int(draw.integers(1, 4))
        elif kind == 3:
            huge = HUGE[draw.integers(len(HUGE))]
            damaged[place : place + len(huge)] = huge
        else:
            end = min(size, place + int(draw.integers(1, 2_000)))
            damaged[place:end] = bytes(end - place)
    return bytes(damaged)


def decode(decoder: Decoder, path: Path) -> int | None:
    """Samples that come of a file, every block checked; ``None`` if it is refused. Never slow, never large."""
    start, samples = time.monotonic(), 0
    claimed_s = decoder.claimed_s(path)
    assert claimed_s is None or claimed_s > 0
    try:
        for block in decoder.stream(path):
            assert 0 < len(block) <= 10 * SAMPLE_RATE and np.isfinite(block).all()
            samples += len(block)
        reason = None
    except InputError as error:
        reason = str(error)
    if reason is not None:
        assert reason.startswith(f"{path}: ") and "\n" not in reason and "hung" not in reason
    assert time.monotonic() - start < DECODED_S, path
    return samples if reason is None else None


def largest_bytes(decoder: Decoder) -> int:
    """Most memory that the process has had."""
    assert decoder._process is not None
    lines = Path(f"/proc/{decoder._process.pid}/status").read_text().split("\n")
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def test_odd_files_are_read_whole_or_refused(shared_data: Path, decoder: Decoder) -> None:
    folder = shared_data / "odd_audio"
    with open(folder / "manifest.tsv", encoding="utf-8", newline="") as file:
        manifest = list(csv.DictReader(file, delimiter="\t"))
    read, refused, by_ffmpeg = 0, 0, 0
    for row in manifest:
        samples = decode(decoder, folder / row["file"])
        sound = row["libsndfile_status"] == "ok" and row["decoded_frames"] != "0" and row["all_finite"] == "True"
        if samples is None:
            assert not sound or row["file"] == "pocketsphinx/awful.wav"  # claims 1,092,676 Hz
            refused += 1
        elif sound:
            frames = int(row["decoded_frames"])
            if row["file"] == "flac-test-files/05_-_wrong_total_number_of_samples.flac":
                frames = 109_487  # all there are; libsndfile stops where the header says
            assert abs(samples - frames * SAMPLE_RATE / int(row["rate"])) <= 1, row["file"]
            read += 1
        else:
            by_ffmpeg += row["file"] != "flac-test-files/01_-_wrong_max_blocksize.flac"  # sound, but unseekable
        if decoder._process is not None:
            assert largest_bytes(decoder) < MEMORY_BYTES
    assert (read, by_ffmpeg, refused) == (76, 26, 63)


@pytest.mark.slow
def test_damaged_files_give_blocks_or_one_line(tmp_path: Path, decoder: Decoder) -> None:
    contents = written()
    batter(decoder, contents, 2_000, tmp_path)


@pytest.mark.slow
def test_damaged_odd_files_give_blocks_or_one_line(shared_data: Path, tmp_path: Path, decoder: Decoder) -> None:
    with open(shared_data / "odd_audio" / "manifest.tsv", encoding="utf-8", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file, delimiter="\t")]
    contents = [content for name in names if len(content := (shared_data / "odd_audio" / name).read_bytes()) > 12]
    batter(decoder, contents, 500, tmp_path)


def batter(decoder: Decoder, contents: list[bytes], times: int, folder: Path) -> None:
    """Damage files in turn and decode them, a good one after every hundred and after every end of the process."""
    draw = np.random.default_rng(times)
    write_waveform(folder / "good.wav", np.full(SAMPLE_RATE, 0.5))
    outcomes, largest = {"read": 0, "refused": 0}, 0
    for number in range(times):
        (folder / "bad").write_bytes(damaged(contents[number % len(contents)], draw))
        samples = decode(decoder, folder / "bad")
        outcomes["refused" if samples is None else "read"] += 1
        died = decoder._process is None
        if died or number % 100 == 99:
            assert np.array_equal(decoder.read_waveform(folder / "good.wav"), np.full(SAMPLE_RATE, 0.5, np.float32))
        largest = max(largest, largest_bytes(decoder))
    assert min(outcomes.values()) > times / 20
    assert largest < MEMORY_BYTES
