"""The recogniser: what it makes of batches, with and without a text encoder."""

import numpy as np

from clsr.models.recogniser import MAX_BATCH_FRAMES, batches


def test_batches_hold_everything_once_within_the_limit():
    draw = np.random.default_rng(0)
    lengths = [*draw.integers(1, 700, 200).tolist(), 3 * MAX_BATCH_FRAMES, 0]
    found = list(batches(lengths))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= MAX_BATCH_FRAMES
    assert sum(max(lengths[i] for i in batch) * len(batch) for batch in found) < 1.1 * sum(lengths)
