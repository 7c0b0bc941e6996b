"""Imports: packages take only from packages above them, without circles; what comes from elsewhere is declared."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "clsr").rglob("*.py"))
PACKAGES = [file for file in FILES if file.name == "__init__.py"]
MODULES = [file for file in FILES if file.name != "__init__.py"]
MOST_FILES = 17  # in a package: more is a package in disguise

# Top to bottom, the data's way: a recording becomes features, a model learns from them, a system recognises speech,
# an index holds what it finds, a query searches it, and systems are measured side by side. A name is a package, or a
# file beside the packages.
ORDER = """
    errors extras config settings padding threads vocabulary byte_pairs prefix_search wheels pickled_weights hub lance
    text checkpoint_folder training_record
    audio metrics data corpora models checkpoint funasr whisper training systems
    subtitles transcribe transcript_folder model index search evaluation paper
    web adapters bench cli
""".split()


def module_name(file: Path) -> str:
    """``clsr/data/kaldi.py`` -> ``data.kaldi``."""
    return ".".join(file.relative_to(ROOT / "clsr").with_suffix("").parts)


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports, inside functions too; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["clsr", *module_name(file).split(".")][: -node.level] if node.level else []
            source = ".".join([*package, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def own_module(name: str) -> str | None:
    """The module of clsr that an imported name is or lies in; None for other packages and for clsr itself."""
    if name.partition(".")[0] != "clsr":
        return None
    known = {module_name(file) for file in FILES}
    parts = name.split(".")[1:]
    return next((module for n in range(len(parts), 0, -1) if (module := ".".join(parts[:n])) in known), None)


def package(module: str) -> str:
    """What stands in ORDER for a module: ``data.kaldi`` -> ``data``."""
    return module.partition(".")[0]


@pytest.mark.parametrize("file", MODULES, ids=module_name)
def test_imports_come_from_packages_above(file: Path) -> None:
    own = package(module_name(file))
    assert own in ORDER, f"{own} has no place in the order: put it where its imports allow"
    allowed = ORDER[: ORDER.index(own) + 1]
    taken = [(line, own_module(name)) for line, name in imports(file)]
    below = [f"{file.name}:{line}: {module}" for line, module in taken if module and package(module) not in allowed]
    assert not below, f"{module_name(file)} imports from below its package: {', '.join(below)}"


def test_no_file_imports_itself_in_a_circle() -> None:
    graph = {module_name(f): {m for _, name in imports(f) if (m := own_module(name))} for f in MODULES}
    list(TopologicalSorter(graph).static_order())  # a CycleError names the circle


def test_packages_have_few_files() -> None:
    counts = Counter(file.parent.name for file in MODULES if file.parent.name != "clsr")
    assert not {name: count for name, count in counts.items() if count > MOST_FILES}


@pytest.mark.parametrize("file", [file for file in PACKAGES if file.parent.name != "clsr"], ids=module_name)
def test_packages_import_nothing(file: Path) -> None:
    assert not list(imports(file))  # or every command would wait for what only one of them needs


def test_what_is_imported_is_declared() -> None:
    declared = {normalised(re.split(r"[\[=<>]", entry)[0]) for entry in declared_requirements()}
    distributions = packages_distributions()
    imported = {name.partition(".")[0] for file in FILES for _, name in imports(file)}
    foreign = imported - set(sys.stdlib_module_names) - {"clsr"}
    missing = [n for n in sorted(foreign) if declared.isdisjoint(map(normalised, distributions.get(n, [n])))]
    assert not missing, f"setup.py does not declare {missing}"


def declared_requirements() -> list[str]:
    """The entries of setup.py's lists, without running it."""
    assigned = [node.value for node in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign)]
    lists = [whole for value in assigned for whole in ast.walk(value) if isinstance(whole, ast.List)]
    return [part.value for whole in lists for part in whole.elts if isinstance(part, ast.Constant)]


def normalised(distribution: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_imports_are_found_wherever_they_are(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        "import torch.nn\ndef f():\n    from clsr.data import kaldi\n    from clsr.audio.waveform import SAMPLE_RATE\n"
    )
    found = [name for _, name in imports(file)]
    assert found == ["torch.nn", "clsr.data.kaldi", "clsr.audio.waveform.SAMPLE_RATE"]
    assert [own_module(name) for name in found] == [None, "data.kaldi", "audio.waveform"]
