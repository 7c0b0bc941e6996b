"""Names: a test states its fact in a few words, and a name of the package means one thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))
MOST_WORDS, MOST_CHARACTERS = 8, 60
TWICE = {"ClsrRetriever"}  # LangChain's and LlamaIndex's: an adapter is imported from the one that is installed


def names_of_tests(file: Path) -> list[str]:
    """The names of a file's test functions, methods included."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [function.name for function in functions if function.name.startswith("test_")]


def declared_types(source: str) -> Iterator[str]:
    """Names of the classes of a file and of the type aliases at its top level."""
    tree = ast.parse(source)
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp | ast.Attribute):
            yield from (at.id for at in node.targets if isinstance(at, ast.Name) and is_type_name(at.id))


def is_type_name(name: str) -> bool:
    """Whether a name is in CapWords and public: constants are in capitals."""
    return name[0].isupper() and not name.isupper()


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: str(file.relative_to(ROOT / "tests")))
def test_test_names_are_short_and_unique(file: Path) -> None:
    counts = Counter(names_of_tests(file))
    long = [name for name in counts if len(name) > MOST_CHARACTERS or name.count("_") > MOST_WORDS]
    assert not long, f"more than {MOST_WORDS} words or {MOST_CHARACTERS} characters: {', '.join(long)}"
    assert not [name for name, count in counts.items() if count > 1]  # Python runs only the last of one name


def test_no_type_is_declared_twice() -> None:
    files = {file: set(declared_types(file.read_text(encoding="utf-8"))) for file in (ROOT / "clsr").rglob("*.py")}
    counts = Counter(name for names in files.values() for name in names)
    twice = {name: [str(file) for file in files if name in files[file]] for name, n in counts.items() if n > 1}
    assert not {name: places for name, places in twice.items() if name not in TWICE}


def test_declared_types_are_classes_and_aliases() -> None:
    source = (
        "Ab = list[int]\nSIZES = (1,) * 2\nBy = int | str\nx = Ab\n_Own = list[str]\nclass Two:\n    class Three: ...\n"
    )
    assert set(declared_types(source)) == {"Ab", "By", "Two", "Three"}
