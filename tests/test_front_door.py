"""What stands beside the code agrees with it: version, licence, citation, hooks, and the two sizes of tests."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import yaml

import clsr

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    (found,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)*)", read("Makefile"), re.MULTILINE)
    return [line.strip() for line in found.splitlines()]


def declared_version() -> str:
    command = [sys.executable, "setup.py", "--quiet", "--version"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()[-1]


def test_version_is_the_same_everywhere() -> None:
    first_release = re.search(r"^## \[?(\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)
    cited = yaml.safe_load(read("CITATION.cff"))["version"]
    assert first_release and declared_version() == first_release[1] == cited
    assert clsr.__version__ == version("clsr")


def test_licence_is_the_same_everywhere() -> None:
    text = " ".join(read("LICENSE").split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "Copyright 2026 The clsr authors" in text and "[yyyy]" not in text
    assert 'license_expression="Apache-2.0"' in read("setup.py")
    assert yaml.safe_load(read("CITATION.cff"))["license"] == "Apache-2.0"


def test_citation_names_software_and_paper() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"] and citation["authors"]
    paper = citation["preferred-citation"]
    assert (paper["type"], paper["year"]) == ("conference-paper", 2026)
    assert [author["family-names"] for author in paper["authors"]] == ["Hu", "Li", "Qi", "Liu", "Wang"]


def test_hooks_run_what_make_runs() -> None:
    (local,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == [*recipe("lint"), *recipe("types")]


def test_both_sizes_make_up_all_tests() -> None:
    (quick,), (slow,) = recipe("test"), recipe("test-slow")
    assert '-m "not slow"' in quick and "-m slow " in slow
    assert re.search(r"^test: lint types ", read("Makefile"), re.MULTILINE)
    assert re.search(r"^test-all: test test-slow ", read("Makefile"), re.MULTILINE) and not recipe("test-all")
    assert re.findall(r"^make .*", read(".ci/run"), re.MULTILINE) == ["make test-all"]
