#!/usr/bin/env python3
"""Write docs/reference/commands.md and settings.md from the dataclasses that make options and settings.

Usage: tools/reference.py [--check]; with --check nothing is written, and the exit status is 1 if a page is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from clsr.cli.main import COMMANDS
from clsr.cli.options import Command, CommandGroup, Option, describe_default, describe_meaning, options, title_of
from clsr.cli.training import Train
from clsr.config import TrainingConfig
from clsr.settings import ABOVE_0, LEAST, MOST, SHARES, Setting, list_settings

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE = "<!-- Written by tools/reference.py; change the docstrings instead. -->"


def commands_page() -> str:
    """Return every command with its options, as Markdown."""
    lines = [
        "# Commands", "", NOTE, "",
        "Every command explains itself: `clsr COMMAND --help`. Standard output carries results, standard error",
        "everything else. The exit status is 0; 2 for an error in the input, 130 for an interruption, 1 for a fault of",
        "clsr itself. Each but 0 is said in one line. `--debug` shows the traceback; that of a fault of clsr is in",
        "the file that the line names too. Characters that the encoding of the output lacks are written as `\\u8b1b`.",
    ]  # fmt: skip
    for name, command in flat_commands():
        if issubclass(command, Train):
            if name != "train-asr":
                continue
            lines += ["", "## clsr train-...", "", *stages(), *table(options(command))]
        else:
            lines += ["", f"## clsr {name}", "", f"{sentence(title_of(command))}", "", *table(options(command))]
    return "\n".join(lines) + "\n"


def flat_commands() -> Iterator[tuple[str, type[Command]]]:
    """Yield all commands by their names, those of a group too."""
    for name, command in COMMANDS.items():
        if isinstance(command, CommandGroup):
            yield from ((f"{name} {kind}", one) for kind, one in command.commands.items())
        else:
            yield name, command


def stages() -> list[str]:
    """The commands that train, which have the same options."""
    trains = [(name, command) for name, command in flat_commands() if issubclass(command, Train)]
    lines = [f"- `clsr {name}`: {title_of(command)}" for name, command in trains]
    settings = "Each [training setting](settings.md) is an option too, and `--settings` lists them all."
    return ["These commands train, and have the same options:", "", *lines, "", settings, ""]


def sentence(phrase: str) -> str:
    """A phrase with a capital and a full stop."""
    return f"{phrase[0].upper()}{phrase[1:]}."


def table(listed: Iterator[Option]) -> list[str]:
    """Options as rows of a table: positional ones first, required ones in bold."""
    rows = sorted(listed, key=lambda option: (option.name.startswith("--"), not option.required))
    cells = [(usage(option), cell(describe_meaning(option)), code(describe_default(option))) for option in rows]
    return ["| option | meaning | default |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in cells)]


def usage(option: Option) -> str:
    """An option as it is given: ``--top-k N``."""
    keywords = option.keywords
    metavar, nargs = keywords.get("metavar"), keywords.get("nargs")
    choices = f"{{{','.join(keywords['choices'])}}}" if "choices" in keywords else ""
    one = " ".join(metavar) if isinstance(metavar, tuple) else metavar or choices
    value = {"+": f"{one} ...", "*": f"[{one} ...]", "?": f"[{one}]"}.get(nargs, one)
    if isinstance(nargs, int) and not isinstance(metavar, tuple):
        value = " ".join([one] * nargs)
    text = f"`{option.name} {value}`".replace(" `", "`") if option.name.startswith("--") else f"`{value}`"
    if keywords.get("action") is argparse.BooleanOptionalAction:
        text += f", `--no-{option.name.removeprefix('--')}`"
    return f"**{text}**" if option.required else text


def settings_page() -> str:
    """Return every training setting with its default and range, as Markdown."""
    lines = [
        "# Training settings", "", NOTE, "",
        "A settings file is YAML and names only what differs from the defaults. Each key is an option of every",
        "`clsr train-...` command too: `--optimizer.max_steps 100`. Later files override earlier ones, and options",
        "override files. An unknown or double key and a value of the wrong type or out of range are errors that name",
        "the file and the key. A checkpoint's `config.yaml` holds all settings that it was trained with.",
    ]  # fmt: skip
    section: type | None = None
    for setting in list_settings(TrainingConfig):
        if setting.section is not section:
            section = setting.section
            prefix = setting.key.rpartition(".")[0]
            first = (section.__doc__ or "").split("\n\n")[0].strip()
            lines += ["", f"## {prefix or 'Top level'}", "", first.replace("``", "`"), ""]
            lines += ["| key | default | range | meaning |", "| --- | --- | --- | --- |"]
        default = json.dumps(setting.default)
        lines.append(f"| `{setting.key}` | `{default}` | {limits(setting)} | {cell(setting.meaning)} |")
    return "\n".join(lines) + "\n"


def limits(setting: Setting) -> str:
    """What values a setting may have."""
    hint: Any = get_type_hints(setting.section)[setting.key.rpartition(".")[2]]
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if setting.key in SHARES:
        return "0 to 1"
    if setting.key in MOST:
        return f"{LEAST[setting.key]} to {MOST[setting.key]}"
    if setting.key in LEAST:
        return f"{LEAST[setting.key]} or more"
    return "above 0" if setting.key in ABOVE_0 else ""


def cell(text: str) -> str:
    """A text that does not end its cell of a table."""
    return text.replace("|", "\\|").replace("``", "`").replace("*.", "\\*.").replace("**", "\\*\\*")


def code(text: str) -> str:
    """A text as code; nothing for none."""
    return f"`{text}`" if text else ""


PAGES = {"commands.md": commands_page, "settings.md": settings_page}


def main() -> int:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args().check
    stale = [name for name, page in PAGES.items() if not up_to_date(name, page())]
    for name in stale:
        if check:
            print(f"{FOLDER / name}: out of date: run tools/reference.py", file=sys.stderr)
        else:
            (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
            print(FOLDER / name)
    return 1 if check and stale else 0


def up_to_date(name: str, page: str) -> bool:
    """Is the page that is there the one that would be written?"""
    return (FOLDER / name).is_file() and (FOLDER / name).read_text(encoding="utf-8") == page


if __name__ == "__main__":
    sys.exit(main())
