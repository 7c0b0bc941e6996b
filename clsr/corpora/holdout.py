"""Names of groups (articles, speakers) -> those whose rows are held out, the same ones on every machine."""

import hashlib
from collections.abc import Iterable

from clsr.errors import InputError


def held_out(groups: Iterable[str], share: float) -> set[str]:
    """Return the groups to hold out, so that no group is on both sides.

    Groups are taken in the order of the SHA-1 of their name until they hold ``share`` of the rows: at least one is
    taken, and at least one left. Adding rows to a group or whole groups changes the choice little.

    Args:
        groups: the group of each row.
        share: of the rows, above 0 and below 1.

    Raises:
        InputError: the rows are of fewer than two groups.
    """
    counts: dict[str, int] = {}
    for group in groups:
        counts[group] = counts.get(group, 0) + 1
    if len(counts) < 2:
        raise InputError(
            f"{', '.join(counts) or 'nothing'}: all rows are of one group; dev needs another to be held out"
        )
    rows, chosen, chosen_rows = sum(counts.values()), set[str](), 0
    for group in sorted(counts, key=lambda name: hashlib.sha1(name.encode()).digest()):
        if chosen and (chosen_rows >= share * rows or len(chosen) == len(counts) - 1):
            break
        chosen.add(group)
        chosen_rows += counts[group]
    return chosen
