"""The tokens of a query and the words that they matched in the windows found by MaxSim. Internal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from clsr.index.index import Index
from clsr.index.ranking import RankedWindow
from clsr.index.rows import window_id
from clsr.index.tokens.maxsim import MatchedToken
from clsr.text.encoder import TextTokens
from clsr.vocabulary import Word, normalise


class TokenMatch(NamedTuple):
    """A token of a query and the word whose vector is nearest to its own; times in seconds of the recording."""

    token: str
    word: str
    start_s: float
    end_s: float
    cosine: float


def find_token_matches(
    index: Index, windows: Sequence[RankedWindow], text: str, tokens: TextTokens
) -> list[tuple[TokenMatch, ...]]:
    """What each token of a query matched in each window, in the order of the query.

    A stored vector is that of about two tokens: of their words it is the one that the query has, or else the first.

    Args:
        index: with token vectors.
        windows: found in it.
        text: of the query.
        tokens: its tokens.

    Raises:
        InputError: the index has no token vectors.
    """
    matched = index.matched_tokens(windows, tokens)
    sources = {
        window_id(window.recording, match.source): RankedWindow("", window.recording, *match.source, 0.0)
        for window, matches in zip(windows, matched, strict=True)
        for match in matches
    }
    read = index.recognised([window._replace(id=id_) for id_, window in sources.items()])
    words = {window.id: recognised.words for window, recognised in read}
    names = [text[start:end] for start, end in tokens.spans]
    return [
        tuple(
            _match(names[match.token], match, words[id_])
            for match in matches
            if (id_ := window_id(window.recording, match.source)) in words  # or a writer has been there since
        )
        for window, matches in zip(windows, matched, strict=True)
    ]


def _match(name: str, match: MatchedToken, words: Sequence[Word]) -> TokenMatch:
    candidates = [words[place] for place in match.words]
    same = (word for word in candidates if normalise(word.text) == normalise(name))
    return TokenMatch(name, *next(same, candidates[0]), match.cosine)
