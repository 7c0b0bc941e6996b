"""Transcripts -> terms of LanceDB's full-text index."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lancedb.index import FTS

TEXT_COLUMN = "text"
# Lucene's English list, and what only asks. ICU's own list joins those of many languages, and drops "sea" and "dog".
STOP_WORDS = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
    was will with do does did how what when where which who whom whose why
""".split()


def full_text_config() -> FTS:
    """How the full-text index of transcripts is built, for ``table.create_index(TEXT_COLUMN, config=...)``.

    Words are found by ICU's dictionaries, so that Chinese, which is written without spaces, is split too; English words
    are reduced to their stems, and words such as "the" and "what" (``STOP_WORDS``) are left out.
    """
    from lancedb.index import FTS

    return FTS(base_tokenizer="icu", custom_stop_words=STOP_WORDS)
