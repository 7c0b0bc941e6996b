"""Commands, links and results of README.md, RESULTS.md, docs/ and the recipes' READMEs."""

import importlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import clsr
from clsr.cli.main import main, read_command
from clsr.cli.training import Train
from clsr.config import TrainingConfig
from clsr.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "RESULTS.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("examples/**/README.md")),
    *sorted(DOCS.rglob("*.md")),
    ROOT / "recipes" / "README.md",
    *sorted(ROOT.glob("recipes/*/README.md")),
]
NO_STAGE = ["--stage", "1", "--stop-stage", "0"]  # a recipe then checks its options and ends


class Command(NamedTuple):
    """A command of a README, and the folder that it is given in."""

    words: list[str]
    folder: Path


def read_blocks(readme: Path) -> Iterator[list[str]]:
    """The lines of each block of shell commands; of a console only what follows the prompt."""
    for language, block in re.findall(
        r"^```(bash|sh|console)\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE
    ):
        lines = block.replace("\\\n", " ").splitlines()
        yield [line[2:] for line in lines if line.startswith("$ ")] if language == "console" else lines


def read_commands(readme: Path) -> Iterator[Command]:
    """The commands of a README. A block starts in the README's folder, one of docs/ in the root. It follows ``cd``, but
    not into a fresh clone.
    """
    for lines in read_blocks(readme):
        folder, cloned = ROOT if DOCS in readme.parents else readme.parent, False
        for words in (words for line in lines for words in split_line(line)):
            cloned = cloned or words[:2] == ["git", "clone"]
            if words[0] != "cd":
                yield Command(words, folder)
            elif not cloned:
                folder = folder / words[1]


def split_line(line: str) -> Iterator[list[str]]:
    """The commands of a line, without what is behind ``#`` and ``>``."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("&|;"):
            if words:
                yield words[: words.index(">")] if ">" in words else words
            words = []
        else:
            words.append(word)


def commands() -> list:
    """A test parameter for each command of each README, named by its place and words."""
    found = [(readme, command) for readme in PAGES if readme.exists() for command in read_commands(readme)]
    return [pytest.param(c, id=f"{r.parent.name}: {' '.join(c.words)}") for r, c in found]


@pytest.mark.parametrize("command", commands())
def test_command_is_one_that_there_is(command: Command) -> None:
    words = list(itertools.dropwhile(re.compile(r"\w+=").match, command.words))  # without variables set for it
    program, *arguments = words
    if program == "make":
        check_make(arguments)
    elif Path(program).name == "clsr":
        check_clsr(arguments, command.folder)
    elif program == "curl":
        check_curl(arguments)
    elif program.endswith(".py"):
        run([command.folder / program, "--help"], command.folder)
    elif program.endswith(".sh"):
        run([command.folder / program, *arguments, *NO_STAGE], command.folder)
    else:
        assert Path(program).name in {"cat", "git", "pip", "python3", "source", "uv"}, (
            f"{program}: say here how it is checked"
        )


def check_curl(arguments: list[str]) -> None:
    """Let the server's routes have the address: one without a variable part, or with one."""
    (url,) = [one for one in arguments if one.startswith("localhost:7860/")]
    routes = re.findall(r'@app\.(?:get|post|put|delete)\("([^"]+)"', (ROOT / "clsr" / "web" / "api.py").read_text())
    path = url.partition("/")[2].partition("?")[0]
    assert any(re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]*", re.escape(route)), f"/{path}") for route in routes), url


def check_make(arguments: list[str]) -> None:
    """Let make say what it would do; print the targets for real."""
    run(["make", *([] if arguments in ([], ["help"]) else ["-n"]), *arguments], ROOT)


def check_clsr(arguments: list[str], folder: Path) -> None:
    """Let the command line read a command, and the settings where it takes some; print help for real."""
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            read_command(arguments)
        return
    command = read_command(arguments)
    if isinstance(command, Train):
        read_settings(TrainingConfig, [folder / config for config in command.configs], command.given)


def run(words: list[str | Path], folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("readme", PAGES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_every_link_and_anchor_resolves(readme: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(readme)):
        path, _, anchor = link.partition("#")
        target = readme.parent / path if path else readme
        if "://" in link or (target.exists() and (not anchor or anchor in anchors(target))):
            continue
        dead.append(link)
    assert not dead, f"{readme}: no such file or heading: {', '.join(dead)}"


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, spaces as hyphens, no other punctuation."""
    titles = [re.sub(r"[^\w\- ]", "", title.lower()) for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)]
    return {title.replace(" ", "-") for title in titles}


def test_anchors_are_lower_case_without_punctuation(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Table 3\n## Results: what `clsr` writes, as recognised\n```\n# not one\n```\n")
    assert anchors(tmp_path / "page.md") == {"table-3", "results-what-clsr-writes-as-recognised"}


def test_readme_takes_two_screens() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 10_240


@pytest.mark.parametrize("readme", PAGES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_named_files_and_tests_exist(readme: Path) -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|sh|yaml))\b", prose(readme)):
        places = [ROOT / name, ROOT / "clsr" / name, readme.parent / name, *ROOT.glob(f"recipes/*/{name}")]
        assert any(place.exists() for place in places), f"{readme}: no such file: {name}"
    for test in re.findall(r"`(test(?:_[a-z0-9]+){3,})`", prose(readme)):
        assert f"def {test}(" in code, f"{readme}: no such test: {test}"


@pytest.mark.parametrize("readme", PAGES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_python_is_python_and_imports_what_there_is(readme: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE):
        compile(block, str(readme), "exec")
        for name in re.findall(r"\bclsr\.(\w+)", block) if "import clsr\n" in block else ():
            assert hasattr(clsr, name), f"{readme}: clsr has not {name}"
        for module, names in re.findall(r"^from (clsr\.\S+) import (.+)$", block, re.MULTILINE):
            there = importlib.import_module(module)
            assert all(hasattr(there, name.strip()) for name in names.split(",")), f"{readme}: {module} has not {names}"


@pytest.mark.parametrize("name", ["README.md", "RESULTS.md", "recipes/drcd/README.md"])
def test_results_page_follows_the_committed_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    page = (ROOT / name).read_text()
    found = re.search(rf"`clsr (tables (recipes/[a-z_]+/results)[ /][^`]*)--into {name}`", page)
    assert found, f"{name} does not say by which command its results are put there"
    if not (ROOT / found[2]).is_dir():
        pytest.skip(f"{found[2]} is not there: no reports to make the results of")
    (tmp_path / "page.md").write_text(page)
    monkeypatch.chdir(ROOT)
    assert main([*shlex.split(found[1]), "--into", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == page


def test_lines_are_split_as_a_shell_splits_them() -> None:
    line = "cd a && ./run.sh --smoke true > log.txt; clsr search 'who; when?' | head  # so"
    assert list(split_line(line)) == [
        ["cd", "a"],
        ["./run.sh", "--smoke", "true"],
        ["clsr", "search", "who; when?"],
        ["head"],
    ]
