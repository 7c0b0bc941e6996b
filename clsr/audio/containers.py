"""What libsndfile does not read, m4a, mp4, aac, webm and kin -> blocks of samples, by FFmpeg (PyAV)."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from clsr.errors import InputError

if TYPE_CHECKING:
    from av import AudioFrame, Packet

# FFmpeg also reads playlists and the like, which name other files to open: a stranger's bytes must not.
FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac", "flv", "loas",
    "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "ogg", "tak", "tta", "wav", "webm", "wv", "xwma",
)  # fmt: skip
# Codecs whose packets give the same number of frames whatever was decoded before: skipped packets are still counted.
_COUNTABLE = ("aac", "opus")
_STEADY_PACKETS = 16  # alike in a row, and more of their kind are counted without being decoded
_WARM_UP_S = 0.5  # decoded before a span: the samples of a packet depend on those before it

_FULL_SCALE = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31}  # 1.0 in samples of each kind


class Container:
    """The first audio stream of a file, opened, and its first samples decoded; pictures and other streams are left.

    Frame 0 is the first that the container presents. The encoder's delay is left out where the file states it, in the
    edit list of mp4 and m4a or as the codec delay of webm and mka, and so is the padding that webm states at the end or
    mp4 by the duration of its last packet. Bare aac (ADTS) states nothing of the kind: its delay stays, 1,024 or more
    frames of near silence. Frames are counted, not dated: gaps between time stamps are not filled.

    Args:
        source: path of a plain file, or its bytes.

    Raises:
        InputError: the file cannot be opened, holds no audio stream, or nothing of it can be decoded.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        self._name = "audio given as bytes" if isinstance(source, bytes) else str(source)
        with ExitStack() as opening:
            if isinstance(source, bytes):
                self._file: BinaryIO = io.BytesIO(source)
            else:  # opened here, since FFmpeg would take a name like http:x for an address
                self._file = opening.enter_context(open(source, "rb"))
            self.samplerate = self.channels = 0  # until the first frame tells
            self._wanted_from = 0  # the first frame that is to be decoded
            self._container = opening.enter_context(self._open())
            self._pieces = self._decode()
            first = next(self._pieces, None)
            if first is None:
                raise InputError(f"{self._name}: holds no sound; remove it from the list")
            self._pieces = itertools.chain([first], self._pieces)
            self._closing = opening.pop_all()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: Any) -> None:
        self._closing.close()

    @property
    def claimed_s(self) -> float | None:
        """Length in seconds that the header claims, ``None`` if it does not."""
        claimed_us = self._container.duration
        return claimed_us / 1_000_000 if claimed_us and claimed_us > 0 else None

    def counted_frames(self) -> int | None:
        """Frames as far as known without decoding: ``None``, since these headers are seldom exact."""
        return None

    def blocks(self, start: int, end: int | None, block_frames: int) -> Iterator[np.ndarray]:
        """Frames ``start`` to ``end`` as float32 blocks ``(n, channels)`` of about ``block_frames``; once only.

        What lies before the span is decoded too, since compressed frames lean on those before them; of aac and opus,
        steady packets are counted instead, up to half a second before the span, which then sounds the same but for
        rounding. A block of no frames is given each time that ``block_frames`` have been skipped.

        Raises:
            InputError: the stream is damaged; what is good before that has been given.
        """
        position, waiting, waiting_frames = 0, [np.zeros((0, self.channels), np.float32)], 0
        damage = None
        self._wanted_from = start - round(_WARM_UP_S * self.samplerate)
        while damage is None and (end is None or position < end):
            try:
                piece = next(self._pieces, None)
            except InputError as error:
                damage = error
                break
            if piece is None:
                break
            kept = piece[max(0, start - position) : None if end is None else end - position]
            position += len(piece)
            waiting_frames += len(piece)
            if len(kept):
                waiting.append(kept)
            if waiting_frames >= block_frames:
                yield np.concatenate(waiting)
                waiting, waiting_frames = waiting[:1], 0
        if len(waiting) > 1:
            yield np.concatenate(waiting)
        if damage is not None:
            raise damage

    def _open(self) -> Any:
        import av
        from av.stream import Discard

        options = {"format_whitelist": ",".join(FORMATS)}
        try:
            container = av.open(self._file, "r", container_options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise self._unreadable(error) from error
        streams = container.streams
        if not streams.audio:
            container.close()
            raise InputError(f"{self._name}: holds no audio stream; check that it is the right file")
        if streams.audio[0].codec_context is None:  # PyAV 17 would crash
            container.close()
            raise InputError(f"{self._name}: is in a code that FFmpeg does not know; convert it to wav or flac")
        for stream in streams:
            if stream is not streams.audio[0]:
                stream.discard = Discard.all
        return container

    def _decode(self) -> Iterator[np.ndarray]:
        """Samples of each frame, float32 ``(n, channels)``, the last one cut to what its packet claims.

        What cannot be decoded at the very end is left out, as of any recording cut off; elsewhere it is damage.
        """
        last: AudioFrame | None = None
        for frame in self._frames():
            if last is not None:
                yield self._samples(last)
            if isinstance(frame, int):
                last = None
                yield np.broadcast_to(np.float32(0), (frame, self.channels))  # no memory, and never decoded
                continue
            last = frame
            if not self.samplerate:
                self.samplerate, self.channels = frame.sample_rate, frame.layout.nb_channels
            elif (frame.sample_rate, frame.layout.nb_channels) != (self.samplerate, self.channels):
                raise InputError(f"{self._name}: changes its sample rate or channels midway; convert it to wav or flac")
        if last is not None:
            yield self._samples(last)[: _claimed_frames(last)]

    def _frames(self) -> Iterator[AudioFrame | int]:
        """Frames of the decoder, and in place of those counted but not decoded, how long they are."""
        import av

        damage: Exception | None = None
        position, steady = 0, _Steady()
        for packet in self._packets():
            if position + steady.samples < self._wanted_from and steady.has(packet):
                position += steady.samples
                yield steady.samples
                continue
            try:
                frames: list[Any] = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                damage = damage or error
                continue
            if frames and damage and packet.size:  # an empty packet flushes what came before the damage
                raise self._unreadable(damage) from damage
            steady.note(packet, frames)
            position += sum(frame.samples for frame in frames)
            yield from frames
        if damage and not position:
            raise self._unreadable(damage) from damage

    def _packets(self) -> Iterator[Packet]:
        import av

        try:
            yield from self._container.demux(self._container.streams.audio[0])
        except (av.FFmpegError, ValueError) as error:
            if self._file.read(1):  # at its end, the file was cut off
                raise self._unreadable(error) from error

    def _samples(self, frame: AudioFrame) -> np.ndarray:
        """Samples of a frame, float32 ``(n, channels)``, 1.0 the loudest that its format can hold."""
        try:
            samples = frame.to_ndarray()
        except ValueError as error:  # integers of 64 bits
            raise self._unreadable(error) from error
        samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
        kind = frame.format.name.removesuffix("p")
        if kind in _FULL_SCALE:
            silence = 128 if kind == "u8" else 0
            samples = (samples.astype(np.float64) - silence) / _FULL_SCALE[kind]
        with np.errstate(over="ignore"):  # of float64: infinite ones are found out later
            return samples.astype(np.float32)

    def _unreadable(self, error: Exception) -> InputError:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        return InputError(f"{self._name}: cannot be read as audio ({reason}); convert it to wav or flac")


class _Steady:
    """Knows packets by their like: the same duration, and one frame of so many samples from each of the last ones."""

    def __init__(self) -> None:
        self.samples = 0
        self._duration: int | None = None
        self._packets = 0

    def note(self, packet: Packet, frames: list[AudioFrame]) -> None:
        samples = frames[0].samples if len(frames) == 1 else 0
        alike = samples > 0 and (samples, packet.duration) == (self.samples, self._duration)
        self._packets = self._packets + 1 if alike else 0
        self.samples, self._duration = samples, packet.duration

    def has(self, packet: Packet) -> bool:
        context = packet.stream.codec_context
        return (
            self._packets >= _STEADY_PACKETS
            and packet.duration == self._duration
            and context.name in _COUNTABLE
            and context.profile in (None, "LC")  # others lean on more than half a second
            and not packet.is_discard
            and not any(True for _ in packet.iter_sidedata())  # which marks the packet as cut
        )


def _claimed_frames(frame: AudioFrame) -> int:
    """How much of a frame its duration claims; all, where time stamps are too coarse to say."""
    if not frame.duration or not frame.time_base or frame.time_base * frame.sample_rate > 1:
        return frame.samples
    return min(frame.samples, round(frame.duration * frame.time_base * frame.sample_rate))
