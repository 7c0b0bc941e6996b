"""Optional packages: one that is missing is named with the extra of clsr that brings it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from clsr.errors import InputError

EXTRAS = {  # module -> extra of setup.py
    "ctranslate2": "people",
    "faster_whisper": "baselines",
    "onnx": "baselines",
    "onnxruntime": "baselines",
    "espeakng_loader": "demo",
    "langchain_core": "langchain",
    "llama_index.core": "llama-index",
    "matplotlib": "paper",
    "mcp": "mcp",
    "mteb": "mteb",
    "lance_ray": "ray",
    "ray": "ray",
    "peft": "train",
    "tensorboard": "train",
    "fastapi": "web",
    "gradio": "web",
    "uvicorn": "web",
    "whisper_normalizer": "baselines",
}


def require(*modules: str) -> None:
    """Import optional modules, to see that they are installed.

    Raises:
        InputError: one is not; its extra is named.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise InputError(how_to_install([module])) from error


def missing(modules: Sequence[str]) -> list[str]:
    """Return those of some modules that are not installed, without importing any."""
    return [module for module in modules if find_spec(module) is None]


def how_to_install(modules: Sequence[str]) -> str:
    """Say which optional modules are not installed, and how to install them.

    >>> how_to_install(["llama_index.core"])
    "llama-index-core is not installed: pip install 'clsr[llama-index]'"
    """
    names = " and ".join(module.replace("_", "-").replace(".", "-") for module in modules)
    verb = "is" if len(modules) == 1 else "are"
    return f"{names} {verb} not installed: pip install 'clsr[{EXTRAS[modules[0]]}]'"
