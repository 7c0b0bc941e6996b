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

from clsr.audio.containers import Container
from clsr.errors import InputError

AUDIO_SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".mp4", ".aac", ".webm", ".aif", ".aiff", ".wma", ".mka",
    ".mov",
)  # fmt: skip
"""How the names of recordings end: what is looked for in folders. Anything that decodes is read, whatever its name."""

SAMPLE_RATE = 16_000
READABLE_RATES = range(1_000, 768_001)  # outside it a header is taken for damaged: resampling would fill the memory

BLOCK_S = 10.0  # of a stream, at most

_BLOCK_SAMPLES = 1 << 20  # decoded at a time, over all channels: what a header claims is never allocated
_DECODED_S = 8  # decoded at a time for a stream: short of a block by more than a resampler holds back
_UNKNOWN_FRAMES = 1 << 60  # libsndfile's word for a length that the header does not say is about 2**63
_UNRECOGNISED = 1  # libsndfile's code for a format that it does not know
_FAULTS = (soundfile.SoundFileError, OSError, TypeError)  # TypeError: headerless .raw
_log = logging.getLogger("clsr")
_logged: set[str] = set()


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

    @property
    def claimed_s(self) -> float | None:
        """Length in seconds that the header claims, ``None`` if it does not."""
        return self.frames / self.samplerate if 0 < self.frames < _UNKNOWN_FRAMES else None

    def blocks(self, start: int, end: int | None, block_frames: int) -> Iterator[np.ndarray]:
        """Frames ``start`` to ``end`` as float32 blocks ``(n, channels)``, none of them empty."""
        if self.format != "MP3":  # what follows the frames promised is no sound; MP3 headers only estimate
            end = self.frames if end is None else min(end, self.frames)
            if start >= end:
                return
        if start:
            try:
                self.seek(start)
            except soundfile.SoundFileError:  # past the end
                return
        position = start
        while end is None or position < end:
            wanted = block_frames if end is None else min(block_frames, end - position)
            block = self.read(wanted, "float32", always_2d=True)
            if not len(block):
                return
            yield block
            position += len(block)

    def counted_frames(self) -> int | None:
        """Frames that the header promises, if the last one can be read; ``None`` if they are to be counted."""
        return self.frames if self.format != "MP3" and self._last_frame_is_there() else None

    def _last_frame_is_there(self) -> bool:
        try:
            self.seek(self.frames - 1)
            return len(self.read(2)) == 1
        except soundfile.SoundFileError:
            return False


def read_waveform(source: str | Path | bytes, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
    """Mono waveform of a recording, or of a span of it, at 16 kHz.

    Channels are averaged and other rates resampled (soxr), each logged once a process. A span that reaches past the end
    gives what there is. Reads what libsndfile reads: wav, flac, ogg, opus, mp3, aiff and their kin; and what FFmpeg's
    libraries read of the rest: m4a, mp4, aac, webm and their kin (``clsr.audio.containers``).

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
    with _opened(source) as file:
        start, end = _frames(name, start_s, end_s, file.samplerate)
        blocks = [_mixed(block) for block in file.blocks(start, end, max(1, _BLOCK_SAMPLES // file.channels))]
        rate = file.samplerate
        waveform = np.concatenate(blocks or [np.zeros(0, np.float32)])
        if not np.isfinite(waveform).all():
            raise _not_finite(name)
        _say_what_changes(name, file)
    if rate != SAMPLE_RATE:
        waveform = soxr.resample(waveform, rate, SAMPLE_RATE)
        if not np.isfinite(waveform).all():  # the largest numbers there are overflow
            raise _not_finite(name)
    if not len(waveform):
        raise _no_sound(name, start_s, end_s)
    return waveform.astype(np.float32, copy=False)


def stream_waveform(
    source: str | Path | bytes, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[np.ndarray]:
    """The samples of ``read_waveform``, block after block, while memory stays the same whatever the length.

    What is good before a fault is given before the error is raised.

    Args:
        source: path of the file, or its bytes.
        start_s: start of the span in seconds, at least 0.
        end_s: end of the span in seconds, after the start; ``None`` is the end of the recording.

    Yields:
        Blocks ``(n,)``, float32, of at most ten seconds, none empty, every sample finite.

    Raises:
        InputError: as ``read_waveform``, where the fault is come to.
    """
    return (block for block in stream_progress(source, start_s, end_s) if len(block))


def stream_progress(
    source: str | Path | bytes, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[np.ndarray]:
    """As ``stream_waveform``, with empty blocks between: signs of life while what lies before the span is decoded.

    Raises:
        InputError: as ``stream_waveform``.
    """
    name = _name(source)
    longest = round(BLOCK_S * SAMPLE_RATE)
    given = 0
    with _opened(source) as file:
        start, end = _frames(name, start_s, end_s, file.samplerate)
        _say_what_changes(name, file)
        block_frames = max(1, min(_DECODED_S * file.samplerate, _BLOCK_SAMPLES // file.channels))
        blocks = _finite(name, (_mixed(block) for block in file.blocks(start, end, block_frames)))
        for block in _finite(name, _resampled(blocks, file.samplerate)):  # the largest numbers overflow
            yield from (block[first : first + longest] for first in range(0, max(1, len(block)), longest))
            given += len(block)
    if not given:
        raise _no_sound(name, start_s, end_s)


def read_header(path: str | Path) -> Header:
    """Sample rate, channels and true number of frames of a recording.

    The frame count in the header is believed when the last frame it promises can be read; MP3, whose headers only
    estimate, and anything else is decoded and counted. Does not look for samples that are not finite.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    with _opened(path) as file:
        frames = file.counted_frames()
        rate, channels = file.samplerate, file.channels
    if frames is None:  # opened afresh: a failed seek may leave a decoder anywhere
        with _opened(path) as file:
            frames = sum(len(block) for block in file.blocks(0, None, max(1, _BLOCK_SAMPLES // channels)))
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


def claimed_duration_s(path: str | Path) -> float | None:
    """Length of a recording in seconds as its header claims, true or not; ``None`` if it does not say.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    with _opened(path) as file:
        return file.claimed_s


def decoded_duration_s(path: str | Path) -> float:
    """Length of a recording in seconds after decoding the whole of it, block by block.

    Raises:
        InputError: the file is missing, empty, damaged anywhere, or has samples that are not finite.
    """
    with _opened(path) as file:
        blocks = file.blocks(0, None, max(1, _BLOCK_SAMPLES // file.channels))
        frames = sum(len(block) for block in _finite(str(path), blocks))
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
def _opened(source: str | Path | bytes) -> Iterator[_SequentialFile | Container]:
    """The opened file; each fault of it, now or while it is read, becomes an InputError."""
    name = _name(source)
    try:
        if isinstance(source, bytes):
            empty = not source
        elif not Path(source).is_file():  # a pipe or a device is none: it could keep us waiting for ever
            raise InputError(f"{name}: no such audio file; check the path")
        else:
            empty = Path(source).stat().st_size == 0
        if empty:
            raise InputError(f"{name}: is empty; record or copy it again")
        with _decoder(source) as file:
            if file.samplerate not in READABLE_RATES:
                raise InputError(f"{name}: claims a sample rate of {file.samplerate} Hz; its header is damaged")
            yield file
    except _FAULTS as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        reason = " ".join(str(reason).split())
        raise InputError(f"{name}: cannot be read as audio ({reason}); convert it to wav or flac") from error


def _decoder(source: str | Path | bytes) -> _SequentialFile | Container:
    try:
        return _SequentialFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (soundfile.SoundFileError, TypeError) as error:
        try:
            return Container(source)
        except InputError:
            if getattr(error, "code", _UNRECOGNISED) == _UNRECOGNISED:
                raise
        raise  # libsndfile knows the format, and so what is wrong


def _frames(name: str, start_s: float, end_s: float | None, rate: int) -> tuple[int, int | None]:
    """First frame and end of a span of time."""
    if not start_s >= 0 or (end_s is not None and not end_s > start_s):
        raise InputError(f"{name}: {start_s} to {end_s} s is not a span of time; give 0 <= start < end")
    return round(start_s * rate), None if end_s is None else round(end_s * rate)


def _mixed(block: np.ndarray) -> np.ndarray:
    """Mono ``(n,)`` of ``(n, channels)``."""
    with np.errstate(over="ignore", invalid="ignore"):  # samples that are no numbers are refused, not warned of
        return block.mean(axis=1)


def _finite(name: str, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        if not np.isfinite(block).all():
            raise _not_finite(name)
        yield block


def _resampled(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Mono blocks at 16 kHz; what the resampler has buffered is given before an error is raised."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32")
    fault = None
    try:
        for block in blocks:
            yield resampler.resample_chunk(block)
    except (InputError, *_FAULTS) as error:
        fault = error
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if fault is not None:
        raise fault


def _not_finite(name: str) -> InputError:
    return InputError(f"{name}: has samples that are not finite numbers; export it again as 16-bit PCM")


def _no_sound(name: str, start_s: float, end_s: float | None) -> InputError:
    return InputError(f"{name}: no sound between {start_s} s and {end_s or 'the end'}; remove it or mend its times")


def _say_what_changes(name: str, file: _SequentialFile | Container) -> None:
    if file.channels > 1:
        _say_once("mixed", f"{name}: {file.channels} channels are averaged to one (further files are not mentioned)")
    if file.samplerate != SAMPLE_RATE:
        rate = file.samplerate
        _say_once("resampled", f"{name}: {rate} Hz is resampled to 16000 Hz (further files are not mentioned)")


def _say_once(kind: str, message: str) -> None:
    if kind not in _logged:
        _logged.add(kind)
        _log.info(message)
