"""Pages of reference: they are those that the dataclasses make, and name every option and setting."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from clsr.cli.options import options
from clsr.config import TrainingConfig
from clsr.settings import list_settings

SCRIPT = Path(__file__).parents[2] / "tools" / "reference.py"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "settings.md"])
def test_pages_are_up_to_date(reference: ModuleType, name: str) -> None:
    assert reference.up_to_date(name, reference.PAGES[name]()), "run tools/reference.py"


def test_a_changed_page_is_out_of_date(reference: ModuleType) -> None:
    assert not reference.up_to_date("commands.md", reference.commands_page() + "more\n")
    assert not reference.up_to_date("nowhere.md", "")


def test_commands_have_all_options(reference: ModuleType) -> None:
    page = reference.commands_page()
    for name, command in reference.flat_commands():
        assert f"clsr {name}" in page
        section = page.partition("clsr train-..." if name.startswith("train-") else f"## clsr {name}\n")[2]
        section = section.partition("\n## ")[0]
        for option in options(command):
            assert not option.name.startswith("--") or f"`{option.name}" in section


def test_settings_have_keys_defaults_and_ranges(reference: ModuleType) -> None:
    page = reference.settings_page()
    assert all(f"| `{setting.key}` | " in page for setting in list_settings(TrainingConfig))
    assert "| `optimizer.max_steps` | `4000` | 1 or more | " in page
    assert "| `model.adaptor.top_k` | `3` | 1 to 8 | " in page
    assert "| `loss.label_smoothing` | `0.0` | 0 to 1 | " in page
    assert "| `data.batch_s` | `60.0` | above 0 | " in page
    assert '| `model.ctc.units` | `"none"` | `none`, `characters`, `pieces` | ' in page
