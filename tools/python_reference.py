#!/usr/bin/env python3
"""Write docs/reference/python.md: the public names of clsr, from their signatures and docstrings.

Usage: tools/python_reference.py [FILE]
"""

import argparse
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clsr

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "python.md"
HEADER = """# Python

What `import clsr` gives; other modules are internal and may change. `tools/python_reference.py` makes this page from
the docstrings. [examples/](../../examples/README.md) has scripts and a notebook.
"""
WIDTH = 100  # of a signature on one line


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write the reference of the public names of clsr.")
    parser.add_argument("file", nargs="?", type=Path, default=PAGE)
    parser.parse_args().file.write_text(reference(), encoding="utf-8")


def reference() -> str:
    """The page: an entry a public name, in the order of ``clsr.__all__`` with functions first."""
    names = [name for name in clsr.__all__ if not name.startswith("_")]
    names.sort(key=lambda name: (inspect.isclass(getattr(clsr, name)), name))
    return "\n".join([HEADER, *(line for name in names for line in _entry(name, getattr(clsr, name)))])


def _entry(name: str, thing: Any) -> Iterator[str]:
    """Lines of a class with its public methods, or of a function."""
    yield f"## clsr.{name}\n"
    yield from _code(_signature(name, thing))
    yield from _prose(inspect.getdoc(thing) or "")
    for member, raw in vars(thing).items() if inspect.isclass(thing) else ():
        if member.startswith("_") or not (described := inspect.getdoc(getattr(thing, member))):
            continue
        if isinstance(raw, property):
            yield f"### {name}.{member}\n"
            yield from _prose(described)
        elif isinstance(raw, classmethod | staticmethod) or inspect.isfunction(raw):
            yield f"### {name}.{member}()\n"
            yield from _code(_signature(member, getattr(thing, member)))
            yield from _prose(described)


def _code(text: str) -> Iterator[str]:
    yield f"```python\n{text}\n```\n"


def _signature(name: str, thing: Callable[..., Any]) -> str:
    """The definition of a function or class, as Python without its body."""
    signature = inspect.signature(thing)
    parameters = ["self"] * inspect.isclass(thing) + [_parameter(of) for of in signature.parameters.values()]
    returns = "" if inspect.isclass(thing) else _annotation(" -> ", signature.return_annotation)
    line = f"def {name}({', '.join(parameters)}){returns}: ..."
    if len(line) > WIDTH:
        line = f"def {name}(\n" + "".join(f"    {one},\n" for one in parameters) + f"){returns}: ..."
    if not inspect.isclass(thing):
        return line
    return f"class {name}:\n" + "\n".join(
        "    " + part for part in line.replace(f"def {name}", "def __init__").split("\n")
    )


def _parameter(of: inspect.Parameter) -> str:
    if of.default is of.empty:
        return str(of.replace(annotation=of.empty)) + _annotation(": ", of.annotation)
    default = json.dumps(of.default) if isinstance(of.default, str) else repr(of.default)
    default = "..." if "factory" in default else default  # of a dataclass
    separator = " = " if of.annotation is not of.empty else "="
    return of.name + _annotation(": ", of.annotation) + separator + default


def _annotation(before: str, annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return before + text.replace("'", '"')  # as ruff writes the page


def _prose(docstring: str) -> Iterator[str]:
    """A docstring in Markdown: sections become lists, double backquotes single ones."""
    section = ""
    text = re.sub(r"``(.+?)``", r"`\1`", docstring)
    for block in text.split("\n\n"):
        title, _, rest = block.partition("\n")
        if title in ("Args:", "Attributes:", "Returns:", "Raises:", "Yields:"):
            section = {"Args:": "Arguments", "Attributes:": "Attributes"}.get(title, title.rstrip(":"))
            yield f"{section}:\n"
            yield "\n".join(_items(textwrap.dedent(rest))) + "\n"
        else:
            yield block + "\n"


def _items(lines: str) -> Iterator[str]:
    """List items of a section's entries; a continued line is joined to its entry."""
    entries = re.sub(r"\n\s+", " ", lines).split("\n")
    for entry in entries:
        name, colon, meaning = entry.partition(": ")
        yield f"- `{name}`: {meaning}" if colon and re.fullmatch(r"[\w, ]+", name) else f"- {entry}"


if __name__ == "__main__":
    main()
