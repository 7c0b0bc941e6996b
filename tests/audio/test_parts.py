"""Recordings joined in one file, and headers that lie: all of the sound is read, and each second once."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clsr.audio.parts import Content
from clsr.audio.waveform import (
    SAMPLE_RATE,
    Remarks,
    decoded_duration_s,
    duration_s,
    read_waveform,
    stream_progress,
)
from clsr.errors import InputError

FORMATS = {
    "wav": ("WAV", "PCM_16"), "rf64": ("RF64", "PCM_16"), "aiff": ("AIFF", "PCM_16"), "caf": ("CAF", "PCM_16"),
    "au": ("AU", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip


def tone(frequency_hz: float, seconds: float, rate: int = SAMPLE_RATE, channels: int = 1) -> np.ndarray:
    wave = 0.4 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def encoded(kind: str, samples: np.ndarray, rate: int = SAMPLE_RATE) -> bytes:
    stream = io.BytesIO()
    name, subtype = FORMATS[kind]
    soundfile.write(stream, samples, rate, format=name, subtype=subtype)
    return stream.getvalue()


def pitch_hz(waveform: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(waveform))) * SAMPLE_RATE / len(waveform))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("rate", "channels"), [(SAMPLE_RATE, 1), (44_100, 1), (SAMPLE_RATE, 2)])
def test_joined_recordings_are_read_whole(tmp_path: Path, kind: str, rate: int, channels: int) -> None:
    if kind == "opus" and rate == 44_100:
        rate = 48_000
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encoded(kind, tone(440, 3.0)) + encoded(kind, tone(1_000, 4.0, rate, channels), rate))
    whole = read_waveform(path)
    assert len(whole) / SAMPLE_RATE == pytest.approx(7.0, abs=0.2 if kind == "mp3" else 0.01)  # mp3 pads
    assert decoded_duration_s(path) == pytest.approx(duration_s(path), abs=1e-6)
    assert duration_s(path) == pytest.approx(len(whole) / SAMPLE_RATE, abs=0.001)
    assert pitch_hz(whole[SAMPLE_RATE : 2 * SAMPLE_RATE]) == pytest.approx(440, abs=1)
    assert pitch_hz(whole[5 * SAMPLE_RATE : 6 * SAMPLE_RATE]) == pytest.approx(1_000, abs=1)
    assert pitch_hz(read_waveform(path, 1.0, 2.0)) == pytest.approx(440, abs=1)
    assert pitch_hz(read_waveform(path, 4.0, 5.0)) == pytest.approx(1_000, abs=1)
    across = read_waveform(path, 2.0, 4.5)
    assert len(across) == pytest.approx(2.5 * SAMPLE_RATE, abs=2)
    assert pitch_hz(across[: SAMPLE_RATE // 2]) == pytest.approx(440, abs=2)
    assert pitch_hz(across[-SAMPLE_RATE:]) == pytest.approx(1_000, abs=1)
    with pytest.raises(InputError, match="no sound"):
        read_waveform(path, 9.0, 10.0)


def test_a_chain_of_three_links_is_read(tmp_path: Path) -> None:
    links = [encoded("ogg", tone(300 * n, 1.0 + n, 8_000 * n), 8_000 * n) for n in (1, 2, 3)]
    (tmp_path / "a.ogg").write_bytes(b"".join(links))
    whole = read_waveform(tmp_path / "a.ogg")
    assert len(whole) / SAMPLE_RATE == pytest.approx(2 + 3 + 4, abs=0.01)
    assert [round(pitch_hz(whole[s * 8_000 : (s + 1) * 8_000])) for s in (2, 6, 12)] == [300, 600, 900]


def with_size(content: bytes, chunk: bytes, size: int, order: str, riff: int | None = None) -> bytes:
    changed = bytearray(content)
    at = content.index(chunk) + 4
    width = struct.calcsize(order)
    changed[at : at + width] = struct.pack(order, size)
    if riff is not None:
        changed[4:8] = struct.pack(order[0] + "I", riff)
    return bytes(changed)


@pytest.mark.parametrize("size", [0, 32_000, 31_999, 1_280_000, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("kind", "chunk", "order"), [("wav", b"data", "<I"), ("aiff", b"SSND", ">I"), ("caf", b"data", ">Q")]
)
def test_sizes_that_are_wrong_are_not_believed(kind: str, chunk: bytes, order: str, size: int) -> None:
    """Four seconds, of which the header counts none, one, more than there are, or does not know."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (4 * SAMPLE_RATE, 1)).astype(np.float32)
    whole = encoded(kind, sound)
    lying = with_size(whole, chunk, size, order, size if kind == "wav" else None)
    np.testing.assert_array_equal(read_waveform(lying), read_waveform(whole))


@pytest.mark.parametrize("size", [0, 32_000, 999_999, 0xFFFFFFFF])
def test_au_sizes_are_not_believed(size: int) -> None:
    whole = encoded("au", np.random.default_rng(0).uniform(-0.5, 0.5, (4 * SAMPLE_RATE, 1)).astype(np.float32))
    lying = whole[:8] + struct.pack(">I", size) + whole[12:]
    np.testing.assert_array_equal(read_waveform(lying), read_waveform(whole))


def test_a_recording_that_begins_silent_is_read() -> None:
    sound = np.concatenate([np.zeros(SAMPLE_RATE), tone(440, 3.0)[:, 0]]).astype(np.float32)[:, None]
    lying = with_size(encoded("wav", sound), b"data", 0, "<I", 0)
    assert len(read_waveform(lying)) == 4 * SAMPLE_RATE


def test_a_header_that_counts_less_is_told() -> None:
    remarks = Remarks()
    list(stream_progress(with_size(encoded("wav", tone(440, 4.0)), b"data", 32_000, "<I"), remarks=remarks))
    assert remarks.losses == []
    assert remarks.notes == ["its header counts 32,000 bytes of sound, 128,000 are there and were read"]


def test_chunks_after_the_sound_are_none() -> None:
    whole = encoded("wav", tone(440, 4.0))
    behind = b"LIST" + struct.pack("<I", 3_000) + bytes(range(1, 251)) * 12
    for tail in (behind, b"TAG" + b"x" * 2_000, bytes(5_000), behind + b"ID3" + b"y" * 3_000):
        remarks = Remarks()
        blocks = list(stream_progress(whole + tail, remarks=remarks))
        assert sum(map(len, blocks)) == 4 * SAMPLE_RATE
        assert (remarks.losses, remarks.notes) == ([], [])
    empty = with_size(encoded("wav", tone(440, 0.0)), b"data", 0, "<I") + behind
    with pytest.raises(InputError, match="no sound"):
        read_waveform(empty)


def test_variable_rates_without_a_header_are_read_whole(tmp_path: Path) -> None:
    """The estimate of such an mp3 file's length can be far too short; libsndfile reads no further."""
    draw = np.random.default_rng(0)
    quiet_then_loud = np.concatenate([1e-4 * draw.standard_normal(60_000), 0.3 * draw.standard_normal(200_000)])
    content = encoded("mp3", quiet_then_loud.astype(np.float32)[:, None], 22_050)
    first = max(content.find(b"Xing"), content.find(b"Info"))
    second = content.index(content[:2], first)
    seconds = len(quiet_then_loud) / 22_050
    assert len(read_waveform(content[second:])) / SAMPLE_RATE == pytest.approx(seconds, abs=0.2)


def test_bytes_that_cannot_be_decoded_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(encoded("mp3", tone(440, 4.0)) + b"\x01\x02\x03\x04" * 5_000)
    remarks = Remarks()
    blocks = list(stream_progress(tmp_path / "a.mp3", remarks=remarks))
    assert sum(map(len, blocks)) / SAMPLE_RATE == pytest.approx(4.0, abs=0.1)
    (loss,) = remarks.losses
    assert "bytes could not be decoded" in loss


def test_parts_are_found_in_bytes() -> None:
    one, other = encoded("wav", tone(440, 1.0)), encoded("wav", tone(440, 2.0))
    with Content(one + other) as content:
        assert [(part.start, part.end) for part in content.parts()] == [(0, len(one)), (len(one), len(one + other))]
