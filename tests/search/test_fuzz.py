"""Mutations of recordings in every format: each gives sound or a reason, in time, and the next file is whole."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clsr.errors import InputError
from clsr.search.decoding import Decoder

MUTATIONS = 2000
MUTATIONS_OF_ODD_FILES = 500
LONGEST_S = 10.0  # for one file
HUGE = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x00\x00\x00\x80"]

Mutation = Callable[[bytes, random.Random], bytes]


def flip_bits(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice([1, 3, 20])):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def cut_off(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(1, len(content))]


def claim_huge(content: bytes, generator: random.Random) -> bytes:
    """Put the largest and smallest of numbers where headers have theirs."""
    place = generator.randrange(min(len(content), 200))
    return content[:place] + generator.choice(HUGE) + content[place + 4 :]


def repeat_piece(content: bytes, generator: random.Random) -> bytes:
    start, end = sorted(generator.sample(range(len(content) + 1), 2))
    return content[:end] + content[start:end] + content[end:]


def leave_out_piece(content: bytes, generator: random.Random) -> bytes:
    start, end = sorted(generator.sample(range(len(content) + 1), 2))
    return content[:start] + content[end:] or b"\0"


def blank_piece(content: bytes, generator: random.Random) -> bytes:
    start, end = sorted(generator.sample(range(len(content) + 1), 2))
    return content[:start] + bytes(end - start) + content[end:]


MUTATE: list[Mutation] = [flip_bits, cut_off, claim_huge, repeat_piece, leave_out_piece, blank_piece]


def sounds(folder: Path) -> Iterator[Path]:
    """A second of two tones in each format that can be written here."""
    time_s = np.arange(22_050) / 22_050
    waveform = (0.4 * np.sin(2 * np.pi * 440 * time_s) + 0.1 * np.sin(2 * np.pi * 1234 * time_s)).astype(np.float32)
    kinds = [("wav", "PCM_16"), ("wav", "FLOAT"), ("wav", "ULAW"), ("flac", "PCM_16"), ("ogg", "VORBIS")]
    for suffix, subtype in [*kinds, ("opus", "OPUS"), ("mp3", "MPEG_LAYER_III"), ("aiff", "PCM_24")]:
        path = folder / f"{subtype}.{suffix}"
        rate = 24_000 if suffix == "opus" else 22_050
        soundfile.write(path, waveform, rate, subtype, format="OGG" if suffix == "opus" else None)
        yield path
    for name, codec in {"sound.m4a": "aac", "sound.aac": "aac", "sound.webm": "libopus"}.items():
        write_by_ffmpeg(folder / name, codec, waveform)
        yield folder / name


def write_by_ffmpeg(path: Path, codec: str, waveform: np.ndarray) -> None:
    import av

    formats = {".m4a": "mp4", ".aac": "adts", ".webm": "webm"}
    with av.open(str(path), "w", format=formats[path.suffix]) as container:
        rate = 48_000 if codec == "libopus" else 22_050
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = 22_050
        fifo = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts = None
            fifo.write(part)
        while piece := fifo.read(stream.frame_size or 1024, partial=True):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def decode(decoder: Decoder, path: Path) -> str:
    """Decode a file; "sound", "part" or "refused". Anything but blocks of numbers or an InputError is a failure."""
    start_s, heard, reason = time.monotonic(), 0, ""
    try:
        for block in decoder.stream(path):
            assert block.ndim == 1 and block.dtype == np.float32 and np.isfinite(block).all()
            heard += len(block)
    except InputError as error:
        reason = str(error)
    assert time.monotonic() - start_s < LONGEST_S, path
    if not reason:
        return "sound"
    assert path.name in reason and "\n" not in reason
    return "part" if heard else "refused"


def check(originals: list[Path], count: int, folder: Path) -> Counter[str]:
    generator, found, peak_kb = random.Random(0), Counter[str](), 0
    good = folder / "good.flac"
    soundfile.write(good, np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
    with Decoder() as decoder:
        whole = np.concatenate(list(decoder.stream(good)))
        for number in range(count):
            original = originals[number % len(originals)]
            content = original.read_bytes()
            mutation = generator.choice(MUTATE)
            path = folder / f"{number}-{mutation.__name__}{original.suffix}"
            path.write_bytes(mutation(content, generator) if content else b"")
            found[decode(decoder, path)] += 1
            path.unlink()
            if number % 50 == 0:
                assert np.array_equal(np.concatenate(list(decoder.stream(good))), whole)
                peak_kb = max(peak_kb, peak_memory_kb(decoder))
    assert peak_kb < 1 << 20
    return found


def peak_memory_kb(decoder: Decoder) -> int:
    assert decoder._process is not None
    status = Path(f"/proc/{decoder._process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc on this machine to read the memory of a process from")
    return int(status.read_text().partition("VmHWM:")[2].split()[0])


@pytest.mark.slow
def test_mutations_of_every_format(tmp_path: Path) -> None:
    originals = list(sounds(tmp_path))
    with Decoder() as decoder:
        assert {decode(decoder, path) for path in originals} == {"sound"}
    found = check(originals, MUTATIONS, tmp_path)
    assert sum(found.values()) == MUTATIONS
    assert min(found[kind] for kind in ("sound", "refused")) > MUTATIONS // 20  # mutations of both kinds
    print(dict(found))


@pytest.mark.slow
def test_mutations_of_odd_files(shared_data: Path, tmp_path: Path) -> None:
    originals = sorted(
        p for p in (shared_data / "odd_audio").rglob("*") if p.is_file() and p.suffix not in (".tsv", ".md")
    )
    found = check(originals, MUTATIONS_OF_ODD_FILES, tmp_path)
    assert sum(found.values()) == MUTATIONS_OF_ODD_FILES
    print(dict(found))
