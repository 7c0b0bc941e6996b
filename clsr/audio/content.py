"""What the first bytes of a file say of it: whether it may be a recording, whatever its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

HEAD_BYTES = 2_048
TS_PACKETS = {188: 0, 192: 4, 204: 0}  # of MPEG transport streams: bytes of a packet, and those before its first

_MAGIC = re.compile(
    rb"(RIFF|RIFX|RF64|BW64)[\s\S]{4}(WAVE|AVI )|FORM[\s\S]{4}(AIF[FC]|8SVX)|fLaC|OggS|caff|\.snd|#!AMR|wvPk|MAC "
    rb"|TTA[12]|tBaK|MPCK|MP\+|DSD |FRM8|NIST_1A|FLV\x01|Creative Voice File|riff\x2e\x91\xcf\x11|\x1a\x45\xdf\xa3"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\x0b\x77[\s\S]{3}|\x7f\xfe\x80\x01|\x00\x00\x01\xba|ID3[\x02-\x04]|OFR |XWMA"
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


def may_be_recording(path: Path) -> bool:
    """Whether a file begins as a format does that holds sound, alone or beside pictures.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if _MAGIC.match(head):
        return True
    if _MP4.match(head):
        return head[4:8] != b"ftyp" or not _PICTURES.match(head[8:])
    return _is_transport_stream(head) or _are_frames(head, _mpeg_frame_bytes) or _are_frames(head, _adts_frame_bytes)


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(head) > 4 * size and all(head[first + i * size] == 0x47 for i in range(4))
        for size, first in TS_PACKETS.items()
    )


def _are_frames(head: bytes, frame_bytes: Callable[[bytes], int]) -> bool:
    """Whether a frame begins here and, where the next one would begin, another does."""
    size = frame_bytes(head[:8])
    return size > 0 and (len(head) < size + 8 or frame_bytes(head[size : size + 8]) > 0)


def _mpeg_frame_bytes(head: bytes) -> int:
    """Length of the MPEG audio frame (mp3, mp2, mp1) that begins here; 0 where none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < kbits < 15 or rate == 3:
        return 0
    bits_s = 1_000 * _KBITS[1 if version == 3 else 2, layer][kbits - 1]
    rate_hz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits_s // rate_hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits_s // rate_hz + padding


def _adts_frame_bytes(head: bytes) -> int:
    """Length of the AAC frame with an ADTS header that begins here; 0 where none does."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
