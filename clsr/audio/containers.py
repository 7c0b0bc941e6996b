"""What libsndfile does not read, m4a, mp4, aac, webm and kin -> blocks of samples, by FFmpeg (PyAV)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr

from clsr.audio.parts import CONSIDERABLE_BYTES, Content, FilePart, View, undecoded
from clsr.errors import InputError

if TYPE_CHECKING:
    from av import AudioFrame, Packet

# FFmpeg also reads playlists and the like, which name other files to open: a stranger's bytes must not.
FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac", "flv", "loas",
    "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "ogg", "rm", "shn", "tak", "tta", "voc", "w64", "wav",
    "webm", "wv", "xwma",
)  # fmt: skip
# Codecs whose packets give the same number of frames whatever was decoded before: skipped packets are still counted.
_COUNTABLE = ("aac", "opus")
_BARE = ("aac", "ac3", "amr", "dts", "eac3", "flac", "loas", "mp3")  # nothing but frames, from first to last
_ESTIMATED = (*_BARE, "mpeg", "mpegts", "rm")  # lengths by the bit rate, or by time stamps that may jump
_STEADY_PACKETS = 16  # alike in a row, and more of their kind are counted without being decoded
_WARM_UP_S = 0.5  # decoded before a span: the samples of a packet depend on those before it

_FULL_SCALE = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31}  # 1.0 in samples of each kind


class Container:
    """The first audio stream of a file, opened, and its first samples decoded; pictures and other streams are left.

    Frame 0 is the first that the container presents. The encoder's delay is left out where the file states it, in the
    edit list of mp4 and m4a or as the codec delay of webm and mka, and so is the padding that webm states at the end or
    mp4 by the duration of its last packet. Bare aac (ADTS) states nothing of the kind: its delay stays, 1,024 or more
    frames of near silence. Frames are counted, not dated: gaps between time stamps are not filled.

    The first frame gives the sample rate and the channels. Where they change later, what follows is resampled, and has
    the mean of its channels in each of the first ones.

    Attributes:
        losses: what could not be decoded, once all blocks have been taken.

    Args:
        content: of the file.
        part: of it.

    Raises:
        InputError: the file cannot be opened, holds no audio stream, or nothing of it can be decoded.
    """

    def __init__(self, content: Content, part: FilePart) -> None:
        self._name = content.name
        self._content, self._part = content, part
        self._file = View(content, part)
        self._resampler: soxr.ResampleStream | None = None  # where the rate is not the first one
        self._resampled_rate = 0
        self._undecoded = 0  # bytes since the last frame
        self._decoded_to = 0  # place in the part
        self._skipped = 0  # bytes before it, in which FFmpeg found no frame
        self.losses: list[str] = []
        with ExitStack() as opening:
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

    @property
    def promised_s(self) -> float | None:
        """Length in seconds by a header that states it; ``None`` where it would be an estimate, or be of pictures."""
        stream = self._container.streams.audio[0]
        if self._container.format.name in _ESTIMATED:
            return None
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return self.claimed_s if len(self._container.streams) == 1 else None

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
                self._note_losses()
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
        rate = 0
        for frame in self._frames():
            if last is not None:
                yield from self._alike(self._samples(last), rate)
            if isinstance(frame, int):
                last = None
                yield np.broadcast_to(np.float32(0), (frame, self.channels))  # no memory, and never decoded
                continue
            last, rate = frame, frame.sample_rate
            if not self.samplerate:
                self.samplerate, self.channels = rate, frame.layout.nb_channels
        if last is not None:
            yield from self._alike(self._samples(last)[: _claimed_frames(last)], rate)
        if self.samplerate:
            yield from self._alike(np.zeros((0, self.channels), np.float32), self.samplerate)

    def _alike(self, samples: np.ndarray, rate: int) -> Iterator[np.ndarray]:
        """Samples ``(n, channels)`` at the first rate and with the first number of channels."""
        if samples.shape[1] != self.channels:
            samples = np.repeat(samples.mean(axis=1, keepdims=True), self.channels, axis=1)
        if self._resampler is not None and rate != self._resampled_rate:  # what it holds back comes first
            yield self._resampler.resample_chunk(samples[:0], last=True)
            self._resampler = None
        if rate != self.samplerate:
            if self._resampler is None:
                self._resampler = soxr.ResampleStream(rate, self.samplerate, self.channels, "float32")
                self._resampled_rate = rate
            samples = self._resampler.resample_chunk(np.ascontiguousarray(samples))
        yield samples

    def _frames(self) -> Iterator[AudioFrame | int]:
        """Frames of the decoder, and in place of those counted but not decoded, how long they are."""
        import av

        damage: Exception | None = None
        position, steady = 0, _Steady()
        for packet in self._packets():
            if position + steady.samples < self._wanted_from and steady.has(packet) and self._resampler is None:
                position += steady.samples
                yield steady.samples
                continue
            try:
                frames: list[Any] = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                damage = damage or error
                self._undecoded += packet.size
                continue
            if frames and damage and packet.size:  # an empty packet flushes what came before the damage
                if self._container.format.name != "mp3":  # any frame of which can be the first
                    raise self._unreadable(damage) from damage
                self._skipped, self._undecoded, damage = self._skipped + self._undecoded, 0, None
            steady.note(packet, frames)
            if frames and packet.pos is not None:
                self._note_gap(packet.pos)
                self._decoded_to = packet.pos + packet.size
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

    def _note_gap(self, position: int) -> None:
        """Count what lies between frames that follow on one another; tags do."""
        start = self._part.start
        if self._container.format.name in _BARE and 0 < self._decoded_to < position:
            after = self._content.after_tags(start + self._decoded_to) - start
            self._skipped += max(0, position - after)

    def _note_losses(self) -> None:
        """Note bytes that were not read, or read and not decoded, if they are many: speech may be among them."""
        pictures = any(stream.type != "audio" for stream in self._container.streams)
        unread = 0 if pictures else self._file.size - self._file.furthest  # pictures may follow the sound
        if self._container.format.name in _BARE and self._decoded_to:
            unread = max(unread, self._file.size - self._decoded_to)
        self.losses += self._content.loss(self._part.end - max(unread, self._undecoded), self._part)
        if not self.losses and self._skipped >= CONSIDERABLE_BYTES:
            self.losses.append(undecoded(self._skipped, self._part))

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
