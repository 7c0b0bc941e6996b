"""Without an optional package, whatever needs it names the extra that brings it."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from clsr.checkpoint import load_paraformer, load_speech_encoder
from clsr.cli.main import main
from clsr.config import LoraConfig, TrainingConfig
from clsr.corpora.synthesis import Synthesizer
from clsr.errors import InputError
from clsr.extras import EXTRAS, missing, require
from clsr.index.config import RayConfig
from clsr.index.distributed import _start
from clsr.paper.drawing import new_figure
from clsr.systems.load import load_system
from clsr.training.fit import _tensorboard
from clsr.training.lora import add_adapters
from clsr.web.serve import require_packages

SETUP = (Path(__file__).parents[1] / "setup.py").read_text()


def whisper(folder: Path) -> None:
    (folder / "model.bin").touch()
    load_system(f"whisper:{folder}")


def adapter(module: str) -> None:
    sys.modules.pop(module, None)
    import_module(module)


USES: list[tuple[str, Callable[[Path], object]]] = [
    ("espeakng_loader", lambda _: Synthesizer()),
    ("ctranslate2", whisper),
    ("ray", lambda _: _start(RayConfig())),
    ("lance_ray", lambda _: _start(RayConfig())),
    ("matplotlib", lambda _: new_figure(1, 1)),
    ("fastapi", lambda _: require_packages()),
    ("gradio", lambda _: require_packages()),
    ("uvicorn", lambda _: require_packages()),
    ("mteb", lambda _: adapter("clsr.adapters.mteb")),
    ("langchain_core", lambda _: adapter("clsr.adapters.langchain")),
    ("llama_index.core", lambda _: adapter("clsr.adapters.llama_index")),
]


@pytest.mark.parametrize(("module", "use"), USES, ids=[module for module, _ in USES])
def test_what_needs_a_missing_package_names_its_extra(
    module: str, use: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    block(module, monkeypatch)
    name, extra = re.sub(r"[_.]", "-", module), EXTRAS[module]
    with pytest.raises(InputError, match=rf"^{name} is not installed: pip install 'clsr\[{extra}\]'$"):
        use(tmp_path)


def block(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let imports of a module and of what is in it fail."""
    for loaded in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)


def test_adapters_of_training_need_peft(tone_model: Path, tiny_settings: TrainingConfig, monkeypatch):
    block("peft", monkeypatch)
    paraformer = load_paraformer(tone_model, load_speech_encoder(tone_model).vocabulary)
    with pytest.raises(InputError, match=r"^peft is not installed: pip install 'clsr\[train\]'$"):
        add_adapters(paraformer, replace(tiny_settings, lora=LoraConfig(rank=2)), tone_model)


def test_training_goes_without_tensorboard(tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture):
    block("tensorboard", monkeypatch)
    caplog.set_level("INFO", "clsr")
    assert _tensorboard(str(tmp_path)) == []
    line = "tensorboard is not installed: pip install 'clsr[train]'; the curves are in metrics.csv alone"
    assert [record.getMessage() for record in caplog.records] == [line]


def test_commands_say_it_in_one_line(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    block("gradio", monkeypatch)
    assert main(["serve", "--index", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "clsr: gradio is not installed: pip install 'clsr[web]'\n"


@pytest.mark.parametrize("module", EXTRAS)
def test_extras_bring_their_packages(module: str):
    """The distribution is in the list of the extra in setup.py."""
    (listed,) = re.findall(rf'"{EXTRAS[module]}": \[(.*?)\]', SETUP, re.DOTALL)
    assert f'"{re.sub(r"[_.]", "-", module)}' in listed


def test_packages_that_are_there_are_not_missing():
    require("json", "numpy")
    assert missing(["json", "no_such_module"]) == ["no_such_module"]
