"""Read all token vectors of an index and list what is damaged or out of date. Internal."""

from __future__ import annotations

from clsr.index.ranking import read
from clsr.index.tables import TOKENS, WINDOWS, IndexTables, reading, tokens_schema
from clsr.index.tokens.building import tile_checksum, tokens_there, windows_digests
from clsr.index.tokens.description import read_description

MEND = "run clsr index --token-vectors"


def token_faults(tables: IndexTables) -> tuple[list[str], list[str]]:
    """What of the token vectors is damaged, and what is missing or out of date, a line each; where there are any.

    Raises:
        InputError: they cannot be read.
    """
    description, windows, tokens = read_description(tables.location), tables.reader(WINDOWS), tables.reader(TOKENS)
    if description is None or windows is None:
        return [], []
    names = tokens_schema().names
    with reading(tables.location):
        damaged = {
            row["recording"]
            for batch in (tokens.batches(names) if tokens is not None else ())
            for row in batch.to_pylist()
            if any(row[name] is None for name in names) or tile_checksum(row) != row["checksum"]
        }
    file = f"{tables.location}/{TOKENS}.lance"
    damage = [
        f"{recording}: its token vectors do not match their checksum; delete {file}, {MEND}"
        for recording in sorted(damaged)
    ]
    digests, _ = read(lambda: windows_digests(windows))
    there = read(lambda: tokens_there(tokens))
    return damage, [
        f"{recording}: its token vectors are missing or of other windows; {MEND}"
        for recording in sorted((set(digests) | set(there)) - damaged)
        if there.get(recording) != {(digests.get(recording), description.projection.id)}
    ]
