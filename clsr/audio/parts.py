"""A file's bytes -> its parts: recordings joined one after the other, and headers whose sizes are wrong put right."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from clsr.audio.content import HEAD_BYTES, begins_recording, is_mpeg_audio, mpeg_frame, tag_end

CONSIDERABLE_BYTES = 1_024  # less is a tag, or less than a tenth of a second of anything but the lowest bit rates
LOSS_SHARE = 0.01  # of a file's bytes, that may stay unread without a word
UNKNOWN_SIZE = 0x7FFFFFF0  # and more: what recorders write that do not know the size yet

_BLOCK_BYTES = 1 << 20
_PATTERN_BYTES = 64  # that a pattern to be found has at most
_LYRICS_END = re.compile(b"LYRICS(200|END)")


class FilePart(NamedTuple):
    """A recording inside a file.

    Attributes:
        start: its first byte.
        end: the byte after its last.
        header: what stands in place of as many of its first bytes, where the sizes in them are wrong.
        remark: what is wrong with them, where that is worth a line.
        lost: bytes at its end that are not of its format.
    """

    start: int
    end: int
    header: bytes = b""
    remark: str = ""
    lost: int = 0


class Content:
    """Random access to the bytes of a file, or of bytes at hand.

    Args:
        source: path of the file, or its bytes.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        self.source = source
        if isinstance(source, bytes):
            self._descriptor, self.size = -1, len(source)
        else:  # opened by number: FFmpeg would take a name like http:x for an address
            self._descriptor = os.open(source, os.O_RDONLY)
            self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def at(self, start: int, size: int) -> bytes:
        """So many bytes from a place on; fewer at the end."""
        if isinstance(self.source, bytes):
            return self.source[start : start + size]
        return os.pread(self._descriptor, max(0, size), start)

    def find(self, pattern: re.Pattern[bytes], start: int) -> Iterator[int]:
        """The places from ``start`` on where a pattern of at most 64 bytes begins."""
        position = start
        while position < self.size:
            block = self.at(position, _BLOCK_BYTES + _PATTERN_BYTES)
            last = position + len(block) >= self.size
            for match in pattern.finditer(block):
                if match.start() < _BLOCK_BYTES or last:
                    yield position + match.start()
            position += len(block) if last else _BLOCK_BYTES

    def after_tags(self, start: int) -> int:
        """Where the tags end that begin at a place."""
        end = start
        while end < self.size:
            head = self.at(end, 16)
            if head.startswith(b"ID3"):
                tag = tag_end(self.at, end) - end
            elif head.startswith(b"TAG"):
                tag = 227 if head.startswith(b"TAG+") else 128
            elif head.startswith(b"APETAGEX") and len(head) == 16:
                tag = 32 + int.from_bytes(head[12:], "little")
            elif head.startswith(b"LYRICSBEGIN"):
                tag = next(self.find(_LYRICS_END, end), self.size - 9) + 9 - end
            else:
                tag = 0
            if not tag:
                break
            end += tag
        return end

    @property
    def name(self) -> str:
        """What messages call it."""
        return "audio given as bytes" if isinstance(self.source, bytes) else str(self.source)

    def parts(self) -> tuple[FilePart, ...]:
        """The recordings in it, in order; one at least."""
        if isinstance(self.source, bytes):
            return tuple(_find_parts(self))
        state = os.fstat(self._descriptor)
        return _known_parts(os.path.abspath(self.source), state.st_size, state.st_mtime_ns)

    def is_whole(self, part: FilePart) -> bool:
        """Whether a part is the file as it stands."""
        return (part.start, part.end, part.header) == (0, self.size, b"")

    def loss(self, start: int, part: FilePart) -> list[str]:
        """The line on what of a part was not read from a place on; none where that is no considerable share of it."""
        unread, size = part.end - start, part.end - part.start
        if unread < max(CONSIDERABLE_BYTES, LOSS_SHARE * size) or self.holds_tags(start, part.end):
            return []
        return [undecoded(unread, part)]

    def holds_tags(self, start: int, end: int | None = None) -> bool:
        """Whether nothing but tags, zeros or a few bytes lies from a place to another one, the end of the file."""
        end = self.size if end is None else end
        after = self.after_tags(start)
        if end - after < CONSIDERABLE_BYTES:
            return True
        if after > start:
            return not begins_recording(self.at(after, HEAD_BYTES))
        blocks = ((place, min(_BLOCK_BYTES, end - place)) for place in range(start, end, _BLOCK_BYTES))
        return not any(self.at(*block).strip(b"\0") for block in blocks)


def undecoded(unread: int, part: FilePart) -> str:
    """The line on so many bytes of a part that no decoder reads."""
    return f"{unread:,} of {part.end - part.start:,} bytes could not be decoded; convert it to wav or flac"


class View(io.RawIOBase):
    """A part of a file as a file of its own, its header put right.

    Attributes:
        furthest: the byte after the last that was read.
    """

    def __init__(self, content: Content, part: FilePart) -> None:
        self._content = content
        self._part = part
        self._position = 0
        self.size = part.end - part.start
        self.furthest = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, from the start, from here or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """The place of the next byte."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return how many bytes came."""
        header = self._part.header
        if self._position < len(header):
            found = header[self._position : self._position + len(buffer)]
        else:
            wanted = min(len(buffer), self.size - self._position)
            found = self._content.at(self._part.start + self._position, wanted)
        buffer[: len(found)] = found
        self._position += len(found)
        self.furthest = max(self.furthest, self._position)
        return len(found)


@lru_cache(maxsize=256)
def _known_parts(path: str, _size: int, _modified_ns: int) -> tuple[FilePart, ...]:
    with Content(path) as content:
        return tuple(_find_parts(content))


def _find_parts(content: Content) -> list[FilePart]:
    """The parts of a file, of one format after the other."""
    parts: list[FilePart] = []
    start = 0
    while not parts or start < content.size:
        found = _parts_from(content, start)
        if found[-1].end <= start:  # of a header alone
            found = [FilePart(start, content.size)]
        parts += found
        start = found[-1].end
    return parts


def _parts_from(content: Content, start: int) -> list[FilePart]:
    """The parts of one format from a place on, to the end or to where another format begins."""
    first = tag_end(content.at, start)  # tags before it belong to the first part
    head = content.at(first, HEAD_BYTES) or content.at(start, HEAD_BYTES)
    for kind in _CHUNKED:
        if kind.begin.match(head):
            return _chunked_parts(content, kind, first)
    if head.startswith(b".snd"):
        return _au_parts(content, first)
    starts, end = [start], content.size
    if head.startswith(b"OggS"):
        starts, end = _ogg_starts(content, first)
    elif head[4:8] == b"ftyp":
        starts, end = _mp4_starts(content, first)
    elif any((begin := mark).match(head) for mark in _MARKS):
        starts = [start, *content.find(begin, first + 1)]
    elif (first := _first_mpeg_frame(content, first)) >= 0:
        starts = [start, *_later_mpeg_starts(content, first)]
    parts = [FilePart(begin, end) for begin, end in zip(starts, [*starts[1:], end], strict=True)]
    if end < content.size and not begins_recording(content.at(end, HEAD_BYTES)):
        lost = 0 if content.holds_tags(end) else content.size - end
        parts[-1] = parts[-1]._replace(end=content.size, lost=lost)
    return parts


_BIT_3 = b"".join(re.escape(bytes([byte])) for byte in range(256) if byte & 8)

# Recordings in formats whose streams follow on one another as they please: a new one begins where its first bytes are.
_MARKS = (
    re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    re.compile(rb"\x1a\x45\xdf\xa3[\x80-\xff\x01][\s\S]{0,7}?\x42[\x82\x86\xf7]"),  # EBML: webm, mkv, mka
    re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9"),  # ASF: wma
    re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"),  # W64
    re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09"),
    re.compile(rb"TTA1[\x01-\x03]\x00[\s\S]\x00"),
    re.compile(rb"#!AMR(-WB)?\n"),
    re.compile(rb"MAC [\x6e-\xff]\x0f\x00\x00\x34\x00\x00\x00\x18\x00\x00\x00"),
    re.compile(rb"tBaK\x01[\x0a-\x10]\x00\x00"),
    re.compile(rb"MPCKSH"),
    re.compile(rb"Creative Voice File\x1a\x1a\x00"),
    re.compile(rb"\.RMF\x00\x00\x00\x12"),
    re.compile(rb"DSD \x1c\x00{7}"),
    # WavPack: a block of a recording's first samples, the first one of its channels, as a bit of the flags says
    re.compile(rb"wvpk[\s\S]{4}[\x02-\x10]\x04\x00[\s\S]{5}\x00{4}[\s\S]{5}[%b]" % _BIT_3),
)
_JUNK_BYTES = 1 << 16  # before the first frame, at most
_MPEG_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_MPEG_MARKS = re.compile(rb"ID3[\x02-\x04][\x00-\x09]|APETAGEX|Xing|Info|VBRI")


def _first_mpeg_frame(content: Content, start: int) -> int:
    """Where the first frame of MPEG audio is that three others follow, however the file begins; -1 if none is near."""
    head = content.at(start, _JUNK_BYTES)
    for match in _MPEG_SYNC.finditer(head):
        place = start + match.start()
        for _ in range(4):
            size = _mpeg_frame_bytes(content, place)
            place += size
            if not size:
                break
        else:
            return start + match.start()
    return start if is_mpeg_audio(head) else -1


def _later_mpeg_starts(content: Content, first: int) -> list[int]:
    """Places where recordings after the first begin: after tags, or with a frame that holds a table of contents."""
    starts: list[int] = []
    covered = first + _mpeg_frame_bytes(content, first)
    for place in content.find(_MPEG_MARKS, covered):
        tags = content.at(place, 3) in (b"ID3", b"APE")
        begin = place if tags else _tabled_frame(content, place)
        if begin < covered:
            continue
        frame_at = content.after_tags(begin)
        if is_mpeg_audio(content.at(frame_at, HEAD_BYTES)):
            starts.append(frame_at)
            covered = frame_at + _mpeg_frame_bytes(content, frame_at)
    return starts


def _mpeg_frame_bytes(content: Content, place: int) -> int:
    frame = mpeg_frame(content.at(place, 4))
    return frame.size if frame else 0


def _tabled_frame(content: Content, place: int) -> int:
    """Where the frame begins whose table of contents is named at a place; -1 if none does."""
    for ahead in (13, 21, 36):  # a header, and side information of 9, 17 or 32 bytes
        head = content.at(place - ahead, 4)
        if mpeg_frame(head) is None:
            continue
        mono, version_1 = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
        if ahead == 4 + (17 if mono == version_1 else 32 if version_1 else 9) or content.at(place, 4) == b"VBRI":
            return place - ahead
    return -1


def _ogg_starts(content: Content, first: int) -> tuple[list[int], int]:
    """Places of the first pages of each link of a chain, and where pages end.

    A link begins with the first pages of its streams.
    """
    starts: list[int] = []
    position, opening, end = first, False, first
    while len(head := content.at(position, 27 + 255)) >= 27:
        if not head.startswith(b"OggS"):
            if begins_recording(content.at(position, HEAD_BYTES)):
                break
            position = next(content.find(re.compile(b"OggS\x00"), position), content.size)
            continue
        if head[5] & 2 and not opening:  # bit 2 marks the first page of a stream
            starts.append(position)
        opening = bool(head[5] & 2)
        position += 27 + head[26] + sum(head[27 : 27 + head[26]])
        end = min(position, content.size)
    return [first, *starts[1:]], end


def _mp4_starts(content: Content, first: int) -> tuple[list[int], int]:
    """Places where a file type comes after a whole film, with its table of contents; and where the boxes end."""
    starts, position, has_contents = [first], first, False
    while len(head := content.at(position, 16)) >= 8:
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        if has_contents and (not _BOX.fullmatch(kind) or 0 < size < 8):
            return starts, position
        if kind == b"ftyp" and has_contents:
            starts.append(position)
            has_contents = False
        has_contents |= kind == b"moov"
        if size < 8:  # 0 reaches to the end of the file
            break
        position += size
    return starts, content.size


_BOX = re.compile(rb"[a-z][A-Za-z0-9 ]{3}|XMP_|\xa9[a-z]{3}")


_WIDE = (b"RF64", b"BW64")  # wav with sizes of 64 bits


class _Chunked(NamedTuple):
    """A format of chunks: a name of four letters, a size, and so many bytes."""

    begin: re.Pattern[bytes]  # of a file
    first: int  # place of the first chunk
    size: str  # how sizes are written, as struct has it
    sound: bytes  # name of the chunk with the samples
    padded: bool  # to even sizes


_CHUNKED = (
    _Chunked(re.compile(rb"(RIFF|RF64|BW64)[\s\S]{4}WAVE"), 12, "<I", b"data", True),
    _Chunked(re.compile(rb"RIFX[\s\S]{4}WAVE"), 12, ">I", b"data", True),
    _Chunked(re.compile(rb"FORM[\s\S]{4}AIF[FC]"), 12, ">I", b"SSND", True),
    _Chunked(re.compile(rb"caff\x00\x01\x00\x00"), 8, ">Q", b"data", False),
)


def _chunked_parts(content: Content, kind: _Chunked, start: int) -> list[FilePart]:
    parts: list[FilePart] = []
    position: int | None = start
    while position is not None and kind.begin.match(content.at(position, 16)):
        part, position = _chunked_part(content, kind, position)
        parts.append(part)
    return parts


def _chunked_part(content: Content, kind: _Chunked, start: int) -> tuple[FilePart, int | None]:
    """The recording that begins at a place, and where the next one does."""
    name_and_size = 4 + struct.calcsize(kind.size)
    position, wide_size = start + kind.first, None
    while len(head := content.at(position, name_and_size)) == name_and_size:
        (size,) = struct.unpack(kind.size, head[4:])
        if head.startswith(b"ds64"):  # sizes too large for 32 bits, of RF64
            wide_size = int.from_bytes(content.at(position + 16, 8), "little")
        if head.startswith(kind.sound):
            if size == 0xFFFFFFFF and wide_size:
                size = wide_size
            return _with_sound(content, kind, start, position + name_and_size, size)
        position += name_and_size + size + (size % 2 if kind.padded else 0)
    return FilePart(start, content.size), None


def _with_sound(content: Content, kind: _Chunked, start: int, first: int, size: int) -> tuple[FilePart, int | None]:
    """The recording whose samples begin at ``first``, ``size`` bytes of them by its header."""
    room = content.size - first
    if size > room:
        following = next(content.find(kind.begin, first), None)
        remark = _cut_off(size, room) if size < UNKNOWN_SIZE else ""
        if following is None:
            header = _mended(content, kind, start, first) if content.at(start, 4) in _WIDE else b""
            return FilePart(start, content.size, header, remark), None
        return FilePart(start, following, _mended(content, kind, start, first)), following
    after = first + size + (size % 2 if kind.padded else 0)
    if begins_recording(content.at(after, HEAD_BYTES)):
        return FilePart(start, after), after
    following, lost = _begins_after_chunks(content, kind, after)
    if following is not None:
        return FilePart(start, following, lost=lost), following if following < content.size else None
    following = next(content.find(kind.begin, after), None)
    end = content.size if following is None else following
    return FilePart(start, end, _mended(content, kind, start, first), _longer(size, end - first)), following


def _begins_after_chunks(content: Content, kind: _Chunked, position: int) -> tuple[int | None, int]:
    """Where the chunks that begin at a place end, at the next recording or the end; ``None`` if no chunks are there.

    With it come the bytes of further sound, which no decoder reads.
    """
    name_and_size, lost = 4 + struct.calcsize(kind.size), 0
    while not content.holds_tags(position):
        head = content.at(position, HEAD_BYTES)
        if begins_recording(head):
            return position, lost
        (size,) = struct.unpack(kind.size, head[4:name_and_size])
        lost += size if head.startswith(kind.sound) else 0
        position += name_and_size + size + (size % 2 if kind.padded else 0)
        if not re.match(rb"[ -~]{4}", head) or position > content.size + 1:
            return None, 0
    return content.size, lost


def _mended(content: Content, kind: _Chunked, start: int, first: int) -> bytes:
    """The header with sizes that every reader takes to reach to the end of the file."""
    header = bytearray(content.at(start, first - start))
    most = {"<I": b"\xff\xff\xff\xff", ">I": b"\x7f\xff\xff\xff", ">Q": b"\xff" * 8}[kind.size]
    header[-len(most) :] = most
    if kind.first == 12:
        header[4:8] = most
    if header[:4] in _WIDE:  # whose sizes are in a chunk of their own, which then is to be no such
        header[:4] = b"RIFF"
        header[12:16] = b"JUNK"
    return bytes(header)


_AU_HEADER_BYTES = 24  # at least


def _au_parts(content: Content, begin_at: int) -> list[FilePart]:
    parts: list[FilePart] = []
    start: int | None = begin_at
    begin = re.compile(rb"\.snd\x00\x00[\s\S]{6}\x00\x00\x00[\x01-\x1b]")
    while start is not None:
        header_bytes, size = struct.unpack(">II", content.at(start + 4, 8).ljust(8, b"\0"))
        is_wrong = not _AU_HEADER_BYTES <= header_bytes < content.size - start
        if is_wrong:
            header_bytes = _AU_HEADER_BYTES
        first, after = start + header_bytes, start + header_bytes + size
        if size and not is_wrong and begins_recording(content.at(after, HEAD_BYTES)):
            return [*parts, FilePart(start, after)]
        following = (
            next(content.find(begin, min(after, first) if size else first), None) if after < content.size else None
        )
        if size == 0xFFFFFFFF:
            following = next(content.find(begin, first), None)
        end = content.size if following is None else following
        is_longer = end - after >= CONSIDERABLE_BYTES and not content.holds_tags(after)
        header = b""
        if is_longer or is_wrong:
            header = b".snd" + struct.pack(">II", header_bytes, 0xFFFFFFFF) + content.at(start + 12, header_bytes - 12)
        parts.append(FilePart(start, end, header, _longer(size, end - first) if is_longer else ""))
        start = following
    return parts


def _longer(size: int, room: int) -> str:
    """A remark on samples that the header does not count; empty where it counts none, as after a crash."""
    return f"its header counts {size:,} bytes of sound, {room:,} are there and were read" if size else ""


def _cut_off(size: int, room: int) -> str:
    return f"its header counts {size:,} bytes of sound, but only {room:,} are there: it was cut off"
