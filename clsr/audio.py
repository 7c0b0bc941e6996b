"""Path or bytes -> mono float32 waveform ``(N,)`` at 16 kHz, whole or by seconds."""

import io
import logging
import os
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from clsr.errors import InputError

SAMPLE_RATE = 16_000
READABLE_RATES = range(1_000, 768_001)  # outside it a header is taken for damaged: resampling would fill the memory

_BLOCK_SAMPLES = 1 << 20  # decoded at a time, over all channels: what a header claims is never allocated
_log = logging.getLogger("clsr")
_said: set[str] = set()


class Header(NamedTuple):
    """What a recording is made of; ``frames`` is counted by decoding where the file's own word cannot be trusted."""

    sample_rate: int
    channels: int
    frames: int


class _SequentialFile(soundfile.SoundFile):
    """A file that is not sought to where it already stands.

    ``SoundFile`` does that after each read, and so fails at the end of a FLAC stream that does not know its length.
    """

    def seekable(self) -> bool:
        return False


def read_waveform(source: str | Path | bytes, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
    """Mono waveform of a recording, or of a span of it, at 16 kHz.

    Channels are averaged and other rates resampled (soxr), both said once a process. A span that reaches past the end
    gives what there is. Reads what libsndfile reads: wav, flac, ogg, opus, mp3, aiff and their kin.

    Args:
        source: path of the file, or its bytes.
        start_s: start of the span in seconds, at least 0.
        end_s: end of the span in seconds, after the start; ``None`` is the end of the recording.

    Returns:
        The waveform ``(N,)``, float32, not empty, every sample finite.

    Raises:
        InputError: the file is missing, empty, unreadable or has samples that are no numbers, or the span is empty.
    """
    name = _name(source)
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise InputError(f"{name}: {start_s} to {end_s} s is not a span of time; give 0 <= start < end")
    with _opened(source) as file:
        rate, channels = file.samplerate, file.channels
        end = None if end_s is None else round(end_s * rate)
        blocks = [block.mean(axis=1) for block in _blocks(file, round(start_s * rate), end)]
    if not blocks:
        raise InputError(f"{name}: no sound between {start_s} s and {end_s or 'the end'}; remove it or mend its times")
    waveform = np.concatenate(blocks)
    if not np.isfinite(waveform).all():
        raise InputError(f"{name}: has samples that are not finite numbers; export it again as 16-bit PCM")
    if channels > 1:
        _say_once("mixed", f"{name}: {channels} channels are averaged to one (further files are not mentioned)")
    if rate != SAMPLE_RATE:
        _say_once("resampled", f"{name}: {rate} Hz is resampled to 16000 Hz (further files are not mentioned)")
        waveform = soxr.resample(waveform, rate, SAMPLE_RATE)
    return waveform.astype(np.float32, copy=False)


def read_header(path: str | Path) -> Header:
    """Sample rate, channels and true number of frames of a recording.

    The frame count in the header is believed when the last frame it promises can be read; MP3, whose headers only
    estimate, and anything else is decoded and counted. Does not look for samples that are not finite.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    with _opened(path) as file:
        frames = file.frames if file.format != "MP3" and _last_frame_is_there(file) else None
        rate, channels = file.samplerate, file.channels
    if frames is None:  # opened afresh: a failed seek may leave a decoder anywhere
        with _opened(path) as file:
            frames = sum(len(block) for block in _blocks(file))
    if not frames:
        raise InputError(f"{path}: holds no sound; remove it from the list")
    return Header(rate, channels, frames)


def duration_s(path: str | Path) -> float:
    """Length of a recording in seconds, from its header when that can be trusted, else by decoding.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    header = read_header(path)
    return header.frames / header.sample_rate


def decoded_duration_s(path: str | Path) -> float:
    """Length of a recording in seconds after decoding the whole of it, block by block.

    Raises:
        InputError: the file is missing, empty, damaged anywhere, or has samples that are not finite.
    """
    frames = 0
    with _opened(path) as file:
        for block in _blocks(file):
            if not np.isfinite(block).all():
                raise InputError(f"{path}: has samples that are not finite numbers; export it again as 16-bit PCM")
            frames += len(block)
        rate = file.samplerate
    if not frames:
        raise InputError(f"{path}: holds no sound; remove it from the list")
    return frames / rate


def write_waveform(path: str | Path, waveform: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a mono waveform ``(N,)`` as 16-bit PCM wav; samples outside -1..1 are clipped.

    The file appears whole or not at all: it is written under a temporary name and renamed.

    Raises:
        InputError: the place cannot be written (disk full, no permission).
    """
    write_waveforms(path, [waveform], sample_rate)


def write_waveforms(path: str | Path, waveforms: Iterable[np.ndarray], sample_rate: int = SAMPLE_RATE) -> None:
    """Write mono waveforms ``(N_i,)`` one after another into one wav, as ``write_waveform`` does, one in memory.

    Raises:
        InputError: the place cannot be written (disk full, no permission).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream, wave.open(stream, "wb") as file:
            file.setparams((1, 2, sample_rate, 0, "NONE", "not compressed"))
            for waveform in waveforms:
                scaled = np.rint(np.asarray(waveform, dtype=np.float64) * 32_768)
                file.writeframesraw(np.clip(scaled, -32_768, 32_767).astype("<i2").tobytes())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free space or choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Waveform plus noise at a signal-to-noise ratio: ``10 log10(power(waveform) / power(scaled noise)) = snr_db``.

    Args:
        waveform: ``(N,)``, power above 0.
        noise: ``(N,)``, power above 0; its own level does not matter.
        snr_db: ratio of the mean powers in decibel.

    Returns:
        The mixture ``(N,)``, float32; it can exceed -1..1.

    Raises:
        ValueError: lengths differ, or one of the two is silent, so that no ratio exists.
    """
    if waveform.shape != noise.shape:
        raise ValueError(f"waveform has {len(waveform)} samples, noise {len(noise)}")
    speech_power = float(np.mean(np.square(waveform, dtype=np.float64)))
    noise_power = float(np.mean(np.square(noise, dtype=np.float64)))
    if not speech_power or not noise_power:
        raise ValueError("a signal-to-noise ratio needs speech and noise that are not silent")
    scale = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    return (waveform + scale * noise).astype(np.float32)


def _name(source: str | Path | bytes) -> str:
    return "audio given as bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def _opened(source: str | Path | bytes) -> Iterator[_SequentialFile]:
    """The opened file; whatever libsndfile says against it, now or while it is read, becomes an InputError."""
    name = _name(source)
    if isinstance(source, bytes):
        empty = not source
    elif not Path(source).is_file():
        raise InputError(f"{name}: no such audio file; check the path")
    else:
        empty = Path(source).stat().st_size == 0
    if empty:
        raise InputError(f"{name}: is empty; record or copy it again")
    try:
        with _SequentialFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            if file.samplerate not in READABLE_RATES:
                raise InputError(f"{name}: claims a sample rate of {file.samplerate} Hz; its header is damaged")
            yield file
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: headerless .raw
        reason = " ".join(str(getattr(error, "error_string", error)).split())
        raise InputError(f"{name}: cannot be read as audio ({reason}); convert it to wav or flac") from error


def _blocks(file: _SequentialFile, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
    """Frames ``start`` to ``end`` as float32 blocks ``(n, channels)``, none of them empty."""
    if file.format != "MP3":  # what follows the frames promised is no sound; MP3 headers only estimate
        end = file.frames if end is None else min(end, file.frames)
        if start >= end:
            return
    if start:
        try:
            file.seek(start)
        except soundfile.SoundFileError:  # past the end
            return
    block_frames = max(1, _BLOCK_SAMPLES // file.channels)
    position = start
    while end is None or position < end:
        block = file.read(block_frames if end is None else min(block_frames, end - position), "float32", always_2d=True)
        if not len(block):
            return
        yield block
        position += len(block)


def _last_frame_is_there(file: _SequentialFile) -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(2)) == 1
    except soundfile.SoundFileError:
        return False


def _say_once(kind: str, message: str) -> None:
    if kind not in _said:
        _said.add(kind)
        _log.info(message)
