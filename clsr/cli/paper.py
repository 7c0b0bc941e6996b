"""Commands that make the paper's tables and figures: ``clsr tables`` and ``clsr plot ...``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clsr.cli.options import File, Folder, positional
from clsr.paper.config import TableName


@dataclass(kw_only=True)
class Tables:
    """Make the paper's tables from the results below some folders.

    Args:
        experiments: folders with reports, at any depth.
        output: folder for each table as Markdown, CSV and LaTeX.
        only: tables to make; all by default.
        into: page to put the tables into, between its marker lines.
    """

    experiments: Annotated[list[Folder], "EXP"] = positional()
    output: Folder | None = None
    only: Annotated[tuple[TableName, ...], "NAME"] = ()
    into: File | None = None

    def run(self) -> None:
        """Write the tables and print them."""
        from clsr.evaluation.typeset import insert_page, page, write_tables
        from clsr.paper.tables import make_tables

        tables = make_tables(self.experiments, self.only)
        if self.into:
            insert_page(self.into, page(tables))
        if self.output:
            write_tables(tables, self.output)
        print(page(tables))


@dataclass(kw_only=True)
class Plot:
    """Draw a figure of results.

    Args:
        inputs: files of results, or folders of reports.
        output: file of the figure, PNG or SVG.
    """

    inputs: list[File] = positional()
    output: File


class PlotLearning(Plot):
    """Draw word error rate and losses of trainings, from their metrics.csv."""

    def run(self) -> None:
        """Draw the learning curves."""
        from clsr.paper.plots import learning_curve

        learning_curve(self.inputs, self.output)
        print(self.output)


class PlotRecall(Plot):
    """Draw the recall of every row, a panel per report."""

    def run(self) -> None:
        """Draw the bars."""
        from clsr.paper.plots import recall_bars

        recall_bars(self.inputs, self.output)
        print(self.output)


class PlotWerRecall(Plot):
    """Draw recall against word error rate (Figure 6), a point per report."""

    def run(self) -> None:
        """Draw the points, and print the trends."""
        from clsr.paper.trends import wer_recall

        print("\n".join(wer_recall(self.inputs, self.output)))
        print(self.output)


class PlotNoise(Plot):
    """Draw recall against signal-to-noise ratio, a line per row."""

    def run(self) -> None:
        """Draw the lines."""
        from clsr.paper.trends import noise_curves

        noise_curves(self.inputs, self.output)
        print(self.output)


@dataclass(kw_only=True)
class PlotAlignment:
    """Draw a question against its passage, token by token (Figure 7).

    Args:
        output: file of the figure, PNG or SVG.
        model: checkpoint folder.
        parabge: checkpoint folder of ParaBGE, drawn beside it.
        set: folder of the retrieval set.
        question: id of the question in the set.
    """

    output: File
    model: Folder
    parabge: Folder | None = None
    set: Folder
    question: Annotated[str, "ID"]

    def run(self) -> None:
        """Draw the alignment."""
        from clsr.paper.alignment import draw_alignment

        draw_alignment(self.model, self.parabge, self.set, self.question, self.output)
        print(self.output)
