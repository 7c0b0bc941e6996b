"""From a dataclass of options to a parser of the command line, and from what was given back to the dataclass.

A command is a dataclass with a method ``run``. Its docstring says what the command does, and under ``Args:`` what each
option means. The type of a field says what may be given:

============================  ====================================
``bool``                      a flag
``bool | None``               a flag, and the same with ``no-``
``X | None``                  an option that may be left out
``list[X]``, ``tuple[X, ...]``  one value or more
``tuple[X, X]``               so many values
``Literal["a", "b"]``         one of these
``Mapping[str, str]``         ``KEY=VALUE``, one or more
``Annotated[X, "DIR"]``       the same as ``X``, called so in the help
another dataclass             its fields are options of the command too
============================  ====================================

A field without default is required. Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, Protocol, Union, get_args, get_origin, get_type_hints

from clsr.config import Precision
from clsr.errors import InputError
from clsr.settings import DROPPED_KEYS, FORMER_KEYS, describe_settings, meanings, setting_names

Folder = Annotated[Path, "DIR"]
File = Annotated[Path, "FILE"]
Ref = Annotated[str, "REF"]
"""A model or text encoder: a folder, or where else it is."""
Location = Annotated[str, "DIR"]
"""Where an index is: a folder, or an address in an object store."""

WHERE, HOW, HARDWARE = GROUPS = ("what and where", "how", "hardware")
COMPUTING = ("device", "precision", "engine", "address", "workers", "jobs")  # options of the group hardware
UNITS = {"_s": "S", "_db": "DB", "_mb": "MB"}  # by the end of a name


class Command(Protocol):
    """What a command is an instance of, once its options are read."""

    def run(self) -> int | None:
        """Run the command; return its exit status, or None for 0."""


class CommandGroup(NamedTuple):
    """Commands that share their first word, such as ``clsr data make`` and ``clsr data validate``."""

    title: str
    commands: Mapping[str, type[Command]]


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Where and in which number format to compute.

    Args:
        device: device that CLSR computes on: cpu, cuda, cuda:1.
        precision: number format that CLSR computes in; auto goes by the hardware and the size of the model.
    """

    device: str = "cpu"
    precision: Precision = "auto"


class Option(NamedTuple):
    """An option of a command.

    Args:
        name: as it is given, ``--top-k``; of a positional argument the name of its field.
        path: names of fields that lead to its value, from the command down.
        group: heading in the help.
        meaning: of its value, with units.
        default: its value where it is not given.
        required: whether it has to be given.
        keywords: arguments of ``argparse.ArgumentParser.add_argument``.
    """

    name: str
    path: tuple[str, ...]
    group: str
    meaning: str
    default: Any
    required: bool
    keywords: dict[str, Any]


def positional(**options: Any) -> Any:
    """Make a field that is given without its name; ``default`` and ``default_factory`` as in ``dataclasses.field``."""
    return dataclasses.field(metadata={"positional": True}, **options)


def repeated(action: Literal["append", "extend"]) -> Any:
    """Make a field whose option may be repeated: for one value each ("append"), or several ("extend")."""
    return dataclasses.field(default=(), metadata={"action": action})


def options_of(kind: type, without: Sequence[str] = (), rename: Mapping[str, str] | None = None) -> Any:
    """Make a field of another dataclass whose fields are options of the command, but for some, or under other names."""
    return dataclasses.field(default_factory=kind, metadata={"without": without, "rename": rename or {}})


def settings_of(kind: type) -> Any:
    """Make a field of all training settings that are given as options, as texts like ``--optimizer.max_steps=100``."""
    return dataclasses.field(default_factory=list, metadata={"settings": kind})


def title_of(command: type[Command]) -> str:
    """Return what a command does, from its docstring: a phrase without full stop."""
    line = (command.__doc__ or "").split("\n\n")[0].strip().rstrip(".")
    return line[0].lower() + line[1:]


def options(command: type) -> Iterator[Option]:
    """Yield the options of a command, in the order of its fields."""
    yield from _walk(command, (), {})


def _walk(
    kind: type, path: tuple[str, ...], rename: Mapping[str, str], without: Sequence[str] = ()
) -> Iterator[Option]:
    hints, texts = get_type_hints(kind, include_extras=True), meanings(kind)
    for field in dataclasses.fields(kind):
        here, hint = (*path, field.name), hints[field.name]
        if field.name in without or "settings" in field.metadata:
            continue
        if dataclasses.is_dataclass(hint):
            inner = field.metadata
            yield from _walk(hint, here, inner.get("rename", {}), inner.get("without", ()))  # type: ignore[arg-type]
        else:
            yield _option(field, hint, here, rename.get(field.name, field.name), texts[field.name])


def _option(field: dataclasses.Field, hint: Any, path: tuple[str, ...], name: str, meaning: str) -> Option:
    keywords = _keywords(hint, name)
    default: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = default is dataclasses.MISSING
    group = HARDWARE if field.name in COMPUTING else WHERE if required or keywords.get("type") is Path else HOW
    if "action" in field.metadata:
        keywords["action"] = field.metadata["action"]
        if keywords["action"] == "append":
            del keywords["nargs"]
    if not field.metadata.get("positional"):
        return Option(f"--{name.replace('_', '-')}", path, group, meaning, default, required, keywords)
    if not required:
        keywords["nargs"] = "*" if keywords.get("nargs") == "+" else "?"
    return Option(name, path, WHERE, meaning, default, required, keywords)


def _keywords(hint: Any, name: str) -> dict[str, Any]:
    """Translate the type of a field into arguments of ``add_argument``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = inner[1].split()
        return _keywords(inner[0], name) | {"metavar": words[0] if len(words) == 1 else tuple(words)}
    if origin in (Union, UnionType) and type(None) in inner:
        kind = next(kind for kind in inner if kind is not type(None))
        return {"action": argparse.BooleanOptionalAction} if kind is bool else _keywords(kind, name)
    if origin in (list, tuple, Sequence):
        fixed = origin is tuple and Ellipsis not in inner
        return _keywords(inner[0], name) | {"nargs": len(inner) if fixed else "+"}
    if origin in (dict, Mapping):
        return {"type": _pair, "nargs": "+", "metavar": "KEY=VALUE"}
    if origin is Literal:
        return {"choices": inner}
    if hint is bool:
        return {"action": "store_true"}
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), None)
    return {"type": hint, "metavar": unit or {int: "N", float: "X", Path: "FILE"}.get(hint, name.upper())}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}' is no KEY=VALUE")
    return key, value


def describe_default(option: Option) -> str:
    """Return a default as it would be given; empty where there is none, or where the meaning says what happens."""
    default = option.default
    if option.required or default is None or default is False or default in ((), [], {}):
        return ""
    if isinstance(default, list | tuple):
        return "all" if default == option.keywords.get("choices") else " ".join(map(str, default))
    return str(default)


def describe_meaning(option: Option) -> str:
    """Return the meaning of an option, with what may be chosen where the usage does not show it."""
    choices = option.keywords.get("choices")
    hidden = f"; one of {', '.join(choices)}" if choices and "metavar" in option.keywords else ""
    return option.meaning + hidden


class OptionParser(argparse.ArgumentParser):
    """Parser that says what is wrong in one line, and learns the options of a command when they are needed."""

    def __init__(self, *, command: type[Command] | None = None, **keywords: Any) -> None:
        super().__init__(**keywords, allow_abbrev=False, formatter_class=_Formatter)
        self.command = command
        self.headings: Mapping[str, str] = {}
        self.examples: Sequence[str] = ()
        self._unknown = ""  # what is said of an option that there is not

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and what may have been meant."""
        if self._unknown and self._unknown != message:
            message = f"{message}; {self._unknown}" if "required" in message else self._unknown
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        meant = _closest(wrong[1], re.findall(r"[\w.-]+", wrong[2])) if wrong else ""
        raise InputError(f"{message}{meant}: see {self.prog} --help")

    def format_help(self) -> str:
        """The help, with a heading over each group of commands."""
        text = super().format_help()
        for name, heading in self.headings.items():
            text = re.sub(rf"\n(    {name} )", rf"\n\n  {heading}:\n\1", text, count=1)
        return "\n  ".join([f"{text}\nexamples:", *self.examples]) + "\n" if self.examples else text

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, once the options are there; what a command does not know is an error of that command."""
        if self.command is None:
            return super().parse_known_args(args, namespace)
        if self.get_default("command") is None:
            _add_options(self, self.command)
            self.set_defaults(command=self.command)
        self._unknown = self._find_unknown(sys.argv[1:] if args is None else args)
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown or f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def _find_unknown(self, arguments: Sequence[str]) -> str:
        """Name an option that there is not, whose value argparse takes for something else; empty for none."""
        former = {f"--{key}" for key in (*FORMER_KEYS, *DROPPED_KEYS)}
        known = [name for name in self._option_string_actions if name not in former]
        for argument in takewhile("--".__ne__, arguments):
            option = argument.partition("=")[0]
            if option.startswith("--") and " " not in argument and option not in self._option_string_actions:
                return f"unrecognized arguments: {option}{_closest(option, known)}"
        return ""


def _closest(word: str, known: Iterable[str]) -> str:
    """Say which known word may have been meant; nothing where none is close.

    >>> _closest("--topk", ["--top-k", "--json"])
    '; did you mean --top-k?'
    """
    plain = {one.replace("-", ""): one for one in known}
    close = get_close_matches(word.replace("-", ""), plain, n=1)
    return f"; did you mean {plain[close[0]]}?" if close else ""


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def make_parser(
    title: str,
    commands: Mapping[str, type[Command] | CommandGroup],
    headings: Mapping[str, str] | None = None,
    examples: Mapping[str, str] | None = None,
) -> OptionParser:
    """Return the parser of all commands.

    Args:
        title: what the program does.
        commands: by name, in the order of the help.
        headings: of the help, by the name of the command that each stands before.
        examples: a command line by the name of its command, a space before that of one in a group.
    """
    parser = OptionParser(prog="clsr", description=title)
    parser.headings = headings or {}
    parser.examples = list((examples or {}).values())[:2]
    _add_commands(parser, commands, examples or {})
    return parser


def _add_commands(
    parser: OptionParser, commands: Mapping[str, type[Command] | CommandGroup], examples: Mapping[str, str],
    before: str = "",
) -> None:  # fmt: skip
    names = parser.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=OptionParser)
    for name, command in commands.items():
        if isinstance(command, CommandGroup):
            group = names.add_parser(name, help=command.title, description=_sentence(command.title))
            _add_commands(group, command.commands, examples, f"{name} ")
        else:
            title, example = title_of(command), examples.get(before + name)
            epilog = f"example: {example.replace('%', '%%')}" if example else None
            names.add_parser(name, help=title, description=_sentence(title), command=command, epilog=epilog)


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."


def _add_options(parser: argparse.ArgumentParser, command: type[Command]) -> None:
    groups = {group: parser.add_argument_group(group) for group in GROUPS}
    for option in options(command):
        default = describe_default(option)
        text = describe_meaning(option) + (f" (default: {default})" if default else "")
        keywords = option.keywords | {"help": text.replace("%", "%%")}
        if option.name.startswith("--"):
            keywords |= {"dest": ".".join(option.path), "required": option.required}
            groups[option.group].add_argument(option.name, **keywords, default=None)
        else:
            groups[option.group].add_argument(".".join(option.path), **keywords)
    for field in dataclasses.fields(command):  # type: ignore[arg-type]
        if "settings" in field.metadata:
            _add_settings(parser, groups[HOW], field.name, field.metadata["settings"])


def _add_settings(parser: argparse.ArgumentParser, group: Any, name: str, kind: type) -> None:
    class List(argparse.Action):
        def __call__(self, *_: object) -> NoReturn:
            print("Settings: YAML keys, and options such as --optimizer.max_steps 100.\n")
            print(describe_settings(kind))
            parser.exit()

    class Keep(argparse.Action):
        def __call__(self, parser: object, given: argparse.Namespace, value: object, option: str | None = None) -> None:
            setattr(given, name, [*(getattr(given, name) or []), f"{option}={value}"])

    group.add_argument("--settings", action=List, nargs=0, help="list all training settings; each is an option too")
    for setting in (*setting_names(kind), *FORMER_KEYS, *DROPPED_KEYS):
        parser.add_argument(f"--{setting}", action=Keep, dest=name, help=argparse.SUPPRESS)


def build(given: argparse.Namespace) -> Command:
    """Make the command of what a parser has read.

    Raises:
        InputError: values are out of range, or do not go together.
    """
    values = {path: value for path, value in vars(given).items() if value not in (None, [])}
    return _build(given.command, "", values)


def _build(kind: type, prefix: str, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    taken: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        path, hint = f"{prefix}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            taken[field.name] = _build(hint, f"{path}.", values)  # type: ignore[arg-type]
        elif path in values:
            container: Callable[[Any], Any] | None = {tuple: tuple, Mapping: dict}.get(get_origin(hint))
            taken[field.name] = container(values[path]) if container else values[path]
    return kind(**taken)
