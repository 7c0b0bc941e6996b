"""The commands of tables, figures and long recordings; modules are imported by the one that needs them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

TABLES = ("2", "gains", "3", "4", "5", "6", "7", "noise", "summary")
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
            command.add_argument("--parabge", type=Path, metavar="DIR", help="checkpoint of the baseline, beside it")
            command.add_argument("--set", type=Path, required=True, metavar="DIR", dest="set_dir", help="retrieval set")
            command.add_argument("--question", required=True, metavar="ID", help="its id in the set")
        else:
            command.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="files, or folders of reports")


def tag(text: str) -> tuple[str, str]:
    """The key and value of ``KEY=VALUE``.

    Raises:
        ArgumentTypeError: it is not of this form.
    """
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}' is no KEY=VALUE")
    return key, value


def add_longform(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr longform``."""
    command = add(commands, "longform", "put questions about long recordings: find windows, and answer", _longform)
    command.add_argument("--model", required=True, metavar="DIR", help="checkpoint folder")
    command.add_argument("--set", type=Path, required=True, metavar="DIR", dest="set_dir", help="of clsr data lengthen")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the report")
    command.add_argument("--window-s", type=float, default=40.0, help="length of a window (40)")
    command.add_argument("--hop-s", type=float, default=20.0, help="from one window's start to the next (20)")
    command.add_argument(
        "--top-k", type=int, nargs="+", default=[1, 3, 5], metavar="K", help="windows returned (1 3 5)"
    )
    command.add_argument("--row", help="system of the model that looks (its last: clsr-soft, parabge)")
    references = "what answers: local:FOLDER (Qwen2-Audio) or http://HOST:PORT/v1#MODEL"
    command.add_argument("--answerer", metavar="REF", help=references)
    command.add_argument("--whole", action="store_true", help="hand the whole recording to the answerer too")
    command.add_argument("--typed", action="store_true", help="questions as text, where they are spoken too")
    command.add_argument("--tag", nargs="+", type=tag, default=[], metavar="KEY=VALUE", help="dataset, seed, ...")
    command.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")


def _longform(options: argparse.Namespace) -> None:
    from clsr.evaluation.config import LongFormConfig
    from clsr.evaluation.longform import measure
    from clsr.search.answerers import load_answerer

    names = ("window_s", "hop_s", "row", "whole", "typed", "seed")
    given = {name: getattr(options, name) for name in names}
    config = LongFormConfig(top_k=tuple(options.top_k), tags=dict(options.tag), **given)
    answerer = load_answerer(options.answerer) if options.answerer else None
    measure(options.model, options.set_dir, options.output, config, options.answerer, answerer)
    print((options.output / "longform.md").read_text(encoding="utf-8"))


def _tables(options: argparse.Namespace) -> None:
    from clsr.evaluation.typeset import insert_page, page, write_tables
    from clsr.paper.tables import make_tables

    tables = make_tables(options.experiments, options.only)
    if options.into:
        insert_page(options.into, page(tables))
    if options.output:
        write_tables(tables, options.output)
    print(page(tables))


def _plot(options: argparse.Namespace) -> None:
    from clsr.paper.plots import learning_curve, recall_bars
    from clsr.paper.trends import noise_curves, wer_recall

    if options.kind == "alignment":
        from clsr.paper.alignment import draw_alignment

        draw_alignment(options.model, options.parabge, options.set_dir, options.question, options.output)
    elif options.kind == "wer-recall":
        print("\n".join(wer_recall(options.inputs, options.output)))
    else:
        draw = {"learning": learning_curve, "recall": recall_bars, "noise": noise_curves}[options.kind]
        draw(options.inputs, options.output)
    print(options.output)
