"""``clsr bench``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from clsr.bench.config import PARTS, Part
from clsr.cli.options import File, Folder


@dataclass(kw_only=True)
class Bench:
    """Time encoding, search and training, with baselines beside them.

    Args:
        full: time all shapes and sizes, in an hour or more; by default fewer, in minutes.
        only: parts to time.
        model: checkpoint to encode with; by default there are two models with random weights, mini and full size.
        device: device that CLSR encodes on, in the parts shapes and path: cpu, cuda.
        json: print objects, one per line, instead of tables.
        output: file to write the measurements to, as JSON.
        tables: files that --output wrote, to be shown instead of measuring; only --json and --into go with them.
        into: page to put the tables into, between its marker lines.
    """

    full: bool = False
    only: Annotated[tuple[Part, ...], "PART"] = PARTS
    model: Folder | None = None
    device: str = "cpu"
    json: bool = False
    output: File | None = None
    tables: list[File] | None = None
    into: File | None = None

    def run(self) -> None:
        """Measure, or read measurements, and print them."""
        from clsr.bench.report import measure, page, read_measurement
        from clsr.evaluation.typeset import insert_page

        if self.tables:
            results = [read_measurement(file) for file in self.tables]
        else:
            results = [measure(self.full, self.only, self.model, self.device)]
            if self.output:
                self.output.write_text(json.dumps(results[0], indent=1) + "\n", encoding="utf-8")
        text = "\n\n".join(map(page, results))
        if self.into:
            insert_page(self.into, text)
        print("\n".join(map(json.dumps, results)) if self.json else text)
