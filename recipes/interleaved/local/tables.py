#!/usr/bin/env python
"""Print the tables of the README from reports: by setting, by environment, by order, and differences of systems.

Differences, and the table by form of question, need rankings.jsonl beside the reports; kept results have none.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clsr.corpora.script import run_script
from clsr.evaluation.report import read_report
from clsr.evaluation.scores import ReportRow, Retrieval
from clsr.evaluation.typeset import Column, Table, to_markdown
from clsr.metrics.recall import paired_difference
from clsr.paper.cells import ABSENT, interval_cell, system_name
from clsr.paper.results import find_files

SETTINGS = {"a2t": "A→T", "t2a": "T→A", "iat2t": "IAT→T", "iat2a": "IAT→A"}
MIXED = ("iat2t", "iat2a")
ENVIRONMENTS = ("clean", "speech", "babble", "media")
ORDERS = {"": "in order", "parts": "parts shuffled", "positions": "positions shuffled", "both": "both"}
AVERAGED = "averaged-parts"
PARTS = {  # rows of the evaluation
    AVERAGED: "vectors of text and audio averaged", "text-parts": "text parts only", "audio-parts": "audio parts only",
}  # fmt: skip
METRICS = {"recall@1": "R@1", "ndcg@5": "nDCG@5"}
NOTE = "In percent. Of several seeds mean [lowest, highest], else value [95 % bootstrap interval over questions]."
POINTS = ("In points of R@1: mean over seeds, with 95 % paired-bootstrap intervals over questions; a star where "
          "the interval leaves out 0.")  # fmt: skip


class Place(NamedTuple):
    """What a report measured."""

    recogniser: str
    setting: str
    environment: str
    order: str


Measured = dict[Place, dict[str, list[ReportRow]]]
"""Rows of all seeds, by what was measured and the name of the row."""


def collect_rows(folders: Sequence[Path]) -> Measured:
    """The rows of all reports that have a setting."""
    found: Measured = {}
    for file in find_files(folders, "report.json"):
        report = read_report(file)
        tags = report.tags
        if "setting" in tags:
            place = Place(tags.get("recogniser", ""), tags["setting"], tags["environment"], tags.get("shuffle", ""))
            for row in report.rows:
                found.setdefault(place, {}).setdefault(row.name, []).append(row)
    return found


def label(row: str, recogniser: str) -> str:
    """The system of a row."""
    name = PARTS.get(row) or system_name(row)
    if row == "text":
        return name
    return f"{name}, {recogniser}" if recogniser else f"{name}, CLSR" if row in PARTS else name


def systems(measured: Measured) -> list[tuple[str, str]]:
    """Recogniser and row of each system, CLSR first; the oracle is of the first."""
    recognisers = sorted({place.recogniser for place in measured})
    rows = {who: list(dict.fromkeys(row for place, rows in measured.items() if place.recogniser == who for row in rows))
            for who in recognisers}  # fmt: skip
    return [(who, row) for who in recognisers for row in rows[who] if row != "text" or who == recognisers[0]]


def cell(rows: Iterable[ReportRow], metric: str) -> str:
    """A metric of the seeds of a row."""
    return interval_cell([row.q2c.intervals[metric] for row in rows if row.q2c]) or ABSENT


def table_of(
    number: str, title: str, measured: Measured, columns: Mapping[str, Callable[[str], Place]], metric: str,
    chosen: Callable[[str], bool] = lambda _: True,
) -> Table:  # fmt: skip
    """A line a system, a column a place."""
    body = []
    for who, row in systems(measured):
        cells = [cell(measured.get(place(who), {}).get(row, [])[: 1 if row == "text" else None], metric)
                 for place in columns.values()]  # fmt: skip
        if chosen(row) and any(value != ABSENT for value in cells):
            body.append([label(row, who), *cells])
    return Table(number, title, (Column("System", numbers=False), *map(Column, columns)), [body], [NOTE])


def value_tables(measured: Measured) -> Iterator[Table]:
    """What reports alone are enough for."""
    by_setting = {title: lambda who, s=s: Place(who, s, "clean", "") for s, title in SETTINGS.items()}
    for number, (metric, title) in zip("12", METRICS.items(), strict=True):
        yield table_of(number, f"{title} by setting, clean", measured, by_setting, metric)
    for number, setting in zip("34", MIXED, strict=True):
        there = [one for one in ENVIRONMENTS if any((p.setting, p.environment) == (setting, one) for p in measured)]
        columns = {one: lambda who, s=setting, e=one: Place(who, s, e, "") for one in there}
        yield table_of(number, f"R@1 of {SETTINGS[setting]} by environment", measured, columns, "recall@1")
    for number, setting in zip("56", MIXED, strict=True):
        columns = {title: lambda who, s=setting, o=o: Place(who, s, "clean", o) for o, title in ORDERS.items()}
        yield table_of(number, f"R@1 of {SETTINGS[setting]} by order", measured, columns, "recall@1",
                       lambda row: row not in ("text", *PARTS))  # fmt: skip


def of_questions(rows: Sequence[ReportRow]) -> Retrieval | None:
    """What the first seed found; None without rankings."""
    found = rows[0].q2c if rows else None
    return found if found and found.queries else None


def mean_values(rows: Sequence[ReportRow]) -> np.ndarray:
    """R@1 of each question ``(Q,)``, averaged over seeds."""
    return np.mean([row.q2c.values("recall@1") for row in rows if row.q2c], axis=0)


def difference(a: Sequence[ReportRow], b: Sequence[ReportRow]) -> str:
    """How much higher one is than the other on the same questions."""
    first, second = of_questions(a), of_questions(b)
    if not first or not second or first.query_ids != second.query_ids:
        return ABSENT
    found = paired_difference(mean_values(a), mean_values(b))
    star = " *" if found.low > 0 or found.high < 0 else ""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * bound for bound in found)) + star


def difference_tables(measured: Measured) -> Iterator[Table]:
    """Systems that read parts in turn against the mean of two vectors, the cascade, and shuffled order."""
    body = []
    for who, row in systems(measured):
        if row in ("text", "cascade", "cascade-8best", *PARTS):
            continue
        others = [(who, other) for other in (AVERAGED, "text-parts", "audio-parts", "cascade") if other != row]
        others += [] if who else [one for one in systems(measured) if one[0] and one[1] not in PARTS]
        for whose, other in others:
            cells = [
                difference(measured.get(Place(who, setting, environment, ""), {}).get(row, []),
                           measured.get(Place(whose, setting, environment, ""), {}).get(other, []))
                for setting in MIXED for environment in ENVIRONMENTS
            ]  # fmt: skip
            if any(value != ABSENT for value in cells):
                name = label(other, whose) if whose != who else PARTS.get(other) or system_name(other)
                body.append([f"{label(row, who)} − {name}", *cells])
    there = [at for at in range(2 * len(ENVIRONMENTS)) if any(row[at + 1] != ABSENT for row in body)]
    titles = [f"{SETTINGS[setting]}, {environment}" for setting in MIXED for environment in ENVIRONMENTS]
    columns = (Column("Difference", numbers=False), *(Column(titles[at]) for at in there))
    yield Table("7", "Differences between systems", columns, [[[r[0], *(r[at + 1] for at in there)] for r in body]],
                [POINTS])  # fmt: skip
    body = []
    for who, row in systems(measured):
        cells = []
        for setting in MIXED:
            in_order = measured.get(Place(who, setting, "clean", ""), {}).get(row, [])
            for order in filter(None, ORDERS):
                shuffled = measured.get(Place(who, setting, "clean", order), {}).get(row, [])
                cells.append(difference(shuffled, in_order[: len(shuffled)]))  # of the same seeds, which are in order
        if row not in ("text", *PARTS) and any(value != ABSENT for value in cells):
            body.append([label(row, who), *cells])
    titles = [f"{SETTINGS[setting]}, {title}" for setting in MIXED for order, title in ORDERS.items() if order]
    yield Table("8", "What shuffled order costs", (Column("System", numbers=False), *map(Column, titles)), [body],
                [POINTS])  # fmt: skip


def form_table(measured: Measured, questions: Path) -> Table:
    """R@1 by the form of the question."""
    forms = {row["id"]: row["form"] for row in map(json.loads, questions.read_text(encoding="utf-8").splitlines())}
    names = sorted(set(forms.values()))
    body = []
    for who, row in systems(measured):
        cells = []
        for setting in MIXED:
            rows = measured.get(Place(who, setting, "clean", ""), {}).get(row, [])
            found = of_questions(rows)
            for name in names:
                chosen = [at for at, id_ in enumerate(found.query_ids) if forms[id_] == name] if found else []
                cells.append(f"{100 * mean_values(rows)[chosen].mean():.1f}" if chosen else ABSENT)
        if any(value != ABSENT for value in cells):
            body.append([label(row, who), *cells])
    counts = {name: list(forms.values()).count(name) for name in names}
    titles = [f"{SETTINGS[setting]}, {name} ({counts[name]})" for setting in MIXED for name in names]
    return Table("9", "R@1 by form of question, clean", (Column("System", numbers=False), *map(Column, titles)), [body],
                 ["In percent, mean over seeds. In brackets the number of questions."])  # fmt: skip


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders with report.json files")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="questions.jsonl of the benchmark")

    def work(args: argparse.Namespace) -> None:
        measured = collect_rows(args.results)
        made = [*value_tables(measured), *difference_tables(measured)]
        if args.questions:
            made.append(form_table(measured, args.questions))
        print("\n".join(to_markdown(table) for table in made if table.blocks[0]))

    run_script(parser, work)


if __name__ == "__main__":
    main()
