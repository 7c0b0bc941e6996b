"""Options that are made of dataclasses: all of version 0.1, their types, help and defaults."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from clsr.cli.data import Make, Synthesize
from clsr.cli.indexing import MakeIndex
from clsr.cli.main import COMMANDS, EXAMPLES, read_command
from clsr.cli.options import (
    COMPUTING,
    Command,
    CommandGroup,
    Folder,
    Hardware,
    Option,
    build,
    describe_default,
    make_parser,
    options,
    options_of,
    positional,
    title_of,
)
from clsr.cli.serving import Serve
from clsr.cli.training import Train
from clsr.corpora.config import SynthesisConfig, TableConfig
from clsr.errors import InputError

FIXTURE = Path(__file__).parents[1] / "fixtures" / "version_0_1" / "options.json"
FORMER: dict[str, list[dict]] = json.loads(FIXTURE.read_text())
RENAMED = {"rivals": "baselines"}  # parts of clsr bench
DROPPED = {("evaluate", "--centre")}  # measured, and no better
BETTER_DEFAULT = {"--mode"}  # goes by what the index has


def all_commands() -> Iterator[tuple[str, type[Command]]]:
    for name, command in COMMANDS.items():
        if isinstance(command, CommandGroup):
            yield from ((f"{name} {kind}", one) for kind, one in command.commands.items())
        else:
            yield name, command


def test_each_command_has_an_example_that_parses():
    names = dict(all_commands())
    assert EXAMPLES.keys() == names.keys()
    for name, example in EXAMPLES.items():
        assert example.startswith(f"clsr {name} ")
        assert type(read_command(shlex.split(example)[1:])) is names[name]


def test_commands_of_version_0_1_are_there():
    assert set(FORMER) <= {name for name, _ in all_commands()}


@pytest.mark.parametrize(("name", "command"), [one for one in all_commands() if one[0] in FORMER])
def test_options_of_version_0_1_are_there(name: str, command: type[Command]):
    """Each takes as many values, of the same choices, and has the same default."""
    found = {option.name: option for option in options(command)}
    former = {row["name"]: row for row in FORMER[name] if (name, row["name"]) not in DROPPED}
    if issubclass(command, Train):
        assert former.pop("--settings")["nargs"] == 0
    if name == "data validate":
        former = {"folder": former["set"]}  # a positional argument, shown as DIR
    assert set(former) <= set(found)  # later versions have more
    for one, row in former.items():
        option = found[one]
        if one in BETTER_DEFAULT:
            row = row | {"default": option.default}
        nargs = 0 if option.keywords.get("action") == "store_true" else option.keywords.get("nargs")
        assert nargs == row["nargs"] and option.required <= row["required"]  # some have got a default
        choices = row["choices"] and [RENAMED.get(choice, choice) for choice in row["choices"]]
        assert set(choices or []) <= set(option.keywords.get("choices", []))
        if row["default"] not in (None, []) and not choices:
            listed = isinstance(row["default"], list)
            assert (list(option.default) if listed else option.default) == row["default"]  # type: ignore[call-overload]
        elif choices and row["default"] is not None and not isinstance(row["default"], list):
            assert option.default == row["default"]


@pytest.mark.parametrize(("name", "command"), list(all_commands()))
def test_every_option_says_what_it_means(name: str, command: type[Command]):
    assert title_of(command)
    for option in options(command):
        assert option.meaning and "None" not in option.meaning, option.name
        unit = option.keywords.get("metavar")
        assert unit != "DB" or "dB" in option.meaning
        assert unit != "S" or "seconds" in option.meaning


def test_names_of_hardware_are_of_options():
    fields = {option.path[-1] for _, command in all_commands() for option in options(command)}
    assert fields.issuperset(COMPUTING)


@dataclass(kw_only=True)
class Example:
    """Do something. Not more.

    Args:
        files: what to read.
        share: a share, 5 % say.
        range: two numbers.
        names: some names.
        kind: one of two.
        tags: pairs.
        folder: a folder.
        loud: whether to be loud.
    """

    files: tuple[Path, ...] = positional(default=())
    share: float
    range: tuple[int, int] = (1, 2)
    names: Annotated[tuple[str, ...], "NAME"] = ("a", "b")
    kind: Literal["x", "y"] | None = None
    tags: Mapping[str, str] | None = None
    folder: Folder | None = None
    loud: bool = False
    hardware: Hardware = options_of(Hardware, without=["precision"], rename={"device": "place"})

    def run(self) -> None:
        """Do it."""


def read(*words: str) -> Example:
    command = build(make_parser("All.", {"do": Example}).parse_args(["do", *words]))
    assert isinstance(command, Example)
    return command


def test_what_is_not_given_is_the_default():
    assert read("--share", "0.5") == Example(share=0.5)


def test_types_of_fields_are_kept():
    words = "f g --share 1 --range 3 4 --names c --kind y --folder d --loud --place cuda".split()
    assert read(*words) == Example(
        files=(Path("f"), Path("g")), share=1.0, range=(3, 4), names=("c",), kind="y", folder=Path("d"), loud=True,
        hardware=Hardware("cuda"),
    )  # fmt: skip


def test_zero_is_a_value():
    assert read("--share", "0").share == 0


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("", "the following arguments are required: --share"),
        ("--share x", "argument --share: invalid float value: 'x'"),
        ("--share 1 --range 3", "argument --range: expected 2 arguments"),
        ("--share 1 --kind z", "argument --kind: invalid choice: 'z'"),
        ("--share 1 --precision int8", "unrecognized arguments: --precision"),
        ("--sha 1", "the following arguments are required: --share"),
    ],
)
def test_faults_are_one_line(words: str, fault: str):
    with pytest.raises(InputError, match=f"^{fault}.*: see clsr do --help$") as caught:
        read(*words.split())
    assert "\n" not in str(caught.value)


def test_help_shows_meanings_units_and_defaults(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Do something. Not more. options:" in text
    for part in (
        "what and where: FILE what to read --share X a share, 5 % say --folder DIR a folder",
        "how: --range N N two numbers (default: 1 2) --names NAME [NAME ...] some names (default: a b)",
        "--kind {x,y} one of two --tags KEY=VALUE [KEY=VALUE ...] pairs --loud whether to be loud hardware:",
        "hardware: --place PLACE device that CLSR computes on: cpu, cuda, cuda:1 (default: cpu)",
    ):
        assert part in text


def test_defaults_are_as_they_would_be_given():
    shown = {option.name: describe_default(option) for option in options(Example)}
    assert shown["--range"] == "1 2" and shown["--names"] == "a b" and shown["--loud"] == shown["--share"] == ""
    only = next(option for option in options(COMMANDS["bench"]) if option.name == "--only")  # type: ignore[arg-type]
    assert describe_default(only) == "all"


def test_settings_of_other_packages_are_options():
    made = read_command("data make t.csv out --dev-share 0.2".split())
    assert isinstance(made, Make) and made.splitting == TableConfig(dev_share=0.2)
    spoken = read_command("data synthesize q.jsonl out --rate-wpm 150 160 --voices a b".split())
    assert isinstance(spoken, Synthesize)
    assert spoken.speaking == SynthesisConfig(rate_wpm=(150, 160), voices=["a", "b"])
    index = read_command("index --index s3://bucket/i --ray-address auto --windows 40 a.wav".split())
    assert isinstance(index, MakeIndex)
    assert (index.index, index.ray.address, index.indexing.windows) == ("s3://bucket/i", "auto", "40/30")
    served = read_command("serve --index i --allow a b --allow c".split())
    assert isinstance(served, Serve) and served.allow == (Path("a"), Path("b"), Path("c"))


def test_values_out_of_range_are_refused():
    with pytest.raises(InputError, match="shares: dev 0.6, test 0.6: give two above 0"):
        read_command("data make t.csv out --dev-share 0.6 --test-share 0.6".split())


def test_options_are_named_tuples_of_what_argparse_needs():
    share = next(option for option in options(Example) if option.name == "--share")
    assert isinstance(share, Option)
    assert share.keywords == {"type": float, "metavar": "X"} and share.required
