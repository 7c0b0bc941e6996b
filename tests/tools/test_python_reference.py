"""The reference of the public names is what its tool makes of them now."""

import importlib.util
import re
from pathlib import Path

import clsr

ROOT = Path(__file__).resolve().parents[2]


def test_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("python_reference", ROOT / "tools" / "python_reference.py")
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert page == tool.reference(), "run tools/python_reference.py"
    named = set(re.findall(r"^## clsr\.(\w+)$", page, re.MULTILINE))
    assert named == {name for name in clsr.__all__ if not name.startswith("_")}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        compile(block, "python.md", "exec")
