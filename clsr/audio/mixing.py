"""Blocks of several channels -> mono: their mean, or the louder channel where they cancel each other out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

CANCELLED = 0.1  # of the power that the mean of unrelated channels would have: less, and they are of opposite phase
LEAST_POWER = 1e-8  # of a channel that is worth it
NEARLY = 0.8  # of the loudest channel's power: as loud, so that the first of several stays


class Mixer:
    """Mixes one recording, second by second from its start, so that a span sounds as it does in the whole.

    The mean of a second whose channels are of opposite phase, as a miswired cable leaves them, is far quieter than its
    channels; the louder channel is taken there.

    Attributes:
        opposite_s: seconds in which the channels were of opposite phase, and hid more than nothing.

    Args:
        sample_rate: of the recording.
    """

    def __init__(self, sample_rate: int) -> None:
        self.opposite_s = 0
        self._rate = sample_rate

    def mono(self, blocks: Iterable[np.ndarray], start: int, end: int | None) -> Iterator[np.ndarray]:
        """Mono blocks ``(n,)`` of frames ``start`` to ``end``.

        Args:
            blocks: ``(n, channels)``, from the second on in which ``start`` lies (``whole_seconds``).
            start: first frame.
            end: frame after the last; ``None`` is the end of the recording.
        """
        position = start // self._rate * self._rate
        for block in self._seconds(blocks):
            first, last = max(0, start - position), len(block) if end is None else max(0, end - position)
            position += len(block)
            yield self._mix(block)[first:last]

    def whole_seconds(self, start: int, end: int | None) -> tuple[int, int | None]:
        """First frame and end of the whole seconds that a span lies in."""
        return start // self._rate * self._rate, None if end is None else -(-end // self._rate) * self._rate

    def _seconds(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Blocks of whole seconds, but for the last one; what came before an error is given before it is raised."""
        waiting: list[np.ndarray] = []
        fault: Exception | None = None
        try:
            for block in blocks:
                waiting.append(block)
                if (frames := sum(map(len, waiting))) < self._rate:
                    yield block[:0]  # a sign of life
                    continue
                joined = np.concatenate(waiting)
                whole = frames // self._rate * self._rate
                yield joined[:whole]
                waiting = [joined[whole:]]
        except Exception as error:
            fault = error
        if sum(map(len, waiting)):
            yield np.concatenate(waiting)
        if fault is not None:
            raise fault

    def _mix(self, block: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # samples that are no numbers are refused, not warned of
            mixed = block.mean(axis=1)
            for first in range(0, len(block) if block.shape[1] > 1 else 0, self._rate):
                second = block[first : first + self._rate]
                powers = np.square(second, dtype=np.float64).mean(axis=0)
                mean_power = np.square(mixed[first : first + self._rate], dtype=np.float64).mean()
                if powers.max() > LEAST_POWER and mean_power < CANCELLED * powers.sum() / len(powers) ** 2:
                    self.opposite_s += 1
                    louder = int(np.argmax(powers >= NEARLY * powers.max()))
                    mixed[first : first + self._rate] = second[:, louder]
        return mixed
