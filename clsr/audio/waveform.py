"""Path or bytes -> mono float32 waveform ``(N,)`` at 16 kHz, whole or by seconds."""

import logging
import os
import wave
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from clsr.audio.containers import Container
from clsr.audio.content import counted_s
from clsr.audio.mixing import Mixer
from clsr.audio.parts import Content, FilePart, undecoded
from clsr.audio.sound_file import SoundFile, open_sound
from clsr.errors import InputError

AUDIO_SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".mp4", ".aac", ".webm", ".aif", ".aiff", ".wma", ".mka",
    ".mov", ".mkv", ".3gp", ".m4b", ".avi", ".caf", ".mp2", ".au", ".amr",
)  # fmt: skip
"""How the names of most recordings end. In folders, files of other names are taken if they begin as recordings do."""

SAMPLE_RATE = 16_000
READABLE_RATES = range(1_000, 768_001)  # outside it a header is taken for damaged: resampling would fill the memory

SHORT_S, SHORT_SHARE = 0.5, 0.01  # missing of what is promised: encoders add frames of silence, headers are rounded
BLOCK_S = 10.0  # of a stream, at most

_BLOCK_SAMPLES = 1 << 20  # decoded at a time, over all channels: what a header claims is never allocated
_DECODED_S = 8  # decoded at a time for a stream: short of a block by more than a resampler holds back
_FAULTS = (soundfile.SoundFileError, OSError, TypeError)  # TypeError: headerless .raw
_log = logging.getLogger("clsr")
_logged: set[str] = set()


class Header(NamedTuple):
    """What a recording is made of; ``frames`` is counted by decoding where the file's own word cannot be trusted."""

    sample_rate: int
    channels: int
    frames: int


class Remarks:
    """What there is to say of a recording that was read to its end.

    Attributes:
        losses: what of it could not be decoded.
        notes: what was done to it, or is wrong with its header, without any loss.
        changes: what is done to every such file, by kind: said of the first one alone (``say_once``).
    """

    def __init__(self) -> None:
        self.losses: list[str] = []
        self.notes: list[str] = []
        self.changes: dict[str, str] = {}


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
    waveforms = []
    for file, blocks in _sounds(source, start_s, end_s, Remarks()):
        waveform = np.concatenate([np.zeros(0, np.float32), *blocks])
        if not np.isfinite(waveform).all():
            raise _not_finite(name)
        if file.samplerate != SAMPLE_RATE:
            waveform = soxr.resample(waveform, file.samplerate, SAMPLE_RATE)
            if not np.isfinite(waveform).all():  # the largest numbers there are overflow
                raise _not_finite(name)
        waveforms.append(waveform)
    if not sum(map(len, waveforms)):
        raise _no_sound(name, start_s, end_s)
    return np.concatenate(waveforms).astype(np.float32, copy=False)


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
    source: str | Path | bytes, start_s: float = 0.0, end_s: float | None = None, remarks: Remarks | None = None
) -> Iterator[np.ndarray]:
    """As ``stream_waveform``, with empty blocks between: signs of life while what lies before the span is decoded.

    Args:
        source: path of the file, or its bytes.
        start_s: start of the span in seconds.
        end_s: end of the span in seconds.
        remarks: to fill in.

    Raises:
        InputError: as ``stream_waveform``.
    """
    name = _name(source)
    longest = round(BLOCK_S * SAMPLE_RATE)
    given = 0
    for file, blocks in _sounds(source, start_s, end_s, remarks or Remarks()):
        for block in _finite(name, _resampled(_finite(name, blocks), file.samplerate)):  # the largest numbers overflow
            yield from (block[first : first + longest] for first in range(0, max(1, len(block)), longest))
            given += len(block)
    if not given:
        raise _no_sound(name, start_s, end_s)
    if remarks and not (start_s or end_s or remarks.losses or remarks.notes):
        promised_s = promised_duration_s(source)
        if falls_short(given / SAMPLE_RATE, promised_s):
            remarks.notes.append(
                f"its header promises {promised_s:.1f} s, {given / SAMPLE_RATE:.1f} s are there: it was cut off"
            )


def read_header(path: str | Path) -> Header:
    """Sample rate, channels and true number of frames of a recording, those of its first part if it was joined.

    The frame count in the header is believed when the last frame it promises can be read; MP3, whose headers only
    estimate, and anything else is decoded and counted. Does not look for samples that are not finite.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    with _content(path) as content:
        counted = [_part_header(content, part) for part in content.parts()]
    rate, channels = counted[0].sample_rate, counted[0].channels
    frames = sum(
        one.frames if one.sample_rate == rate else round(one.frames / one.sample_rate * rate) for one in counted
    )
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
    with _content(path) as content:
        claims = []
        for part in content.parts():
            with _opened(content, part) as file:
                claims.append(file.claimed_s)
    return None if None in claims else sum(filter(None, claims))


def promised_duration_s(source: str | Path | bytes) -> float | None:
    """Length of a recording in seconds without decoding it, by what can be relied on; ``None`` if nothing can.

    That is the number of frames of mp3 and bare aac, each counted, and elsewhere what headers state. A recording that
    was cut off has less.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    promised_s = 0.0
    with _content(source) as content:
        for part in content.parts():
            part_s = None if part.header else counted_s(content.at, part.start, part.end)
            if part_s is None:
                with _opened(content, part) as file:
                    part_s = file.promised_s
            if part_s is None:
                return None
            promised_s += part_s
    return promised_s


def falls_short(found_s: float, promised_s: float | None) -> bool:
    """Whether decoded seconds are fewer than promised, by more than encoders add."""
    return promised_s is not None and found_s < promised_s - max(SHORT_S, SHORT_SHARE * promised_s)


def decoded_duration_s(path: str | Path) -> float:
    """Length of a recording in seconds after decoding the whole of it, block by block.

    Raises:
        InputError: the file is missing, empty, damaged anywhere, or has samples that are not finite.
    """
    total_s = 0.0
    for file, blocks in _sounds(path, 0.0, None, Remarks()):
        total_s += sum(len(block) for block in _finite(str(path), blocks)) / file.samplerate
    if not total_s:
        raise InputError(f"{path}: holds no sound; remove it from the list")
    return total_s


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
def _content(source: str | Path | bytes) -> Iterator[Content]:
    """The bytes of a recording.

    Raises:
        InputError: there are none.
    """
    name = _name(source)
    with _faults_named(name):
        if isinstance(source, bytes):
            empty = not source
        elif not Path(source).is_file():  # a pipe or a device is none: it could keep us waiting for ever
            raise InputError(f"{name}: no such audio file; check the path")
        else:
            empty = Path(source).stat().st_size == 0
        if empty:
            raise InputError(f"{name}: is empty; record or copy it again")
        with Content(source) as content:
            yield content


@contextmanager
def _faults_named(name: str) -> Iterator[None]:
    """Turn each fault of a recording into an InputError."""
    try:
        yield
    except _FAULTS as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        reason = " ".join(str(reason).split())
        raise InputError(f"{name}: cannot be read as audio ({reason}); convert it to wav or flac") from error


@contextmanager
def _opened(content: Content, part: FilePart) -> Iterator[SoundFile | Container]:
    with open_sound(content, part) as file:
        if file.samplerate not in READABLE_RATES:
            raise InputError(f"{content.name}: claims a sample rate of {file.samplerate} Hz; its header is damaged")
        yield file


def _part_header(content: Content, part: FilePart) -> Header:
    with _opened(content, part) as file:
        frames = file.counted_frames()
        rate, channels = file.samplerate, file.channels
    if frames is None:  # opened afresh: a failed seek may leave a decoder anywhere
        with _opened(content, part) as file:
            frames = sum(len(block) for block in file.blocks(0, None, max(1, _BLOCK_SAMPLES // channels)))
    return Header(rate, channels, frames)


def _sounds(
    source: str | Path | bytes, start_s: float, end_s: float | None, remarks: Remarks
) -> Iterator[tuple[SoundFile | Container, Iterator[np.ndarray]]]:
    """The parts of a file that a span lies in, one after the other, each with the mono blocks ``(n,)`` of it."""
    name = _name(source)
    if not start_s >= 0 or (end_s is not None and not end_s > start_s):
        raise InputError(f"{name}: {start_s} to {end_s} s is not a span of time; give 0 <= start < end")
    with _content(source) as content:
        parts = content.parts()
        before_s = 0.0  # the length of the parts that are done
        for part in parts:
            if end_s is not None and end_s <= before_s:
                return
            if len(parts) > 1 and (start_s or end_s is not None):
                header = _part_header(content, part)
                length_s = header.frames / header.sample_rate
                if start_s >= before_s + length_s:
                    before_s += length_s
                    continue
            else:
                length_s = 0.0
            with _opened(content, part) as file:
                rate = file.samplerate
                start = max(0, round((start_s - before_s) * rate))
                end = None if end_s is None else round((end_s - before_s) * rate)
                mixer = Mixer(rate)
                remarks.changes |= _changes(name, file)
                say_once(remarks.changes)
                yield file, _mono(name, file, mixer, start, end)
                _remark(remarks, name, part, file, mixer)
            before_s += length_s


def _mono(name: str, file: SoundFile | Container, mixer: Mixer, start: int, end: int | None) -> Iterator[np.ndarray]:
    block_frames = max(1, min(_DECODED_S * file.samplerate, _BLOCK_SAMPLES // file.channels))
    with _faults_named(name):
        if file.channels == 1:
            yield from (block[:, 0] for block in file.blocks(start, end, block_frames))
        else:
            yield from mixer.mono(file.blocks(*mixer.whole_seconds(start, end), block_frames), start, end)


def _remark(remarks: Remarks, name: str, part: FilePart, file: SoundFile | Container, mixer: Mixer) -> None:
    remarks.losses += file.losses or [undecoded(part.lost, part)] * (part.lost > 0)
    if part.remark:
        remarks.notes.append(part.remark)
    if mixer.opposite_s:
        remarks.notes.append(
            f"its channels cancel each other out in {mixer.opposite_s} s: the louder one is used there"
        )
        say_once({"opposite": f"{name}: {remarks.notes[-1]} (further files are not mentioned)"})


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
    except InputError as error:
        fault = error
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if fault is not None:
        raise fault


def _not_finite(name: str) -> InputError:
    return InputError(f"{name}: has samples that are not finite numbers; export it again as 16-bit PCM")


def _no_sound(name: str, start_s: float, end_s: float | None) -> InputError:
    return InputError(f"{name}: no sound between {start_s} s and {end_s or 'the end'}; remove it or mend its times")


def _changes(name: str, file: SoundFile | Container) -> dict[str, str]:
    found = {}
    if file.channels > 1:
        found["mixed"] = f"{name}: {file.channels} channels are averaged to one (further files are not mentioned)"
    if file.samplerate != SAMPLE_RATE:
        rate = file.samplerate
        found["resampled"] = f"{name}: {rate} Hz is resampled to 16000 Hz (further files are not mentioned)"
    return found


def say_once(messages: Mapping[str, str]) -> None:
    """Log messages, the first one of each kind in this process."""
    for kind, message in messages.items():
        if kind not in _logged:
            _logged.add(kind)
            _log.info(message)
