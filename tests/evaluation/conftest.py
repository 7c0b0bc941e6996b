"""Small reports, written as a repository keeps them: report.json without rankings."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

WriteResult = Callable[..., Path]


def recalls(value: float) -> dict[str, dict[str, float]]:
    """Recall@1 of a value, the others 0.1 and 0.2 above, each within 0.05."""
    values = {"recall@1": value, "recall@5": value + 0.1, "recall@10": value + 0.2, "mrr@10": value + 0.05}
    return {metric: {"value": at, "low": at - 0.05, "high": at + 0.05} for metric, at in values.items()}


@pytest.fixture
def write_result() -> WriteResult:
    """Write a report of systems with the Q-C recall@1 given, C-Q recall 0.1 lower, ``errors`` in 1,000 words."""

    def write(
        folder: Path,
        tags: Mapping[str, str],
        systems: Mapping[str, float],
        errors: int = 100,
        seconds: float = 10.0,
        differences: Sequence[Any] = (),
        unit: str = "word",
    ) -> Path:
        wer = {"value": errors / 1000, "errors": errors, "words": 1000, "unit": unit}
        rows = [
            {
                "name": name,
                "wer": None if name in ("text", "parabge") else wer,
                "q2c": recalls(value),
                "c2q": recalls(value - 0.1),
                "seconds": seconds,
                "audio_seconds": 60.0,
            }
            for name, value in systems.items()
        ]  # fmt: skip
        model = {"path": "exp/joint", "fingerprint": "0123456789abcdef", "parameters": 1_600_000}
        content = {
            "set": "data/test", "questions": 40, "passages": 40, "model": model, "command": "clsr evaluate",
            "commit": "abc1234", "hardware": "2 cores", "seed": 0, "tags": dict(tags), "rows": rows,
            "differences": list(differences),
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(content))
        return folder / "report.json"

    return write


@pytest.fixture
def write_longform() -> WriteResult:
    """Write a report on long recordings: windows with an answerer, whole recordings with the one given."""

    def write(folder: Path, tags: Mapping[str, str], answerer: str | None = None, commit: str = "abc1234") -> Path:
        def share(value: float) -> dict[str, float]:
            return {"value": value, "low": value - 0.05, "high": value + 0.05}

        whole = {"name": "whole recording", "exact_match": answerer and share(0.125), "f1": answerer and share(0.25),
                 "span_in_top_k": {"1": share(0.75)}, "returned_s": 1800.0, "time_iou": None, "seconds": 100.0,
                 "answerer": answerer}  # fmt: skip
        top = {"name": "clsr-soft top 1", "scope": "all", "exact_match": share(0.25), "f1": share(0.5),
               "span_in_top_k": {"1": share(0.5)}, "returned_s": 40.0, "time_iou": share(0.125), "seconds": 12.5,
               "answerer": "reader"}  # fmt: skip
        content = {"kind": "longform", "tags": dict(tags), "command": "clsr", "commit": commit, "hardware": "2 cores",
                   "rows": [whole, top]}  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "longform.json").write_text(json.dumps(content))
        return folder / "longform.json"

    return write
