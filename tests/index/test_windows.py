import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE
from clsr.errors import InputError
from clsr.index.windows import Cut, FixedCutter, WindowStream, join_cuts, parse_cuts, windows


def counted(seconds: float) -> np.ndarray:
    """A waveform whose samples are their own numbers."""
    return np.arange(round(seconds * SAMPLE_RATE), dtype=np.float32)


def blocks(waveform: np.ndarray, size: int) -> list[np.ndarray]:
    return [waveform[first : first + size] for first in range(0, len(waveform), size)]


@pytest.mark.parametrize(
    "text", ["", "0", "40/0", "40/41", "-1", "40,", "speech:0", "speech:0.9", "speech:", "tall", "nan", "1e9", "301"]
)
def test_what_is_no_way_to_cut_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no way to cut"):
        parse_cuts(text)


def test_cuts_are_written_as_they_are_read() -> None:
    cuts = parse_cuts(" 40 , 10/2.5,speech:20")
    assert cuts == [Cut(40.0, 30.0), Cut(10.0, 2.5), Cut(20.0, 0.0)]
    assert join_cuts(cuts) == "40/30,10/2.5,speech:20"
    assert parse_cuts(join_cuts(cuts)) == cuts


@pytest.mark.parametrize("duration_s", [0.5, 4.0, 4.5, 7.0, 10.0, 10.25, 25.0])
@pytest.mark.parametrize("block_s", [0.1, 1.0, 3.3, 100.0])
@pytest.mark.parametrize(("length_s", "hop_s"), [(4.0, 3.0), (4.0, 4.0), (2.0, 0.5), (3.1, 1.7)])
def test_windows_of_blocks_are_those_of_the_whole(
    duration_s: float, block_s: float, length_s: float, hop_s: float
) -> None:
    cutter = FixedCutter(Cut(length_s, hop_s))
    found = []
    for block in blocks(counted(duration_s), round(block_s * SAMPLE_RATE)):
        needed_from_s = cutter.needed_from_s
        settled = cutter.feed(block)
        assert all(start_s >= needed_from_s for start_s, _ in settled)
        found += settled
    assert cutter.finish()[0][0] >= cutter.needed_from_s
    assert found + cutter.finish() == windows(duration_s, length_s, hop_s)


@pytest.mark.parametrize("block", [1_000, 16_000, 160_000])
def test_windows_have_the_samples_of_their_seconds(block: int) -> None:
    whole = counted(23.0)
    stream = WindowStream(parse_cuts("4/3,10/10"))
    most = 0
    seen = []
    for sound in stream.windows(blocks(whole, block)):
        start, end = (round(time_s * SAMPLE_RATE) for time_s in (sound.start_s, sound.end_s))
        assert np.array_equal(sound.waveform, whole[start:end])
        seen.append((sound.start_s, sound.end_s))
        most = max(most, len(stream._kept))
    assert sorted(seen) == sorted({*windows(23.0, 4.0, 3.0), *windows(23.0, 10.0, 10.0)})
    assert most <= 10 * SAMPLE_RATE + block + 1  # the longest window and a block, whatever the length of the recording
    assert stream.decoded_s == 23.0


def test_recording_shorter_than_all_windows_is_one_window() -> None:
    assert [(s.start_s, s.end_s) for s in WindowStream(parse_cuts("4,10,40")).windows([counted(2.0)])] == [(0.0, 2.0)]


def test_recording_without_a_sample_has_no_window() -> None:
    assert list(WindowStream(parse_cuts("4")).windows([])) == []


def test_damage_is_reported_after_the_last_window() -> None:
    def damaged() -> object:
        yield counted(5.0)
        raise InputError("a.flac: damaged")

    stream, found = WindowStream(parse_cuts("4/3")), []
    with pytest.raises(InputError, match="damaged"):
        for sound in stream.windows(damaged()):  # type: ignore[arg-type]
            found.append((sound.start_s, sound.end_s))
    assert found == windows(5.0, 4.0, 3.0)
    assert stream.decoded_s == 5.0
