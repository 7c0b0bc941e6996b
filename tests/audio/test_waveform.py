"""Tests of clsr/audio/waveform.py: values known beforehand, and files that trip readers."""

import csv
import io
import logging
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clsr.audio import waveform as audio
from clsr.audio.waveform import (
    SAMPLE_RATE,
    add_noise,
    claimed_duration_s,
    decoded_duration_s,
    duration_s,
    read_waveform,
    stream_waveform,
    write_waveform,
    write_waveforms,
)
from clsr.errors import InputError

READ_ALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from clsr.audio.waveform import decoded_duration_s
from clsr.audio.waveform import duration_s
from clsr.audio.waveform import read_waveform
from clsr.errors import InputError
for path in sys.argv[1:]:
    try:
        seconds = [len(read_waveform(path)) / 16000, duration_s(path), decoded_duration_s(path)]
        print(path, max(seconds) - min(seconds), seconds[0], sep="\\t")
    except InputError as error:
        print(path, "refused", str(error).count("\\n"), sep="\\t")
"""


@pytest.fixture(autouse=True)
def nothing_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a new process as far as messages output once go."""
    monkeypatch.setattr(audio, "_logged", set())


def tone(frequency_hz: float, seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_sixteen_bit_samples_come_back_unchanged(tmp_path: Path) -> None:
    waveform = np.array([0, 1, -1, 32767, -32768, 12345], dtype=np.float32) / 32768
    write_waveform(tmp_path / "a.wav", waveform)
    assert read_waveform(tmp_path / "a.wav").tolist() == waveform.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_loud_samples_are_clipped(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", np.array([2.0, -2.0]))
    assert read_waveform(tmp_path / "a.wav").tolist() == [32767 / 32768, -1.0]


def test_bytes_read_like_a_path(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 0.1))
    assert np.array_equal(read_waveform((tmp_path / "a.wav").read_bytes()), read_waveform(tmp_path / "a.wav"))


def test_span_is_the_slice(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 3.0))
    whole = read_waveform(tmp_path / "a.wav")
    assert np.array_equal(read_waveform(tmp_path / "a.wav", 1.25, 2.5), whole[20_000:40_000])
    assert np.array_equal(read_waveform(tmp_path / "a.wav", 2.5), whole[40_000:])
    assert np.array_equal(read_waveform(tmp_path / "a.wav", 2.5, 99.0), whole[40_000:])


def test_channels_are_averaged_and_it_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left, right = tone(300, 0.2), tone(500, 0.2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), SAMPLE_RATE, subtype="FLOAT")
    with caplog.at_level(logging.INFO, logger="clsr"):
        np.testing.assert_array_equal(read_waveform(tmp_path / "a.wav"), (left + right) / 2)
        read_waveform(tmp_path / "a.wav")
    assert [record.message.partition(": ")[2][:10] for record in caplog.records] == ["2 channels"]


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_other_rates_become_the_same_tone(tmp_path: Path, caplog: pytest.LogCaptureFixture, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1_000, 1.0, rate), rate, subtype="FLOAT")
    with caplog.at_level(logging.INFO, logger="clsr"):
        waveform = read_waveform(tmp_path / "a.wav")
        read_waveform(tmp_path / "a.wav")
    assert len(waveform) == SAMPLE_RATE
    np.testing.assert_allclose(waveform[1_000:-1_000], tone(1_000, 1.0)[1_000:-1_000], atol=2e-3)
    assert len(caplog.records) == 1 and f"{rate} Hz" in caplog.text


def test_every_block_of_a_long_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 0.5))
    whole = read_waveform(tmp_path / "a.wav")
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", 7)
    assert np.array_equal(read_waveform(tmp_path / "a.wav"), whole)
    assert decoded_duration_s(tmp_path / "a.wav") == 0.5


@pytest.mark.parametrize("format_", ["FLAC", "OGG", "MP3"])
def test_compressed_files_have_the_length_that_was_written(tmp_path: Path, format_: str) -> None:
    path = tmp_path / f"a.{format_.lower()}"
    soundfile.write(path, tone(440, 1.5), SAMPLE_RATE, format=format_)
    assert duration_s(path) == decoded_duration_s(path) == len(read_waveform(path)) / SAMPLE_RATE
    assert duration_s(path) == pytest.approx(1.5, abs=0.11 if format_ == "MP3" else 0)  # MP3 pads to whole frames


def test_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_waveform, duration_s, decoded_duration_s):
        with pytest.raises(InputError, match=r"nowhere\.wav: no such audio file"):
            read(tmp_path / "nowhere.wav")


def test_empty_file_and_file_without_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    write_waveform(tmp_path / "b.wav", np.zeros(0))
    for read in (read_waveform, duration_s, decoded_duration_s):
        with pytest.raises(InputError, match=r"a\.wav: is empty"):
            read(tmp_path / "a.wav")
        with pytest.raises(InputError, match=r"b\.wav.* no sound"):
            read(tmp_path / "b.wav")
    with pytest.raises(InputError, match="given as bytes: is empty"):
        read_waveform(b"")


def test_text_headerless_audio_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("RIFF, but not really")
    (tmp_path / "b.raw").write_bytes(bytes(100))
    for name in ("a.wav", "b.raw"):
        with pytest.raises(InputError, match=rf"{name}: cannot be read as audio"):
            read_waveform(tmp_path / name)
    with pytest.raises(InputError, match="no such audio file"):
        read_waveform(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, bad, 0.0], dtype=np.float32), SAMPLE_RATE, subtype="FLOAT")
    for read in (read_waveform, decoded_duration_s):
        with pytest.raises(InputError, match="not finite"):
            read(tmp_path / "a.wav")


def test_numbers_that_overflow_are_refused(tmp_path: Path) -> None:
    loud = np.where(np.arange(8_000) % 2, 3.4e38, -3.4e38).astype(np.float32)
    for rate, samples in ((SAMPLE_RATE, np.stack([np.abs(loud)] * 2, axis=1)), (48_000, np.repeat(loud, 6))):
        soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
        for read in (read_waveform, lambda path: list(stream_waveform(path))):
            with pytest.raises(InputError, match="not finite"):
                read(tmp_path / "a.wav")


@pytest.mark.parametrize("span", [(-1.0, None), (0.5, 0.5), (0.7, 0.2), (2.0, None), (2.0, 3.0)])
def test_spans_without_sound_are_refused(tmp_path: Path, span: tuple[float, float | None]) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 1.0))
    with pytest.raises(InputError, match=r"a\.wav: "):
        read_waveform(tmp_path / "a.wav", *span)


def test_truncated_wav_gives_what_there_is(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 1.0))
    whole = read_waveform(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[: 44 + 2 * 4_000])
    assert np.array_equal(read_waveform(tmp_path / "a.wav"), whole[:4_000])
    assert duration_s(tmp_path / "a.wav") == 0.25


@pytest.mark.parametrize("claimed_samples", [2**36 - 1, 20_000, 0])  # 0 is what a stream writes
def test_a_wrong_flac_length_is_not_believed(tmp_path: Path, claimed_samples: int) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(0).uniform(-1, 1, SAMPLE_RATE), SAMPLE_RATE, format="FLAC")
    flac = bytearray(stream.getvalue())
    flac[21] = flac[21] & 0xF0 | claimed_samples >> 32  # total samples: 36 bits of STREAMINFO
    flac[22:26] = (claimed_samples & 0xFFFFFFFF).to_bytes(4, "big")
    (tmp_path / "a.flac").write_bytes(flac)
    assert duration_s(tmp_path / "a.flac") == decoded_duration_s(tmp_path / "a.flac") == 1.0
    assert len(read_waveform(tmp_path / "a.flac")) == SAMPLE_RATE


def test_a_span_past_an_mp3_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", tone(440, 1.5), SAMPLE_RATE, format="MP3")
    with pytest.raises(InputError, match="no sound between 5.0 s and 6.0"):
        read_waveform(tmp_path / "a.mp3", 5.0, 6.0)


def test_span_of_a_long_mp3_is_the_slice(shared_data: Path) -> None:
    (path,) = (shared_data / "speech" / "baudelaire_fr_long" / "audio").iterdir()
    whole = read_waveform(path)  # 22.05 kHz: the slice differs where the resampler sees the cut
    span = read_waveform(path, 500.5, 502.5)
    np.testing.assert_allclose(span[200:-200], whole[500 * 16_000 + 8_200 : 502 * 16_000 + 7_800], atol=1e-5)
    assert duration_s(path) == decoded_duration_s(path) == pytest.approx(883.043, abs=0.001)  # its header says 887.2


def test_unwritable_place_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone/a\.wav: cannot be written \(No such file or directory\)"):
        write_waveform(tmp_path / "gone" / "a.wav", np.zeros(10))
    with pytest.raises(InputError, match="cannot be written"):
        (tmp_path / "b.wav").mkdir()
        write_waveform(tmp_path / "b.wav", np.zeros(10))
    assert [path.name for path in tmp_path.iterdir()] == ["b.wav"]


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_a_stream_is_the_waveform_in_blocks(tmp_path: Path, rate: int) -> None:
    samples = np.random.default_rng(rate).uniform(-0.5, 0.5, (round(25.3 * rate), 2))
    soundfile.write(tmp_path / "a.wav", samples, rate)
    for span in ((0.0, None), (3.21, 24.7), (24.7, 99.0)):
        blocks = list(stream_waveform(tmp_path / "a.wav", *span))
        assert all(0 < len(block) <= 10 * SAMPLE_RATE and block.dtype == np.float32 for block in blocks)
        whole = read_waveform(tmp_path / "a.wav", *span)
        assert len(np.concatenate(blocks)) == len(whole)
        np.testing.assert_allclose(np.concatenate(blocks), whole, rtol=0, atol=1e-6)


def test_a_stream_ends_before_samples_not_finite(tmp_path: Path) -> None:
    samples = tone(440, 20.0, 8_000)
    soundfile.write(tmp_path / "good.wav", samples, 8_000, subtype="FLOAT")
    samples[-1] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 8_000, subtype="FLOAT")
    blocks = []
    with pytest.raises(InputError, match=r"a\.wav: has samples that are not finite"):
        for block in stream_waveform(tmp_path / "a.wav"):
            blocks.append(block)
    got = np.concatenate(blocks)
    assert len(got) == 16 * SAMPLE_RATE  # two blocks of eight seconds
    np.testing.assert_allclose(got[:-200], read_waveform(tmp_path / "good.wav")[: len(got) - 200], atol=1e-6)


def test_stream_gives_what_is_good_before_damage(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 30 * SAMPLE_RATE), SAMPLE_RATE)
    whole = read_waveform(tmp_path / "a.flac")
    flac = bytearray((tmp_path / "a.flac").read_bytes())
    middle = len(flac) // 2
    flac[middle : middle + 9_000] = bytes(9_000)
    (tmp_path / "a.flac").write_bytes(flac)
    blocks = []
    with pytest.raises(InputError, match=r"a\.flac: cannot be read as audio"):
        for block in stream_waveform(tmp_path / "a.flac"):
            blocks.append(block)
    got = np.concatenate(blocks)
    assert len(got) == 8 * SAMPLE_RATE
    assert np.array_equal(got, whole[: len(got)])


def test_stream_without_sound_is_refused(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 1.0))
    soundfile.write(tmp_path / "b.wav", np.zeros(1), 48_000)  # a third of a sample
    for read in (read_waveform, lambda *span: list(stream_waveform(*span))):
        for span in ((2.0, None), (2.0, 3.0), (0.5, 0.5), (-1.0, 1.0)):
            with pytest.raises(InputError, match=r"a\.wav: "):
                read(tmp_path / "a.wav", *span)
        with pytest.raises(InputError, match=r"b\.wav: no sound"):
            read(tmp_path / "b.wav")


def test_a_stream_takes_constant_memory(tmp_path: Path) -> None:
    write_waveforms(tmp_path / "a.wav", (tone(440, 60.0) for _ in range(30)))
    tracemalloc.start()
    assert sum(map(len, stream_waveform(tmp_path / "a.wav"))) == 1800 * SAMPLE_RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # bytes; all of it is 115 MB


def test_claimed_length_is_that_of_the_header(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 1.5))
    assert claimed_duration_s(tmp_path / "a.wav") == 1.5


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path("/dev/zero"), tmp_path / ("a" * 300 + ".wav")):
        for read in (read_waveform, duration_s, claimed_duration_s, lambda path: list(stream_waveform(path))):
            with pytest.raises(InputError, match="no such audio file|cannot be read"):
                read(path)


def test_libsndfile_formats_load_no_ffmpeg(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", tone(440, 0.1))
    code = "import sys; from clsr.audio.waveform import *; read_waveform(sys.argv[1]); assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.wav")], check=True)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0])
def test_noise_has_the_power_that_the_ratio_says(snr_db: float) -> None:
    waveform, noise = tone(440, 1.0), np.random.default_rng(0).normal(size=SAMPLE_RATE).astype(np.float32)
    added = add_noise(waveform, noise, snr_db).astype(np.float64) - waveform
    assert 10 * np.log10(np.mean(waveform.astype(np.float64) ** 2) / np.mean(added**2)) == pytest.approx(
        snr_db, abs=1e-4
    )
    np.testing.assert_array_equal(add_noise(waveform, 8 * noise, snr_db), add_noise(waveform, noise, snr_db))


def test_noise_worked_by_hand() -> None:
    waveform, noise = np.array([1.0, -1.0], dtype=np.float32), np.array([2.0, 2.0], dtype=np.float32)
    np.testing.assert_allclose(add_noise(waveform, noise, 20.0), [1.1, -0.9], rtol=1e-6)  # power 1 to power 0.01


def test_silence_has_no_signal_to_noise_ratio() -> None:
    for waveform, noise in ((np.zeros(4), np.ones(4)), (np.ones(4), np.zeros(4)), (np.ones(4), np.ones(5))):
        with pytest.raises(ValueError):
            add_noise(waveform, noise, 10.0)


def test_odd_files_are_read_or_refused(shared_data: Path) -> None:
    """Malformed and unusual files: neither crash nor memory, lengths that agree, and libsndfile's verdict."""
    folder = shared_data / "odd_audio"
    with open(folder / "manifest.tsv", encoding="utf-8", newline="") as file:
        manifest = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    paths = [str(folder / name) for name in manifest]
    run = subprocess.run(
        [sys.executable, "-c", READ_ALL, *paths], check=False, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    results = dict(line.split("\t", 1) for line in run.stdout.splitlines())
    assert results.keys() == set(paths)
    refused = {Path(path).relative_to(folder).as_posix() for path, output in results.items() if "refused" in output}
    assert all(output == "refused\t0" for output in results.values() if "refused" in output)
    for path, output in results.items():
        assert "refused" in output or float(output.split("\t")[0]) < 0.001, (path, output)
    sound = {
        name
        for name, row in manifest.items()
        if row["libsndfile_status"] == "ok" and row["decoded_frames"] != "0" and row["all_finite"] == "True"
    }
    assert refused & sound == {"pocketsphinx/awful.wav"}  # claims 1,092,676 Hz
    more = manifest.keys() - refused - sound
    assert "flac-test-files/01_-_wrong_max_blocksize.flac" in more  # sound but unseekable
    assert "flac-test-files/02_-_increasing_number_of_channels.flac" in more  # which FFmpeg follows
    assert len(more) == 27  # the others by FFmpeg: m4a, aac, wma, tak, tta, wv, spx, dsf, mpc, eac3 and odd ones
    assert {Path(name).suffix for name in more} >= {".m4a", ".m4b", ".aac", ".wma", ".wv", ".spx"}
