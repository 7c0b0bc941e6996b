#!/usr/bin/env python
"""Print the tables of the README from kept reports: error rates and recall by condition, and long recordings."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from clsr.corpora.script import run_script
from clsr.evaluation.longform_report import LongFormRow
from clsr.evaluation.typeset import Column, Table, to_markdown
from clsr.metrics.recall import Interval
from clsr.paper.cells import ABSENT, interval_cell, over_seeds, system_name
from clsr.paper.results import Condition, collect, collect_longform

CONDITIONS = {
    "clean": "clean", "20": "white 20", "10": "white 10", "5": "white 5", "0": "white 0", "babble10": "babble 10",
    "babble5": "babble 5", "babble0": "babble 0", "telephone": "telephone",
}  # fmt: skip
METRICS = ("recall@1", "recall@5", "recall@10")
LONG = (
    ("3", "long", "Moments in long recordings"),
    ("4", "long_dev", "Moments in long recordings, questions about development speakers"),
)
NOTE = "In percent. Of several seeds mean [lowest, highest], else value [95 % bootstrap interval over questions]."


def condition_of(condition: Condition) -> str:
    """How the passages sound."""
    return condition.tags.get("condition") or condition.tags.get("snr_db", "clean")


def label(row: str, condition: Condition) -> str:
    """The system of a row, with its recogniser or training where that is said."""
    named = [condition.tags[tag] for tag in ("recogniser", "training") if tag in condition.tags and row != "text"]
    return " ".join([system_name(row), *(f"({name})" for name in named)])


def tables(folders: Sequence[Path], split: str) -> Iterable[Table]:
    """The tables of one split: of clean speech in detail, and of all conditions."""
    chosen = [condition for condition in collect(folders) if condition.tags.get("split") == split]
    chosen.sort(key=lambda condition: "text" not in condition.rows)  # the oracle first
    detail: dict[str, list[str]] = {}
    by_condition: dict[str, dict[str, str]] = {}
    for condition in chosen:
        how = condition_of(condition)
        for row, of_seeds in sorted(condition.rows.items(), key=lambda item: item[0] != "text"):
            rows = list(of_seeds.values())[: 1 if row == "text" else None]  # no training changes the oracle
            rates = [100 * one.wer.total.value for one in rows if one.wer]
            cells = [interval_cell([one.q2c.intervals[metric] for one in rows if one.q2c]) for metric in METRICS]
            wer = over_seeds(rates) if rates else ABSENT
            name = label(row, condition)
            if how == "clean" and name not in detail:
                detail[name] = [name, wer, *cells]
            short = f"{wer.split()[0]} / {cells[0].split()[0]}" if rates else cells[0].split()[0]
            by_condition.setdefault(name, {}).setdefault(how, short)
    columns = (Column("System", numbers=False), *map(Column, ("WER", "R@1", "R@5", "R@10")))
    yield Table("1", f"Clean speech ({split})", columns, [list(detail.values())], [NOTE])
    there = [how for how in CONDITIONS if any(how in cells for cells in by_condition.values())]
    columns = (Column("System", numbers=False), *(Column(CONDITIONS[how]) for how in there))
    body = [[name, *(cells.get(how, ABSENT) for how in there)] for name, cells in by_condition.items()]
    yield Table("2", f"In noise (dB) and over the telephone ({split})", columns, [body], ["WER / R@1, in percent."])


def long_table(folders: Sequence[Path], number: str, split: str, title: str) -> Table:
    """Moments in long recordings: those of one split's questions."""
    body = []
    for tags, (titles, _) in collect_longform(folders).items():
        about = dict(tags)
        if about.get("split") != split:
            continue
        ranked: dict[tuple[str, str], dict[str, list[LongFormRow]]] = {}
        for rows in titles.values():
            if rows[0].scope:
                name, _, k = rows[0].name.partition(" top ")
                ranked.setdefault((name, rows[0].scope), {})[k] = rows
        for (name, scope), by_k in ranked.items():
            if about.get("among") == "others" and scope == "recording":
                continue  # the same as without others
            where = {"recording": "its recording", "all": "all chapters"}[scope]
            where = "these and other speech" if about.get("among") == "others" else where
            who = about.get("recogniser") or about.get("training", "")
            cells = [success(by_k.get(k, ())) for k in ("1", "5")]
            overlap = interval_cell([row.time_iou for row in by_k.get("1", ()) if row.time_iou])
            body.append([f"{name} ({who})", where, about.get("window", ""), *cells, overlap])
    body.sort(key=lambda row: (row[1], float(row[2] or 0)))
    columns = (Column("System", numbers=False), Column("Searched in", numbers=False),
               *map(Column, ("Window (s)", "Success@1", "Success@5", "Time IoU of the first")))  # fmt: skip
    note = "Success: the middle of the passage lies in a window returned. " + NOTE
    return Table(number, title, columns, [body], [note])


def success(rows: Iterable[LongFormRow]) -> str:
    """Share of questions whose passage is found."""
    shares: list[Interval] = [row.success for row in rows if row.success]
    return interval_cell(shares) or ABSENT


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders with report.json and longform.json files")

    def work(args: argparse.Namespace) -> None:
        made = [table for split in ("test", "test_unseen") for table in tables(args.results, split)]
        made += [long_table(args.results, *of) for of in LONG]
        print("\n".join(to_markdown(table) for table in made if table.blocks[0]))

    run_script(parser, work)


if __name__ == "__main__":
    main()
