"""Commands that measure systems: ``clsr evaluate``, ``report``, ``longform`` and ``mteb``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from clsr.cli.options import Folder, Hardware, Ref, options_of, positional
from clsr.evaluation.config import EvaluationConfig, LongFormConfig


@dataclass(kw_only=True)
class Evaluate:
    """Measure word error rate and recall together.

    Args:
        model: checkpoint folders, those of baselines too, and released baselines as SCHEME:FOLDER.
        set: folder of the retrieval set.
        output: folder of the report.
    """

    model: list[str]
    set: Folder
    output: Folder
    measuring: EvaluationConfig = options_of(EvaluationConfig, rename={"tags": "tag"})

    def run(self) -> None:
        """Write the report and print it."""
        from clsr.evaluation.measure import evaluate
        from clsr.evaluation.report import write_report

        write_report(evaluate(self.model, self.set, self.measuring), self.output)
        print((self.output / "report.md").read_text(encoding="utf-8"))


@dataclass(kw_only=True)
class CompareReports:
    """Put reports side by side, with what differs significantly.

    Args:
        reports: folders of reports; all are compared with the first.
    """

    reports: list[Folder] = positional()

    def run(self) -> None:
        """Print the comparison."""
        from clsr.evaluation.report import compare

        print(compare(self.reports))


@dataclass(kw_only=True)
class LongForm:
    """Put questions about long recordings: find windows, and answer from them.

    Args:
        model: checkpoint folder.
        set: folder that clsr data lengthen wrote.
        output: folder of the report.
        answerer: audio language model that answers: local:FOLDER (Qwen2-Audio) or http://HOST:PORT/v1#MODEL; without
            one only the windows are measured.
    """

    model: Annotated[str, "DIR"]
    set: Folder
    output: Folder
    answerer: Annotated[str | None, "REF"] = None
    measuring: LongFormConfig = options_of(LongFormConfig, rename={"tags": "tag"})

    def run(self) -> None:
        """Write the report and print it."""
        from clsr.evaluation.longform import measure
        from clsr.search.answerers import load_answerer

        answerer = load_answerer(self.answerer) if self.answerer else None
        measure(self.model, self.set, self.output, self.measuring, self.answerer, answerer)
        print((self.output / "longform.md").read_text(encoding="utf-8"))


@dataclass(kw_only=True)
class MeasureTasks:
    """Measure a model on tasks of mteb, or on retrieval sets by mteb.

    Args:
        tasks: names of tasks, or folders of retrieval sets.
        model: model to measure.
        output: folder of the results, in mteb's format.
        text_encoder: text encoder to use in place of the model's own.
    """

    tasks: list[str] = positional()
    model: Ref
    output: Folder
    text_encoder: Annotated[str | None, "REF"] = None
    hardware: Hardware = options_of(Hardware)

    def run(self) -> None:
        """Write the results, and print the main score of each task."""
        from clsr.model import load

        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before it is imported: what is not cached fails at once
        model = load(self.model, self.hardware.device, self.hardware.precision, self.text_encoder)
        from clsr.adapters.mteb import evaluate

        for score in evaluate(model, self.tasks, self.output):
            print(f"{score.task}  {score.split}  {score.subset}  {score.metric} {100 * score.value:.1f}")
