"""The commands of tables and figures; modules are imported by the one that needs them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

TABLES = ("2", "gains", "3", "4", "5", "6", "7", "noise")
FIGURES = {
    "learning": "word error rate and losses of trainings, from their metrics.csv",
    "recall": "recall of every row, a panel a report",
    "wer-recall": "recall against the word error rate (Figure 6), a point a report",
    "noise": "recall against the signal-to-noise ratio, a line a row",
    "alignment": "token by token, a question and its passage (Figure 7)",
}

Add = Callable[[argparse._SubParsersAction, str, str, Callable], argparse.ArgumentParser]
"""Add a command: to what, its name, its title, what runs it."""


def add_tables(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr tables``."""
    tables = add(commands, "tables", "make the paper's tables of the results below some folders", _tables)
    tables.add_argument("experiments", nargs="+", type=Path, metavar="EXP", help="folders with reports, however deep")
    tables.add_argument("--output", type=Path, metavar="DIR", help="write each as Markdown, CSV and LaTeX")
    tables.add_argument("--only", nargs="+", default=[], metavar="NAME", choices=TABLES, help=f"of {', '.join(TABLES)}")
    tables.add_argument("--into", type=Path, metavar="FILE", help="put them between the marker lines of this page")


def add_plots(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr plot`` with its kinds of figures."""
    plot = commands.add_parser("plot", help="draw learning curves, recall, trends, or an alignment")
    kinds = plot.add_subparsers(dest="kind", required=True, metavar="KIND", parser_class=type(plot))
    for kind, title in FIGURES.items():
        command = add(kinds, kind, title, _plot)
        command.add_argument("--output", type=Path, required=True, metavar="FILE", help="PNG or SVG")
        if kind == "alignment":
            command.add_argument("--model", type=Path, required=True, metavar="DIR", help="checkpoint folder")
            command.add_argument("--parabge", type=Path, metavar="DIR", help="checkpoint of the rival, beside it")
            command.add_argument("--set", type=Path, required=True, metavar="DIR", dest="set_dir", help="retrieval set")
            command.add_argument("--question", required=True, metavar="ID", help="its id in the set")
        else:
            command.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="files, or folders of reports")


def _tables(options: argparse.Namespace) -> None:
    from clsr.evaluation.tables import make_tables
    from clsr.evaluation.typeset import insert_page, page, write_tables

    tables = make_tables(options.experiments, options.only)
    if options.into:
        insert_page(options.into, page(tables))
    if options.output:
        write_tables(tables, options.output)
    print(page(tables))


def _plot(options: argparse.Namespace) -> None:
    from clsr.evaluation.plots import learning_curve, recall_bars
    from clsr.evaluation.trends import noise_curves, wer_recall

    if options.kind == "alignment":
        from clsr.evaluation.alignment import draw_alignment

        draw_alignment(options.model, options.parabge, options.set_dir, options.question, options.output)
    elif options.kind == "wer-recall":
        print("\n".join(wer_recall(options.inputs, options.output)))
    else:
        draw = {"learning": learning_curve, "recall": recall_bars, "noise": noise_curves}[options.kind]
        draw(options.inputs, options.output)
    print(options.output)
