"""Every second that FFmpeg decodes of unusual files is decoded, or a reason is given."""

from pathlib import Path

import av
import pytest

from clsr.audio.waveform import SAMPLE_RATE, Remarks, stream_progress
from clsr.errors import InputError

TOLERANCE_S = 0.1


def seconds_by_ffmpeg(path: Path) -> float:
    """Seconds of the first audio stream, whatever rates follow; 0 where FFmpeg refuses the file or a part of it."""
    total_s = 0.0
    try:
        with av.open(str(path), metadata_errors="replace") as file:
            if not file.streams.audio or file.streams.audio[0].codec_context is None:
                return 0.0
            for packet in file.demux(file.streams.audio[0]):
                total_s += sum(frame.samples / frame.sample_rate for frame in packet.decode())
    except (av.FFmpegError, ValueError):
        return 0.0
    return total_s


def seconds_here(path: Path) -> tuple[float, list[str]]:
    """Seconds decoded, and reasons for what is missing."""
    remarks, samples = Remarks(), 0
    try:
        for block in stream_progress(path, remarks=remarks):
            samples += len(block)
    except InputError as error:
        return samples / SAMPLE_RATE, [str(error)]
    return samples / SAMPLE_RATE, remarks.losses


@pytest.mark.slow
def test_seconds_of_odd_files_equal_ffmpeg(shared_data: Path) -> None:
    files = [
        p for p in sorted((shared_data / "odd_audio").rglob("*")) if p.is_file() and p.suffix not in (".md", ".tsv")
    ]
    assert len(files) == 166
    missing = {}
    for path in files:
        expected_s = seconds_by_ffmpeg(path)
        found_s, reasons = seconds_here(path)
        if found_s < expected_s - TOLERANCE_S and not reasons:
            missing[path.name] = (expected_s, found_s)
    assert not missing
