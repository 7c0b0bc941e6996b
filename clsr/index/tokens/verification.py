"""Read all token vectors of an index and list what is damaged or out of date. Internal."""

from __future__ import annotations

from collections.abc import Iterator

from clsr.index.ranking import read
from clsr.index.tables import TOKENS, WINDOWS, IndexTables, reading, tokens_schema
from clsr.index.tokens.building import tile_checksum, tokens_there, windows_digests
from clsr.index.tokens.description import read_description

MEND = "run clsr index --token-vectors"


def token_faults(tables: IndexTables) -> Iterator[str]:
    """The faults of the token vectors, a line each; none where the index has none.

    Raises:
        InputError: they cannot be read.
    """
    description, windows, tokens = read_description(tables.location), tables.reader(WINDOWS), tables.reader(TOKENS)
    if description is None or windows is None:
        return
    names = tokens_schema().names
    with reading(tables.location):
        damaged = {
            row["recording"]
            for batch in (tokens.batches(names) if tokens is not None else ())
            for row in batch.to_pylist()
            if any(row[name] is None for name in names) or tile_checksum(row) != row["checksum"]
        }
    for recording in sorted(damaged):
        file = f"{tables.location}/{TOKENS}.lance"
        yield f"{recording}: its token vectors do not match their checksum; delete {file}, {MEND}"
    digests, _ = read(lambda: windows_digests(windows))
    there = read(lambda: tokens_there(tokens))
    for recording in sorted(set(digests) | set(there)):
        if recording not in damaged and there.get(recording) != {(digests.get(recording), description.projection.id)}:
            yield f"{recording}: its token vectors are missing or of other windows; {MEND}"
