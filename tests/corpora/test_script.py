"""Scripts of recipes: bad input is one line and status 2."""

import argparse

import pytest

from clsr.corpora.script import positive, run_script
from clsr.errors import InputError


def work(args: argparse.Namespace) -> None:
    if args.count > 2:
        raise InputError(f"{args.count}: too many; take fewer")
    print(args.count)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script")
    parser.add_argument("count", type=positive)
    return parser


def test_a_script_does_its_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["script", "2"])
    run_script(make_parser(), work)
    assert capsys.readouterr().out == "2\n"


@pytest.mark.parametrize(
    ("count", "complaint"),
    [("3", "error: 3: too many; take fewer\n"), ("0", "script: error: argument count: invalid positive value: '0'\n")],
)
def test_bad_input_of_a_script_is_one_line(
    count: str, complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["script", count])
    with pytest.raises(SystemExit, match="2"):
        run_script(make_parser(), work)
    assert capsys.readouterr().err.endswith(complaint)
