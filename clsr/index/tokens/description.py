"""What the token vectors of an index were made with, ``tokens.json``: their projection, and how rare tokens are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clsr.errors import InputError
from clsr.index.location import IndexLocation
from clsr.index.tables import writing
from clsr.index.tokens.compression import Projection

DESCRIPTION = "tokens.json"
MEMBER = np.dtype([("token", "<u4"), ("word", "<u2"), ("cluster", "<u2")])
"""A token of a tile: its id, its word's place in the tile's window, and its cluster."""


class TokenDescription(NamedTuple):
    """The projection of token vectors, and in how many tiles each token stands."""

    projection: Projection
    tiles: int = 0
    counts: Mapping[int, int] = {}  # of tiles with a token, by its id

    def weights(self, ids: Sequence[int]) -> np.ndarray:
        """The weight of each token of a query, ``(Q,)``, of sum 1: its inverse document frequency among tiles.

        With ``n`` of ``N`` tiles that have the token, it is ``log((N + 1) / (n + 0.5))`` before they are scaled: "the"
        stands everywhere, and says little where it matches. Where no token says anything, all count alike.
        """
        counts = np.array([self.counts.get(id_, 0) for id_ in ids])
        rarity = np.log((self.tiles + 1) / (counts + 0.5)).clip(0)
        rarity = rarity if rarity.sum() > 0 else np.ones(len(ids))
        return (rarity / rarity.sum()).astype(np.float32)

    def write(self, location: IndexLocation) -> None:
        """Write it beside the tables; it appears whole or not at all.

        Raises:
            InputError: the index cannot be written.
        """
        counts = {str(id_): count for id_, count in self.counts.items()}
        values = {"projection": self.projection.to_json(), "tiles": self.tiles, "counts": counts}
        with writing(location):
            location.write_text(DESCRIPTION, json.dumps(values) + "\n")


def read_description(location: IndexLocation) -> TokenDescription | None:
    """What an index's token vectors were made with; ``None`` where it has none.

    Raises:
        InputError: it is damaged.
    """
    try:
        text = location.read_text(DESCRIPTION)
        if text is None:
            return None
        values = json.loads(text)
        counts = {int(id_): int(count) for id_, count in values["counts"].items()}
        return TokenDescription(Projection.from_json(values["projection"]), int(values["tiles"]), counts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{location}/{DESCRIPTION}: cannot be read ({error!r}); delete it, then run clsr index --token-vectors"
        ) from error
