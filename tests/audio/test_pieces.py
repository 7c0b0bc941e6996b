"""Pieces of a recording that passes by in blocks."""

import numpy as np
import pytest

from clsr.audio.pauses import pieces
from clsr.audio.pieces import PieceStream

SECOND = 16_000


def passed(stream: PieceStream, waveform: np.ndarray, block: int) -> None:
    blocks = [waveform[start : start + block] for start in range(0, len(waveform), block)]
    assert np.array_equal(np.concatenate(list(stream.follow(blocks))), waveform)


@pytest.mark.parametrize("block", [999, SECOND, 100 * SECOND])
def test_blocks_do_not_change_the_pieces(block: int):
    waveform = np.random.default_rng(0).standard_normal(int(25.3 * SECOND)).astype(np.float32)
    stream = PieceStream(10.0)
    passed(stream, waveform, block)
    found = stream.overlapping(0.0, 30.0) or []
    expected = pieces(waveform, 10.0)
    assert [round(piece.start_s * SECOND) for piece in found] == [first for first, _ in expected]
    assert np.array_equal(np.concatenate([piece.waveform for piece in found]), waveform)


def test_pieces_are_there_once_they_are_cut():
    stream = PieceStream(10.0)
    blocks = stream.follow([np.ones(8 * SECOND, np.float32), np.ones(6 * SECOND, np.float32)])
    next(blocks)
    assert stream.overlapping(0.0, 5.0) is None  # it may go on to 10 s
    next(blocks)
    (first,) = stream.overlapping(0.0, 5.0) or []
    assert 5.0 <= first.end_s <= 10.0 and stream.overlapping(0.0, first.end_s + 1) is None
    assert not list(blocks)
    both = stream.overlapping(0.0, 14.0) or []
    assert len(both) == 2 and both[1].end_s == 14.0
    stream.forget(first.end_s + 1)
    assert stream.overlapping(0.0, 14.0) == both[1:]


def test_a_recording_that_breaks_off_keeps_its_pieces():
    def broken():
        yield np.ones(3 * SECOND, np.float32)
        raise OSError("gone")

    stream = PieceStream(10.0)
    with pytest.raises(OSError, match="gone"):
        list(stream.follow(broken()))
    (piece,) = stream.overlapping(0.0, 3.0) or []
    assert (piece.start_s, piece.end_s) == (0.0, 3.0)
