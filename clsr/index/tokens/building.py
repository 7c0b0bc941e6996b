"""The windows of an index -> the token vectors of their words, without recognising anything again. Internal."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clsr.index.filters import quote
from clsr.index.tables import SPOKEN, TOKENS, WINDOWS, IndexTables, confirmed, tokens_schema, writing
from clsr.index.tokens.compression import Projection, clusters_of, pool, to_bytes
from clsr.index.tokens.description import MEMBER, TokenDescription, read_description
from clsr.index.tokens.tiles import tiles_of
from clsr.text.encoder import TextTokens
from clsr.vocabulary import Word, join_words

if TYPE_CHECKING:
    from torch import Tensor

    from clsr.lance import TableReader
    from clsr.models.text_encoder import TextEncoder

ENOUGH = 300  # windows that a projection is learned from: of 40 s, some 40,000 tokens
GROUP = 256  # windows that are written at once, at least
AT_ONCE = 64  # windows whose token vectors are in memory at full width
OLDER_S = 3600.0  # versions of the table that readers may still have open
TileRow = dict[str, Any]


class SpokenWindow(NamedTuple):
    """A window of the table and its words."""

    start_s: float
    end_s: float
    words: list[Word]


class TokenBuilder:
    """Brings the token vectors of an index up to date with its windows; the caller is the ``only_writer``.

    A recording's token vectors are written in one transaction, with a digest of its windows. A kill leaves recordings
    without any, or with those of before, which the next run finds by that digest.

    Args:
        tables: of the index.
        text_encoder: of the model that built it.
        as_passages: the model's passage projection.
    """

    def __init__(self, tables: IndexTables, text_encoder: TextEncoder, as_passages: Callable[[Tensor], Tensor]) -> None:
        self.tables = tables
        self.location = tables.location
        self.text_encoder = text_encoder
        self._passages = as_passages
        self._width = 0  # of a window's vector

    def update(self) -> int:
        """Write what is missing, delete what is out of date, and return how many windows were encoded.

        Raises:
            InputError: the index is damaged or cannot be written.
        """
        from tqdm import tqdm

        windows = self.tables.reader(WINDOWS)
        if windows is None:
            return 0
        self._width = windows.schema.field("vector").type.list_size
        digests, counts = windows_digests(windows)
        there = tokens_there(self.tables.reader(TOKENS))
        if not digests:  # nothing is said in any recording
            self._delete(list(there))
            return 0
        known = read_description(self.location)
        projection = self._projection(known, windows, counts)
        fresh = {recording for recording, of in digests.items() if there.get(recording) == {(of, projection.id)}}
        self._delete([recording for recording in there if recording not in fresh])
        missing = [recording for recording in digests if recording not in fresh]
        total = sum(counts[recording] for recording in missing)
        with tqdm(total=total, desc="token vectors", unit=" windows", disable=None if total else True) as bar:
            for group in _groups(missing, counts):
                self._write(self._rows(windows, group, digests, projection))
                bar.update(sum(counts[recording] for recording in group))
        if missing or len(fresh) < len(there) or known is None or not known.tiles:
            self._compact()
            tiles, of_tokens = count_tokens(self.tables.reader(TOKENS))
            TokenDescription(projection, tiles, of_tokens).write(self.location)
        return total

    def _projection(
        self, known: TokenDescription | None, windows: TableReader, counts: Mapping[str, int]
    ) -> Projection:
        """The projection that is there, or a new one: learned where there is none, or again where it saw too little."""
        learned = known.projection.windows if known else 0
        if known and (learned >= ENOUGH or sum(counts.values()) < 2 * learned):
            return known.projection
        first, number = [], 0
        for recording, count in counts.items():
            if number >= ENOUGH:
                break
            first.append(recording)
            number += count
        found = [window for of in read_spoken(windows, first).values() for window in of][:ENOUGH]
        vectors = [tokens.vectors for tokens in self._encode(found, lambda vectors: vectors)]
        projection = Projection.learn(np.concatenate(vectors), len(found))
        TokenDescription(projection).write(self.location)
        return projection

    def _encode(
        self, windows: Sequence[SpokenWindow], projection: Callable[[np.ndarray], np.ndarray]
    ) -> list[TextTokens]:
        """The tokens of each window with projected vectors, which at full width would fill the memory."""
        found = []
        for start in range(0, len(windows), AT_ONCE):
            texts = [join_words(word.text for word in window.words) for window in windows[start : start + AT_ONCE]]
            tokens = self.text_encoder.encode_tokens(texts, "passage")
            found += [one._replace(vectors=projection(self._as_passages(one.vectors))) for one in tokens]
        return found

    def _as_passages(self, vectors: np.ndarray) -> np.ndarray:
        import torch

        if vectors.shape[1] != self._width:  # before the maps of its encoder: passages are projected after
            return vectors
        return self._passages(torch.from_numpy(vectors)).numpy()

    def _rows(
        self, windows: TableReader, recordings: Sequence[str], digests: Mapping[str, str], projection: Projection
    ) -> list[TileRow]:
        rows = []
        for recording, spoken in read_spoken(windows, recordings).items():
            tiles = tiles_of([(w.start_s, w.end_s) for w in spoken], [w.words for w in spoken])
            sources = sorted({tile.window for tile in tiles})
            encoded = dict(zip(sources, self._encode([spoken[i] for i in sources], projection.apply), strict=True))
            places = {i: word_places(spoken[i].words, encoded[i].spans) for i in sources}
            for tile in tiles:
                inside = np.flatnonzero(np.isin(places[tile.window], tile.words))
                if not len(inside):  # words past the longest input of the text encoder
                    continue
                vectors = encoded[tile.window].vectors[inside]
                clusters = clusters_of(vectors)
                members = np.zeros(len(inside), MEMBER)
                members["token"] = np.asarray(encoded[tile.window].ids)[inside]
                members["word"], members["cluster"] = places[tile.window][inside], clusters
                source = spoken[tile.window]
                row = {
                    "recording": recording, "windows": digests[recording], "projection": projection.id,
                    "start_s": tile.start_s, "end_s": tile.end_s, "window_start_s": source.start_s,
                    "window_end_s": source.end_s, "members": members.tobytes(),
                    "vectors": to_bytes(pool(vectors, clusters)),
                }  # fmt: skip
                rows.append(row | {"checksum": tile_checksum(row)})
        return rows

    def _write(self, rows: Sequence[TileRow]) -> None:
        import pyarrow

        if rows:
            with writing(self.location):
                table = self.tables.make_tokens()
            with confirmed(self.location, table, len(rows)):
                table.add(pyarrow.Table.from_pylist(list(rows), schema=tokens_schema()))

    def _delete(self, recordings: Sequence[str]) -> None:
        table = self.tables.tokens
        if recordings and table is not None:
            with writing(self.location):
                table.delete(f"recording IN ({', '.join(map(quote, recordings))})")

    def _compact(self) -> None:
        from datetime import timedelta

        table = self.tables.tokens
        if table is not None:
            with writing(self.location):
                table.optimize(cleanup_older_than=timedelta(seconds=OLDER_S))


def windows_digests(windows: TableReader) -> tuple[dict[str, str], dict[str, int]]:
    """A digest of the spoken windows of each recording, and how many they are."""
    of: dict[str, list[str]] = {}
    for batch in windows.batches(["recording", "id", "checksum"], SPOKEN):
        for recording, id_, checksum in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            of.setdefault(recording, []).append(f"{id_} {checksum}")
    digests = {
        recording: hashlib.blake2b("\n".join(sorted(lines)).encode(), digest_size=8).hexdigest()
        for recording, lines in sorted(of.items())
    }
    return digests, {recording: len(of[recording]) for recording in digests}


def tokens_there(tokens: TableReader | None) -> dict[str, set[tuple[str, str]]]:
    """Of each recording with token vectors, the digests of windows and the ids of projections of its rows."""
    found: dict[str, set[tuple[str, str]]] = {}
    for batch in tokens.batches(["recording", "windows", "projection"]) if tokens is not None else ():
        for recording, windows, projection in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            found.setdefault(recording, set()).add((windows, projection))
    return found


def count_tokens(tokens: TableReader | None) -> tuple[int, dict[int, int]]:
    """The number of tiles, and of those with each token."""
    tiles, counts = 0, Counter[int]()
    for batch in tokens.batches(["members"]) if tokens is not None else ():
        for members in batch["members"].to_pylist():
            tiles += 1
            counts.update(np.unique(np.frombuffer(members, MEMBER)["token"]).tolist())
    return tiles, dict(counts)


def read_spoken(windows: TableReader, recordings: Sequence[str]) -> dict[str, list[SpokenWindow]]:
    """The spoken windows of recordings, by start."""
    found: dict[str, list[SpokenWindow]] = {recording: [] for recording in recordings}
    where = f"recording IN ({', '.join(map(quote, recordings))}) AND {SPOKEN}"
    for batch in windows.batches(["recording", "start_s", "end_s", "words"], where) if recordings else ():
        for row in batch.to_pylist():
            words = [Word(**word) for word in row["words"]]
            found[row["recording"]].append(SpokenWindow(row["start_s"], row["end_s"], words))
    return {recording: sorted(of, key=lambda w: (w.start_s, w.end_s)) for recording, of in found.items()}


def word_places(words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """The word of each token of ``join_words(words)``, ``(U,)``: that of the token's last character."""
    text, starts, at = join_words(word.text for word in words), [], 0
    for word in words:
        at = text.index(word.text, at)
        starts.append(at)
        at += len(word.text)
    return np.array([max(0, bisect_right(starts, max(start, end - 1)) - 1) for start, end in spans], np.int64)


def tile_checksum(row: Mapping[str, Any]) -> str:
    """BLAKE2b of everything in a row but the checksum, 16 hexadecimal digits: LanceDB itself does not notice damage."""
    names = ("recording", "windows", "projection", "start_s", "end_s", "window_start_s", "window_end_s")
    digest = hashlib.blake2b(json.dumps([row[name] for name in names]).encode(), digest_size=8)
    digest.update(row["members"] + row["vectors"])
    return digest.hexdigest()


def _groups(recordings: Sequence[str], counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Recordings in groups of at least so many windows, but the last."""
    group: list[str] = []
    for recording in recordings:
        group.append(recording)
        if sum(map(counts.__getitem__, group)) >= GROUP:
            yield group
            group = []
    if group:
        yield group
