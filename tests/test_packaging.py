"""A wheel of the checkout is whole, and works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")  # what a wheel is built from, beside clsr/


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    result = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the sources: what an earlier build has left in a checkout is no part of it."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "clsr", folder / "clsr", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", folder=folder)
    (made,) = (folder / "dist").glob("*.whl")
    return made


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    files = {path for path in (ROOT / "clsr").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in packed if name.startswith("clsr/")} == {str(path.relative_to(ROOT)) for path in files}
    assert {"clsr/py.typed", "clsr/web/page.css", "clsr/web/page.js"} < packed
    (licence,) = [name for name in packed if name.endswith("/LICENSE")]
    assert zipfile.ZipFile(wheel).read(licence) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.slow
def test_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel)
    run(*pip, folder=tmp_path, PIP_DISABLE_PIP_VERSION_CHECK="1")
    usage = run(place / "bin" / "clsr", "--help", folder=tmp_path, PYTHONPATH=str(place))
    assert usage.startswith("usage: clsr") and "search" in usage
    found = run(sys.executable, "-c", "import clsr; print(clsr.__file__)", folder=tmp_path, PYTHONPATH=str(place))
    assert Path(found.strip()).is_relative_to(place)
