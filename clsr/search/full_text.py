"""Transcripts -> terms of LanceDB's full-text index."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lancedb.index import FTS

TEXT_COLUMN = "text"


def full_text_config() -> FTS:
    """How the full-text index of transcripts is built, for ``table.create_index(TEXT_COLUMN, config=...)``.

    Words are found by ICU's dictionaries, so that Chinese, which is written without spaces, is split too; English words
    are reduced to their stems, and words such as "the" and "what" are left out.
    """
    from lancedb.index import FTS

    return FTS(base_tokenizer="icu")
