"""What the bytes of a file say of it, whatever its name: whether it may be a recording, and how long frames are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 2_048
_BLOCK_BYTES = 1 << 20
_MOST_COUNTED_BYTES = 1 << 28  # of frames, which take some seconds
TS_PACKETS = {188: 0, 192: 4, 204: 0}  # of MPEG transport streams: bytes of a packet, and those before its first

_MAGIC = re.compile(
    rb"RIFF[\s\S]{4}XWMA|(RIFF|RIFX|RF64|BW64)[\s\S]{4}(WAVE|AVI )|FORM[\s\S]{4}(AIF[FC]|8SVX|16SV)|fLaC|OggS|caff"
    rb"|\.snd|#!AMR|wvpk|MAC |TTA[12]|tBaK|MPCK|MP\+|DSD |FRM8|NIST_1A|FLV\x01|Creative Voice File|riff\x2e\x91\xcf\x11"
    rb"|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\x0b\x77[\s\S]{3}|\x7f\xfe\x80\x01|\xfe\x7f\x01\x80"
    rb"|\x1f\xff\xe8\x00|\xff\x1f\x00\xe8|\x00\x00\x01\xba|ID3[\x02-\x04]|OFR |\.RMF\x00|\.ra\xfd|ajkg"
)
_PICTURES = re.compile(rb"(hei|hev|mif|msf|avi[fs]|crx|jp2|jpx|jxl)")  # brands that share the container of mp4
_MP4 = re.compile(rb"[\s\S]{4}(ftyp|moov|mdat|wide|free|skip)")

# MPEG audio: kilobits a second by version (1, or 2 and 2.5) and layer, and rates of version 1.
_KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


def may_be_recording(path: Path) -> bool:
    """Whether a file begins as a format does that holds sound, alone or beside pictures.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    return begins_recording(head)


def begins_recording(head: bytes) -> bool:
    """Whether bytes begin as a format does that holds sound; 2,048 of them say it best."""
    if _MAGIC.match(head):
        return True
    if _MP4.match(head):
        return head[4:8] != b"ftyp" or not _PICTURES.match(head[8:])
    return _is_transport_stream(head) or any(_are_frames(head, read) for read in (mpeg_frame, adts_frame, latm_frame))


class CodedFrame(NamedTuple):
    """The header of a frame of a compressed stream: its length in bytes, and how long it sounds."""

    size: int
    seconds: float


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(head) > 4 * size and all(head[first + i * size] == 0x47 for i in range(4))
        for size, first in TS_PACKETS.items()
    )


def _are_frames(head: bytes, read: Callable[[bytes], CodedFrame | None]) -> bool:
    """Whether a frame begins here and, where the next one would begin, another does."""
    frame = read(head[:8])
    return frame is not None and (len(head) < frame.size + 8 or read(head[frame.size : frame.size + 8]) is not None)


def mpeg_frame(head: bytes) -> CodedFrame | None:
    """The MPEG audio frame (mp3, mp2, mp1) that begins with these four bytes; ``None`` where none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < kbits < 15 or rate == 3:
        return None
    bits_s = 1_000 * _KBITS[1 if version == 3 else 2, layer][kbits - 1]
    rate_hz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return CodedFrame((12 * bits_s // rate_hz + padding) * 4, 384 / rate_hz)
    samples = 576 if layer == 3 and version != 3 else 1_152
    return CodedFrame(samples // 8 * bits_s // rate_hz + padding, samples / rate_hz)


def is_mpeg_audio(head: bytes) -> bool:
    """Whether frames of mp3, mp2 or mp1 begin here."""
    return _are_frames(head, mpeg_frame)


def adts_frame(head: bytes) -> CodedFrame | None:
    """The AAC frame with an ADTS header that begins with these seven bytes; ``None`` where none does."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    rate_hz = _AAC_RATES[head[2] >> 2 & 15]
    return CodedFrame(size, 1_024 * (1 + (head[6] & 3)) / rate_hz) if size >= 7 else None


def latm_frame(head: bytes) -> CodedFrame | None:
    """The AAC frame with a LATM header that begins with these three bytes, whose length in time is not told."""
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return None
    return CodedFrame(3 + ((head[1] & 0x1F) << 8 | head[2]), 0.0)


def tag_end(at: Callable[[int, int], bytes], start: int) -> int:
    """Where the ID3v2 tags end that begin at a place of a file; the place itself where none does.

    Args:
        at: so many bytes from a place on.
        start: the place.
    """
    while (head := at(start, 10)).startswith(b"ID3") and len(head) == 10:
        footer = 10 if head[5] & 0x10 else 0
        start += 10 + footer + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return start


def counted_s(at: Callable[[int, int], bytes], start: int, end: int) -> float | None:
    """Seconds of mp3, mp2, mp1 or bare aac, counted by the headers of its frames; ``None`` for other formats.

    More than 256 MiB are not counted either. Nothing is decoded, and no bit rate is believed: it holds for variable
    ones too. Where the table of contents of an mp3 counts more frames than are there, its count is returned: the file
    was cut off.

    Args:
        at: so many bytes from a place on.
        start: of the recording.
        end: of it.
    """
    position = tag_end(at, start)
    head = at(position, HEAD_BYTES)
    if end - position > _MOST_COUNTED_BYTES:
        return None
    read = next((read for read in (mpeg_frame, adts_frame) if _are_frames(head, read)), None)
    if read is None:
        return None
    seconds, first, block = 0.0, position, b""
    tabled_s = _tabled_frames(head) * (read(head[:8]) or CodedFrame(0, 0.0)).seconds
    while position < end:
        here = position - first
        if here + HEAD_BYTES > len(block):
            first, here = position, 0
            block = at(position, min(_BLOCK_BYTES, end - position))
        frame = read(block[here : here + 8])
        if frame is None or frame.size < 4:  # tags, or damage: to the next frame that another one follows
            found = block.find(b"\xff", here + 1)
            while found >= 0 and not _are_frames(block[found : found + HEAD_BYTES], read):
                found = block.find(b"\xff", found + 1)
            position = first + (found if found >= 0 else len(block))
            continue
        seconds += frame.seconds
        position += frame.size
    return max(seconds, tabled_s)


def _tabled_frames(head: bytes) -> int:
    """The frames that the table of contents in the first frame counts; 0 where there is none."""
    for name in (b"Xing", b"Info"):
        place = head.find(name, 0, 48)
        if place >= 0 and len(head) >= place + 12 and head[place + 7] & 1:
            return int.from_bytes(head[place + 8 : place + 12], "big")
    return 0
