"""m4a, mp4, aac, webm and their kin, written here by FFmpeg's encoders: lengths, spans, delays, damage."""

import io
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clsr.audio import containers
from clsr.audio.waveform import (
    SAMPLE_RATE,
    claimed_duration_s,
    decoded_duration_s,
    duration_s,
    read_header,
    read_waveform,
    stream_progress,
    stream_waveform,
)
from clsr.errors import InputError

KINDS = {  # container, codec, rate, samples of delay and padding that stay
    "m4a": ("ipod", "aac", 44_100, 0),
    "mp4": ("mp4", "aac", 48_000, 0),
    "mov": ("mov", "pcm_s16le", 44_100, 0),
    "webm": ("webm", "libopus", 48_000, 0),
    "mka": ("matroska", "aac", 48_000, 1_024),
    "aac": ("adts", "aac", 16_000, 2_048),
    "wma": ("asf", "wmav2", 44_100, 4_096),
}


def chirp(seconds: float, rate: int) -> np.ndarray:
    """A tone that rises from 200 Hz by 100 Hz a second: no two places sound alike."""
    time_s = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 * time_s + 50 * time_s**2))).astype(np.float32)


def write(path: Path, waveform: np.ndarray, layout: str = "mono", video: bool = False) -> Path:
    """Write a waveform ``(N,)`` or ``(channels, N)`` in the format of the suffix, beside a picture if asked."""
    container, codec, rate, _ = KINDS[path.suffix[1:]]
    with av.open(str(path), "w", format=container) as file:
        if video:
            picture = file.add_stream("mpeg4", rate=1, width=16, height=16, pix_fmt="yuv420p")
        stream = file.add_stream(codec, rate=rate, layout=layout)
        if not codec.startswith("pcm"):
            stream.bit_rate = 128_000
        resampler = av.AudioResampler(stream.format, layout, rate, stream.codec_context.frame_size or 1_024)
        frame = av.AudioFrame.from_ndarray(np.atleast_2d(waveform), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        if video:
            file.mux(picture.encode(av.VideoFrame(16, 16, "yuv420p")))
            file.mux(picture.encode())
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            file.mux(stream.encode(part))
    return path


class Count:
    """A method that counts how often it says yes."""

    def __init__(self, method: Callable[..., bool]) -> None:
        self.method, self.yes = method, 0

    def __get__(self, owner: object, _: type) -> Callable[..., bool]:
        return lambda *args: self(owner, *args)

    def __call__(self, *args: object) -> bool:
        self.yes += (answer := self.method(*args))
        return answer


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_a_length_agrees(tmp_path: Path, kind: str) -> None:
    rate, extra = KINDS[kind][2:]
    path = write(tmp_path / f"a.{kind}", chirp(12.345, rate))
    header = read_header(path)
    assert header.sample_rate == rate and header.channels == 1
    assert abs(header.frames - round(12.345 * rate)) <= extra
    assert duration_s(path) == decoded_duration_s(path) == header.frames / rate
    waveform = read_waveform(path)
    assert len(waveform) == pytest.approx(duration_s(path) * SAMPLE_RATE, abs=1)
    assert np.array_equal(read_waveform(path.read_bytes()), waveform)
    assert claimed_duration_s(path) == pytest.approx(12.345, abs=0.4)


@pytest.mark.parametrize("kind", ["m4a", "mp4", "mov", "webm", "mka"])
def test_sound_is_where_it_was_to_the_sample(tmp_path: Path, kind: str) -> None:
    waveform = read_waveform(write(tmp_path / f"a.{kind}", chirp(6.0, KINDS[kind][2])))
    expected = chirp(6.0, SAMPLE_RATE)
    for place in (800, 48_000, 90_000):
        lags = [np.dot(waveform[place + lag :][:4_000], expected[place:][:4_000]) for lag in range(-40, 41)]
        assert int(np.argmax(lags)) - 40 == 0
        np.testing.assert_allclose(waveform[place:][:4_000], expected[place:][:4_000], atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_spans_and_streams_are_slices(tmp_path: Path, kind: str) -> None:
    rate = KINDS[kind][2]
    path = write(tmp_path / f"a.{kind}", chirp(30.0, rate))
    whole = read_waveform(path)
    blocks = list(stream_waveform(path))
    assert all(0 < len(block) <= 10 * SAMPLE_RATE for block in blocks)
    np.testing.assert_allclose(np.concatenate(blocks), whole, rtol=0, atol=1e-6)
    for start_s, end_s in ((0.0, 2.5), (1.25, 2.5), (20.0, 21.5), (28.5, None)):
        span = read_waveform(path, start_s, end_s)
        part = whole[round(start_s * SAMPLE_RATE) :][: round(((end_s or 99.0) - start_s) * SAMPLE_RATE)]
        assert abs(len(span) - len(part)) <= 1
        np.testing.assert_allclose(span[200:-200], part[200 : len(span) - 200], atol=1e-3)  # the resampler sees the cut
    with pytest.raises(InputError, match=r"no sound between 40\.0 s and the end"):
        read_waveform(path, 40.0)


@pytest.mark.parametrize("kind", ["m4a", "mp4", "aac", "webm", "mka"])
def test_distant_spans_need_no_decoding_before_them(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / f"a.{kind}", chirp(60.0, KINDS[kind][2]))
    whole, counted = read_waveform(path), 0
    monkeypatch.setattr(containers._Steady, "has", count := Count(containers._Steady.has))
    for start_s in (0.3, 7.7, 29.12, 57.0):
        count.yes = 0
        blocks = list(stream_waveform(path, start_s, start_s + 3.0))
        span = np.concatenate(blocks)
        part = whole[round(start_s * SAMPLE_RATE) :][: len(span)]
        np.testing.assert_allclose(span[200:-200], part[200:-200], atol=2e-3)
        counted += count.yes
    packet_s = 0.02 if kind == "webm" else 1_024 / KINDS[kind][2]
    assert counted * packet_s > 85  # of 94 s that lie before the spans


def test_progress_is_reported_while_skipping_to_a_span(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wma", chirp(60.0, 44_100))
    lengths = [len(block) for block in stream_progress(path, 50.0, 53.0)]
    assert sum(length == 0 for length in lengths) >= 5 and sum(lengths) == pytest.approx(3 * SAMPLE_RATE, abs=1)
    assert all(len(block) for block in stream_waveform(path, 50.0, 53.0))


def test_spans_of_irregular_opus_equal_the_whole(tmp_path: Path) -> None:
    """Speech and music are coded apart in opus, by decoders that hold back unlike numbers of samples."""
    stream = io.BytesIO()
    parts = [("voip", 12_000), ("audio", 96_000), ("voip", 24_000), ("lowdelay", 64_000), ("voip", 8_000)]
    with av.open(stream, "w", format="webm") as file:
        track = file.add_stream("libopus", rate=48_000, layout="mono")
        file.start_encoding()
        pts = 0
        for application, bits in parts:
            encoder = av.CodecContext.create("libopus", "w")
            encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = 48_000, "mono", "flt", bits
            encoder.options = {"application": application}
            frame = av.AudioFrame.from_ndarray(chirp(8.0, 48_000)[None], "flt", "mono")
            frame.sample_rate = 48_000
            for packet in encoder.encode(frame):
                packet.stream, packet.pts, packet.dts, packet.time_base = track, pts, pts, Fraction(1, 48_000)
                pts += 960
                file.mux(packet)
    content = stream.getvalue()
    whole = read_waveform(content)
    assert len(whole) == pytest.approx(40 * SAMPLE_RATE, abs=SAMPLE_RATE // 2)
    for start_s in (4.0, 9.0, 12.0, 17.0, 20.0, 25.0, 28.0, 33.0, 36.0, 38.5):
        span = read_waveform(content, start_s, start_s + 1.0)
        part = whole[round(start_s * SAMPLE_RATE) :][: len(span)]
        lags = [np.dot(span[1_000:9_000], part[1_000 + lag : 9_000 + lag]) for lag in range(-400, 401)]
        assert int(np.argmax(lags)) - 400 == 0
        np.testing.assert_allclose(span[200:-200], part[200:-200], atol=0.02)


def test_channels_are_averaged_and_pictures_left(tmp_path: Path) -> None:
    both = np.stack([chirp(2.0, 48_000), -0.5 * chirp(2.0, 48_000)])
    path = write(tmp_path / "a.mp4", both, "stereo", video=True)
    assert read_header(path).channels == 2
    assert len(read_waveform(path)) == 2 * SAMPLE_RATE
    loudness = np.sqrt(np.mean(np.square(read_waveform(path))))
    assert loudness == pytest.approx(0.125 / np.sqrt(2), abs=0.01)  # of a quarter of the first channel


@pytest.mark.parametrize("kind", ["aac", "m4a"])  # in webm, FFmpeg goes on behind it
def test_damage_in_the_middle_is_an_error(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", chirp(40.0, KINDS[kind][2]))
    whole = read_waveform(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3_000] = np.random.default_rng(0).bytes(3_000)
    path.write_bytes(content)
    got = []
    with pytest.raises(InputError, match=rf"a\.{kind}: cannot be read as audio .*; convert it to wav or flac"):
        for block in stream_waveform(path):
            got.append(block)
    good = np.concatenate(got)[: 15 * SAMPLE_RATE]
    assert len(good) == 15 * SAMPLE_RATE
    np.testing.assert_allclose(good, whole[: len(good)], atol=1e-6)


@pytest.mark.parametrize("kind", ["aac", "webm", "mka"])
def test_a_truncated_recording_gives_its_rest(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", chirp(20.0, KINDS[kind][2]))
    whole = read_waveform(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    part = read_waveform(path)
    assert len(part) == pytest.approx(len(whole) / 2, rel=0.2)
    np.testing.assert_allclose(part[:-2_000], whole[: len(part) - 2_000], atol=1e-3)


def test_files_without_sound_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as file:
        picture = file.add_stream("mpeg4", rate=1, width=16, height=16, pix_fmt="yuv420p")
        file.mux(picture.encode(av.VideoFrame(16, 16, "yuv420p")))
        file.mux(picture.encode())
    (tmp_path / "text.m4a").write_text("no sound, only words\n" * 50)
    good = write(tmp_path / "a.m4a", chirp(5.0, 44_100)).read_bytes()
    (tmp_path / "cut.m4a").write_bytes(good[: len(good) // 2])  # its table of contents is at the end
    for name, reason in (("film.mp4", "holds no audio stream"), ("text.m4a", "cannot"), ("cut.m4a", "cannot")):
        for read in (read_waveform, duration_s, decoded_duration_s, claimed_duration_s):
            with pytest.raises(InputError, match=rf"{name}: {reason}") as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)


def test_files_that_name_other_files_are_refused(tmp_path: Path) -> None:
    """Playlists and their like would let a stranger read what the machine holds."""
    secret = write(tmp_path / "secret.aac", chirp(2.0, 16_000))
    lists: dict[str, str] = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile {secret.name}\n",
        "a.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    }
    for name, content in lists.items():
        (tmp_path / name).write_text(content)
        for source in (tmp_path / name, content.encode()):
            with pytest.raises(InputError, match="cannot be read as audio"):
                read_waveform(source)


def test_names_that_look_like_addresses_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = write(tmp_path / "a.m4a", chirp(1.0, 44_100)).read_bytes()
    for name in ("http:a.m4a", "concat:b|c.m4a", "ü ñ.m4a"):
        Path(name).write_bytes(content)
        assert len(read_waveform(name)) == SAMPLE_RATE


def test_ffmpeg_says_nothing(tmp_path: Path) -> None:
    content = write(tmp_path / "a.aac", chirp(10.0, 16_000)).read_bytes()
    draw = np.random.default_rng(0)
    (tmp_path / "a.aac").write_bytes(content[:5_000] + draw.bytes(3_000) + content[8_000:])
    code = "import sys\nfrom clsr.audio.waveform import *\n"
    code += "try: read_waveform(sys.argv[1])\nexcept InputError: print('refused')"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.aac")], check=True, capture_output=True, text=True
    )
    assert (run.stdout, run.stderr) == ("refused\n", "")


@pytest.mark.parametrize(("subtype", "tolerance"), [("pcm_u8", 1 / 128), ("pcm_s24le", 1e-6), ("pcm_f64le", 1e-7)])
def test_samples_of_every_size_have_the_same_loudness(tmp_path: Path, subtype: str, tolerance: float) -> None:
    waveform = chirp(0.5, SAMPLE_RATE)
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as file:
        track = file.add_stream(subtype, rate=SAMPLE_RATE, layout="mono")
        convert: Callable[..., list[av.AudioFrame]] = av.AudioResampler(track.format, "mono", SAMPLE_RATE).resample
        frame = av.AudioFrame.from_ndarray(waveform[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        for part in [*convert(frame), None]:
            file.mux(track.encode(part))
    np.testing.assert_allclose(read_waveform(stream.getvalue()), waveform, atol=tolerance)


def test_samples_of_64_bits_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as file:
        track = file.add_stream("pcm_s64le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame("s64", "mono", 100)
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        file.mux(track.encode(frame))
    with pytest.raises(InputError, match=r"a\.wav: cannot be read as audio"):
        read_waveform(tmp_path / "a.wav")
