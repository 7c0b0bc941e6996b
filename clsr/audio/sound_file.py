"""What libsndfile reads, wav, flac, ogg, mp3, aiff and kin -> blocks of samples; FFmpeg continues where it stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import soundfile

from clsr.audio.containers import Container
from clsr.audio.parts import CONSIDERABLE_BYTES, Content, FilePart, View
from clsr.errors import InputError

SURPLUS_S = 0.1  # less that FFmpeg has more is how the two count the padding of an encoder

_UNKNOWN_FRAMES = 1 << 60  # libsndfile's word for a length that the header does not say is about 2**63
_UNRECOGNISED = 1  # libsndfile's code for a format that it does not know
_CHANGES = "mid stream"  # in its word for a FLAC file that changes its rate or channels
_FOLLOWED = ("MP3", "FLAC")  # which libsndfile reads to the length that is promised, however much there is
_KNOWN = ("WAV", "WAVEX", "RF64", "AIFF", "CAF", "AU", "OGG")  # whose parts are looked at to their last byte


class SoundFile(soundfile.SoundFile):
    """A part of a file, opened by libsndfile. It is not sought to where it already stands.

    ``soundfile.SoundFile`` does that after each read, and so fails at the end of a FLAC stream that does not know its
    length.

    Attributes:
        losses: what could not be decoded, once all blocks have been taken.

    Args:
        content: of the file.
        part: of it.

    Raises:
        SoundFileError: libsndfile does not read it.
    """

    def __init__(self, content: Content, part: FilePart) -> None:
        self._content = content
        self._part = part
        self._view: View | None = None
        self._descriptor: int | None = None
        self.losses: list[str] = []
        source = content.source
        if isinstance(source, bytes) or not content.is_whole(part):
            self._view = View(content, part)
            super().__init__(self._view)
            return
        self._descriptor = os.open(source, os.O_RDONLY)  # a number tells, later, how far libsndfile has read
        try:
            super().__init__(self._descriptor, closefd=False)
        except soundfile.LibsndfileError as error:
            os.close(self._descriptor)
            self._descriptor = None
            if error.code != _UNRECOGNISED:
                raise
            try:
                super().__init__(source)  # by its name libsndfile knows some more
            except soundfile.LibsndfileError:
                raise error from None  # which says what is wrong, and not that there is no such file

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def seekable(self) -> bool:
        """No: see above."""
        return False

    @property
    def claimed_s(self) -> float | None:
        """Length in seconds that the header claims, ``None`` if it does not."""
        return self.frames / self.samplerate if 0 < self.frames < _UNKNOWN_FRAMES else None

    @property
    def promised_s(self) -> float | None:
        """Length in seconds by a header that states it; ``None`` where it would be an estimate."""
        return None if self.format == "MP3" else self.claimed_s

    def counted_frames(self) -> int | None:
        """Frames that the header promises, if the last one can be read and ends the file; ``None``: to be counted."""
        if self.format == "MP3" or not self._last_frame_is_there():
            return None
        return None if self.format in _FOLLOWED and self._unread() >= CONSIDERABLE_BYTES else self.frames

    def blocks(self, start: int, end: int | None, block_frames: int) -> Iterator[np.ndarray]:
        """Frames ``start`` to ``end`` as float32 blocks ``(n, channels)``; empty ones while others are skipped.

        Of mp3 and flac, what follows the length promised is read by FFmpeg.
        """
        position, changes = start, False
        try:
            for block in self._promised(start, end, block_frames):
                position += len(block)
                yield block
        except soundfile.LibsndfileError as error:
            if self.format != "MP3" and _CHANGES not in error.error_string:  # in MP3, it fails at 1,024 bytes of junk
                raise
            changes = True
        if self.format in _FOLLOWED and (end is None or position < end):
            unread = self._unread()
            if changes or unread >= CONSIDERABLE_BYTES // 2:
                yield from self._go_on(position, end, block_frames, unread)
        elif end is None and self.format not in _KNOWN:
            self.losses += self._content.loss(self._part.end - self._unread(), self._part)

    def _promised(self, start: int, end: int | None, block_frames: int) -> Iterator[np.ndarray]:
        if self.format != "MP3":  # MP3 headers only estimate
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

    def _go_on(self, start: int, end: int | None, block_frames: int, unread: int) -> Iterator[np.ndarray]:
        """What FFmpeg has from a frame on, unless it is too little to be more than another count of padding."""
        least = round(SURPLUS_S * self.samplerate)
        found, whole = 0, False
        with suppress(InputError), Container(self._content, self._part) as rest:  # told below: all of it is unread
            if rest.samplerate == self.samplerate:
                waiting: list[np.ndarray] = []
                for block in rest.blocks(start, end, block_frames):
                    found += len(block)
                    waiting.append(_with_channels(block, self.channels))
                    if found >= least:
                        yield from waiting
                        waiting = []
                self.losses += rest.losses
                whole = True
        if end is None and not self.losses and not (whole and found >= least):
            self.losses += self._content.loss(self._part.end - unread, self._part)

    def _unread(self) -> int:
        """Bytes of the part after the last that libsndfile has read."""
        if self._view is not None:
            return self._view.size - self._view.tell()
        if self._descriptor is None:
            return 0
        return self._part.end - os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def _last_frame_is_there(self) -> bool:
        try:
            self.seek(self.frames - 1)
            return len(self.read(2)) == 1
        except soundfile.SoundFileError:
            return False


def open_sound(content: Content, part: FilePart) -> SoundFile | Container:
    """A part of a file, opened by libsndfile, or by FFmpeg where libsndfile does not know the format.

    Raises:
        SoundFileError: libsndfile knows the format and refuses it.
        InputError: neither knows it.
    """
    try:
        return SoundFile(content, part)
    except (soundfile.SoundFileError, TypeError) as error:
        try:
            return Container(content, part)
        except InputError:
            if getattr(error, "code", _UNRECOGNISED) == _UNRECOGNISED:
                raise
        raise  # libsndfile knows the format, and so what is wrong


def _with_channels(block: np.ndarray, channels: int) -> np.ndarray:
    """Samples ``(n, C)`` with another number of channels: their mean in each of them."""
    if block.shape[1] == channels:
        return block
    return np.repeat(block.mean(axis=1, keepdims=True), channels, axis=1)
