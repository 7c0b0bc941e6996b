"""Recordings joined in one file, and headers that lie: all of the sound is read, and each second once."""

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from clsr.audio.files import search_files
from clsr.audio.parts import Content
from clsr.audio.waveform import (
    SAMPLE_RATE,
    Remarks,
    decoded_duration_s,
    duration_s,
    promised_duration_s,
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


def by_ffmpeg(kind: str, codec: str, seconds: float, frequency_hz: float, rate: int = SAMPLE_RATE) -> bytes:
    """A tone in a container as FFmpeg writes it, with the tags and tables of contents that it adds."""
    stream = io.BytesIO()
    samples = (tone(frequency_hz, seconds, rate).T * 32_767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    with av.open(stream, "w", format=kind) as file:
        sound = file.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(
            sound.codec_context.format, "mono", rate, frame_size=sound.codec_context.frame_size or 1_024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(sound.encode(piece))
        file.mux(sound.encode(None))
    return stream.getvalue()


def seconds_and_losses(content: bytes) -> tuple[float, list[str]]:
    remarks = Remarks()
    samples = sum(map(len, stream_progress(content, remarks=remarks)))
    return samples / SAMPLE_RATE, remarks.losses


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


def test_wide_sizes_of_nothing_are_not_believed() -> None:
    whole = encoded("rf64", np.random.default_rng(0).uniform(-0.5, 0.5, (4 * SAMPLE_RATE, 1)).astype(np.float32))
    lying = whole[:20] + bytes(24) + whole[44:]  # as a recorder that crashed has it
    assert b"ds64" in whole[:16] and len(read_waveform(lying)) == 4 * SAMPLE_RATE


def test_a_second_chunk_of_sound_is_told() -> None:
    whole = encoded("wav", tone(440, 4.0))
    at = whole.index(b"data")
    first, second = whole[at + 8 : at + 8 + 64_000], whole[at + 8 + 64_000 :]
    size = struct.pack("<I", 64_000)
    seconds, losses = seconds_and_losses(whole[: at + 4] + size + first + b"data" + size + second)
    assert seconds == 2.0 and losses[0].startswith("64,000 of ")


@pytest.mark.parametrize("size", [0, 32_000, 999_999, 0xFFFFFFFF])
def test_au_sizes_are_not_believed(size: int) -> None:
    whole = encoded("au", np.random.default_rng(0).uniform(-0.5, 0.5, (4 * SAMPLE_RATE, 1)).astype(np.float32))
    lying = whole[:8] + struct.pack(">I", size) + whole[12:]
    np.testing.assert_array_equal(read_waveform(lying), read_waveform(whole))


@pytest.mark.parametrize("header_bytes", [0, 8, 23, 999_999, 0xFFFFFFFF])
def test_au_header_lengths_are_not_believed(header_bytes: int) -> None:
    whole = encoded("au", np.random.default_rng(0).uniform(-0.5, 0.5, (4 * SAMPLE_RATE, 1)).astype(np.float32))
    lying = whole[:4] + struct.pack(">I", header_bytes) + whole[8:]
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


@pytest.mark.parametrize("kind", ["wav", "ogg", "au", "caf", "flac", "aiff", "mp3", "rf64"])
def test_any_beginning_of_a_file_has_parts(kind: str) -> None:
    whole = encoded(kind, tone(440, 0.3))
    for content in (whole, whole + whole, b"ID3\x03\0\0\0\0\0\x05" + whole):
        for end in [*range(1, 200), len(whole) - 1, len(whole) + 1, len(whole) + 20]:
            with Content(content[:end]) as file:
                parts = file.parts()
            assert parts[-1].end >= min(end, len(whole)) - 10 and all(part.end > part.start for part in parts)


def test_parts_are_found_in_bytes() -> None:
    one, other = encoded("wav", tone(440, 1.0)), encoded("wav", tone(440, 2.0))
    with Content(one + other) as content:
        assert [(part.start, part.end) for part in content.parts()] == [(0, len(one)), (len(one), len(one + other))]


BY_FFMPEG = [
    ("mp3", "libmp3lame"), ("mp2", "mp2"), ("adts", "aac"), ("latm", "aac"), ("ac3", "ac3"), ("eac3", "eac3"),
    ("amr", "libopencore_amrnb"), ("ogg", "libopus"), ("ogg", "flac"), ("flac", "flac"), ("wav", "pcm_s16le"),
    ("wav", "adpcm_ima_wav"), ("wav", "libmp3lame"), ("aiff", "pcm_s16be"), ("au", "pcm_s16be"), ("caf", "alac"),
    ("w64", "pcm_s16le"), ("wv", "wavpack"), ("tta", "tta"), ("voc", "pcm_u8"), ("avi", "libmp3lame"),
    ("avi", "pcm_s16le"), ("matroska", "aac"), ("webm", "libopus"), ("mp4", "aac"), ("ipod", "alac"),
    ("mov", "pcm_s16le"), ("3gp", "aac"), ("ismv", "aac"), ("flv", "aac"), ("mpegts", "aac"), ("mpegts", "mp2"),
    ("mpeg", "mp2"), ("vob", "ac3"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "codec"), BY_FFMPEG)
def test_joined_files_of_ffmpeg_are_read_whole(tmp_path: Path, kind: str, codec: str) -> None:
    rate = 48_000 if codec in ("ac3", "eac3", "libopus") else 8_000 if kind == "amr" else SAMPLE_RATE
    links = [by_ffmpeg(kind, codec, seconds, 440, rate) for seconds in (2.0, 3.0)]
    alone = [seconds_and_losses(link)[0] for link in links]
    assert alone == pytest.approx([2.0, 3.0], abs=0.12)  # an encoder's delay
    seconds, losses = seconds_and_losses(b"".join(links))
    assert seconds == pytest.approx(sum(alone), abs=0.1)
    assert not losses
    (tmp_path / "of no suffix").write_bytes(b"".join(links))
    assert len(search_files(tmp_path).recordings) == 1


def id3(size: int = 300) -> bytes:
    return b"ID3\x03\x00\x00" + bytes([0, 0, size >> 7, size & 127]) + bytes(size)


def ape(size: int = 300) -> bytes:
    ends = [b"APETAGEX" + struct.pack("<4I8x", 2_000, size + 32, 0, flags) for flags in (0xA0000000, 0x80000000)]
    return ends[0] + b" " * size + ends[1]


def bare(mp3: bytes) -> bytes:
    """The frames alone of a file with tags and a frame for its table of contents."""
    table = mp3.index(b"Info") if b"Info" in mp3 else mp3.index(b"Xing")
    first = mp3.rindex(b"\xff", 0, table)
    return mp3[mp3.index(mp3[first : first + 2], table) :]


ID3V1 = b"TAG" + b"x" * 125


@pytest.mark.parametrize("between", [b"", ID3V1, ape(), ape() + ID3V1, id3(), id3(20) + id3()])
def test_tags_between_joined_mp3s_hide_nothing(between: bytes) -> None:
    first, second = (by_ffmpeg("mp3", "libmp3lame", seconds, 440) for seconds in (2.0, 3.0))
    for joined in (first + between + second + between, first + between + bare(second), bare(first) + between + second):
        seconds, losses = seconds_and_losses(joined)
        assert seconds == pytest.approx(5.0, abs=0.25)  # the delay of the encoder, where no table states it
        assert not losses


@pytest.mark.parametrize("hole", [bytes(6_000), b"\x01\x02\x03" * 2_000])
def test_holes_in_mp3s_are_told(hole: bytes) -> None:
    frames = bare(by_ffmpeg("mp3", "libmp3lame", 6.0, 440))
    seconds, losses = seconds_and_losses(frames[: len(frames) // 2] + hole + frames[len(frames) // 2 :])
    assert seconds == pytest.approx(6.0, abs=0.3)
    assert losses


def test_bytes_before_the_first_frame_hide_nothing() -> None:
    first, second = (by_ffmpeg("mp3", "libmp3lame", seconds, 440) for seconds in (2.0, 3.0))
    assert seconds_and_losses(b"\x01\x02" * 400 + first + second)[0] == pytest.approx(5.0, abs=0.25)


def test_a_stream_in_tagged_segments_is_read() -> None:
    """As radio sends it: a tag with the time goes before each ten seconds."""
    frames = bare(by_ffmpeg("mp3", "libmp3lame", 4.0, 440))
    size = frames.index(frames[:2], 4)
    segments = [frames[place : place + 40 * size] for place in range(0, len(frames), 40 * size)]
    seconds, losses = seconds_and_losses(b"".join(id3(73) + segment for segment in segments))
    assert seconds == pytest.approx(4.0, abs=0.2)
    assert not losses


def test_recordings_of_several_formats_are_read() -> None:
    """What the parts of a format do not reach begins another one, or its bytes are counted."""
    of = {
        "wav": by_ffmpeg("wav", "pcm_s16le", 2.0, 440), "mp3": by_ffmpeg("mp3", "libmp3lame", 2.0, 440),
        "ogg": by_ffmpeg("ogg", "libopus", 2.0, 440, 48_000), "m4a": by_ffmpeg("ipod", "aac", 2.0, 440),
        "aac": by_ffmpeg("adts", "aac", 2.0, 440), "flac": by_ffmpeg("flac", "flac", 2.0, 440),
        "au": by_ffmpeg("au", "pcm_s16be", 2.0, 440),
    }  # fmt: skip
    for one in of:
        for other in set(of) - {one}:
            seconds, losses = seconds_and_losses(of[one] + of[other])
            assert seconds == pytest.approx(4.0, abs=0.2) or any("could not be decoded" in line for line in losses)
            if one in ("wav", "ogg", "m4a", "au"):
                assert seconds == pytest.approx(4.0, abs=0.2)


PROMISING = [
    ("mp3", "libmp3lame"), ("mp2", "mp2"), ("adts", "aac"), ("flac", "flac"), ("wav", "pcm_s16le"),
    ("w64", "pcm_s16le"),
    ("aiff", "pcm_s16be"), ("caf", "alac"), ("wv", "wavpack"), ("tta", "tta"), ("matroska", "aac"), ("mp4", "aac"),
    ("mov", "pcm_s16le"), ("avi", "pcm_s16le"), ("ogg", "libopus"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "codec"), PROMISING)
def test_lengths_are_promised_and_kept(kind: str, codec: str) -> None:
    rate = 48_000 if codec == "libopus" else SAMPLE_RATE
    links = [by_ffmpeg(kind, codec, seconds, 440, rate) for seconds in (2.0, 3.0)]
    assert promised_duration_s(links[0]) == pytest.approx(2.0, abs=0.15)
    assert promised_duration_s(b"".join(links)) == pytest.approx(5.0, abs=0.3)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp3", "libmp3lame"), ("wav", "pcm_s16le"), ("matroska", "aac")],
)
def test_files_that_were_cut_off_are_told(kind: str, codec: str) -> None:
    whole = by_ffmpeg(kind, codec, 6.0, 440)
    remarks = Remarks()
    samples = sum(map(len, stream_progress(whole[: len(whole) // 2], remarks=remarks)))
    assert samples < 5 * SAMPLE_RATE
    (note,) = remarks.losses + remarks.notes
    assert "it was cut off" in note


def test_flac_files_that_were_cut_off_are_told() -> None:
    whole = by_ffmpeg("flac", "flac", 6.0, 440)
    with pytest.raises(InputError, match="cannot be read as audio|holds no sound"):
        list(stream_progress(whole[: len(whole) // 2]))


def test_frames_of_variable_rates_are_counted() -> None:
    draw = np.random.default_rng(0)
    quiet_then_loud = np.concatenate([1e-4 * draw.standard_normal(60_000), 0.3 * draw.standard_normal(200_000)])
    frames = bare(encoded("mp3", quiet_then_loud.astype(np.float32)[:, None], 22_050))
    assert promised_duration_s(frames) == pytest.approx(len(quiet_then_loud) / 22_050, abs=0.2)
    remarks = Remarks()
    list(stream_progress(frames, remarks=remarks))
    assert (remarks.losses, remarks.notes) == ([], [])


@pytest.mark.parametrize(("kind", "codec", "rate"), [("ogg", "libopus", 48_000), ("ipod", "aac", SAMPLE_RATE)])
def test_bytes_after_the_last_page_are_told(kind: str, codec: str, rate: int) -> None:
    content = by_ffmpeg(kind, codec, 2.0, 440, rate) + np.random.default_rng(0).bytes(20_000)
    seconds, (loss,) = seconds_and_losses(content)
    assert seconds == pytest.approx(2.0, abs=0.1)
    assert loss.startswith("20,000 of ")


@pytest.mark.parametrize("name", ["SDS", "MAT4"])
def test_bytes_after_the_length_promised_are_told(name: str) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, tone(440, 2.0), SAMPLE_RATE, format=name)
    assert seconds_and_losses(stream.getvalue()) == (2.0, [])
    seconds, (loss,) = seconds_and_losses(2 * stream.getvalue())
    assert seconds == 2.0 and loss.startswith(f"{len(stream.getvalue()):,} of ")
