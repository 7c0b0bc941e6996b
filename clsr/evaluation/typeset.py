"""Tables as Markdown, CSV and LaTeX, and a page of them within another file."""

import csv
import io
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clsr.errors import InputError

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "≥": r"$\ge$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "✓": r"$\checkmark$", "✗": r"$\times$",
}  # fmt: skip
_MARKDOWN = {"*": r"\*", "|": r"\|", "_": r"\_", "<": "&lt;"}


class Column(NamedTuple):
    """A column: its title, the group of columns that it stands in, and whether it holds numbers."""

    title: str
    group: str = ""
    numbers: bool = True

    @property
    def name(self) -> str:
        """The title in one line, without arrows: ``Q-C R@1``, ``WER``."""
        group = "" if self.group in ("ASR", "Type") else self.group
        plain = re.sub(r" \([↑↓]\)", "", f"{group} {self.title}")
        return plain.replace(" Retrieval", "").strip()


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        name: ``2`` to ``7`` for those of the paper, or a word.
        title: one line.
        columns: at least one.
        blocks: rows that belong together, each row with a cell a column; in LaTeX a line is drawn between blocks.
        notes: what stands below, a sentence or two each.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    blocks: list[list[list[str]]]
    notes: list[str]

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"Table {self.name}. {self.title}" if self.name.isdigit() else self.title

    @property
    def file_name(self) -> str:
        """Name of its files, without suffix."""
        return f"table-{self.name}" if self.name.isdigit() else self.name


def to_markdown(table: Table) -> str:
    """Return a heading, the table and its notes; a table without rows says ``Not run.`` in their place."""
    lines = [f"### {_markdown(table.heading)}", ""]
    if table.blocks:
        lines.append("| " + " | ".join(_markdown(column.name) for column in table.columns) + " |")
        lines.append("| " + " | ".join("---:" if column.numbers else "---" for column in table.columns) + " |")
        rows = (row for block in table.blocks for row in block)
        lines += ["| " + " | ".join(map(_markdown, row)) + " |" for row in rows]
    else:
        lines.append("Not run.")
    for note in table.notes:
        lines += ["", _markdown(note)]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """Return a header and the rows; the first cell of a block, empty further down, is repeated in each row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    for block in table.blocks:
        first = ""
        for row in block:
            first = row[0] or first
            writer.writerow([first, *row[1:]])
    return text.getvalue()


def to_latex(table: Table) -> str:
    """Return a ``table*`` for the packages booktabs and amssymb, groups of columns in a header of their own."""
    alignment = "".join("r" if column.numbers else "l" for column in table.columns)
    lines = ["% needs \\usepackage{booktabs,amssymb}", r"\begin{table*}", r"\centering"]
    if table.blocks:
        lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", *_latex_groups(table.columns)]
        lines.append(_latex_row([column.title for column in table.columns]))
        for block in table.blocks:
            lines += [r"\midrule", *map(_latex_row, block)]
        lines += [r"\bottomrule", r"\end{tabular}"]
    else:
        lines.append("Not run.")
    caption = " ".join([f"{table.title.rstrip('.')}.", *table.notes])
    lines += [rf"\caption{{{_latex(caption)}}}", rf"\label{{tab:{table.file_name}}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The upper line of the header and the rules below its groups; nothing where no column has a group."""
    spans: list[tuple[str, int, int]] = []  # group, first and last column, from 1
    for at, column in enumerate(columns, 1):
        if spans and column.group and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1], at)
        else:
            spans.append((column.group, at, at))
    if not any(group for group, _, _ in spans):
        return []
    cells = [
        rf"\multicolumn{{{last - first + 1}}}{{c}}{{{_latex(group)}}}" if group else "" for group, first, last in spans
    ]
    rules = "".join(rf"\cmidrule(lr){{{first}-{last}}}" for group, first, last in spans if group)
    return [" & ".join(cells) + r" \\", rules]


def _latex_row(cells: Sequence[str]) -> str:
    # A bracket right after \\ would be read as its argument: {} keeps it apart.
    return " & ".join("{}" + _latex(cell) if cell.startswith("[") else _latex(cell) for cell in cells) + r" \\"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown(text: str) -> str:
    return "".join(_MARKDOWN.get(character, character) for character in text)


def page(tables: Sequence[Table]) -> str:
    """Return the Markdown of all tables, one below the other."""
    return "\n".join(map(to_markdown, tables))


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Write each table as ``.md``, ``.csv`` and ``.tex`` into a folder; a failure leaves what was there before."""
    written = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}
    contents = {f"{table.file_name}{suffix}": make(table) for table in tables for suffix, make in written.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tables-") as unfinished:
        for name, content in contents.items():
            (Path(unfinished) / name).write_text(content, encoding="utf-8")
        for name in contents:
            (Path(unfinished) / name).replace(folder / name)


def insert_page(file: Path, content: str) -> None:
    """Replace what stands between the marker lines of a file; all of it or nothing.

    Raises:
        InputError: the file cannot be read, or the two markers are not there once each, in their order.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file}: cannot be read ({error}): name a text file with the markers {BEGIN}, {END}"
        ) from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{file}: needs the lines {BEGIN} and {END}, once each: the results go between them")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    unfinished = file.with_name(file.name + ".tmp")
    try:
        unfinished.write_text(f"{before}{BEGIN}\n\n{content}\n{END}{after}", encoding="utf-8")
        unfinished.chmod(file.stat().st_mode)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
