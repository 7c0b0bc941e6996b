"""clsr: find the right moment in hours of speech. A question comes in; ranked, playable moments come out.

::

    import clsr

    model = clsr.load("exp/joint")
    index = clsr.Index.create("my-index", model, clsr.IndexConfig(windows="6/3"))
    index.add(["recordings/"])
    retriever = clsr.Retriever(index, model)
    print(*retriever.search("who sold the old horse?", top_k=3), sep="\\n")

The names below are public; all others are internal and may change. Each is imported at its first use, so that
``import clsr`` takes no time.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clsr.audio.clip import Clip
    from clsr.index.config import IndexConfig
    from clsr.index.filters import Filter
    from clsr.index.index import Index
    from clsr.model import Model, load
    from clsr.search.hit import Hit
    from clsr.search.retriever import Retriever

__version__: str  # of what is installed; setup.py says it
__all__ = ["Clip", "Filter", "Hit", "Index", "IndexConfig", "Model", "Retriever", "__version__", "load"]

# OpenMP's threads spin while they wait for one another, on cores that another process could use: two trainings at once
# then take many times as long as one after the other. They sleep instead, unless whoever runs us says otherwise.
# OpenMP reads this when torch loads, and processes started from here inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # the same for NumPy's products: clock cycles, as a power of two

_HOMES = {
    "Clip": "clsr.audio.clip",
    "load": "clsr.model",
    "Model": "clsr.model",
    "Index": "clsr.index.index",
    "IndexConfig": "clsr.index.config",
    "Filter": "clsr.index.filters",
    "Retriever": "clsr.search.retriever",
    "Hit": "clsr.search.hit",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("clsr")
    if name not in _HOMES:
        raise AttributeError(f"module 'clsr' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
