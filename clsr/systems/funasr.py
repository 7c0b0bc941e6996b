"""FunASR's released Paraformers as the recogniser of a pipeline.

A folder is read by our own import (`clsr.funasr.release`), whose networks are tested against FunASR's: FunASR
itself takes ten seconds and 800 MB to import, and its loader may ask the network.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from clsr.checkpoint import load_recogniser
from clsr.config import Precision
from clsr.errors import InputError
from clsr.funasr.release import import_release
from clsr.models.recogniser import Recogniser
from clsr.settings import read_yaml


def require_paraformer(folder: Path) -> None:
    """Refuse a release of another model than Paraformer, SenseVoice above all.

    Raises:
        InputError: it is one.
    """
    config = folder / "config.yaml"
    model = read_yaml(config).get("model", "") if config.is_file() else ""
    if model and "Paraformer" not in str(model):
        raise InputError(f"{folder}: holds FunASR's {model}, which clsr does not read: name a Paraformer")


def load_funasr(folder: Path, device: str = "cpu", precision: Precision = "float32") -> Recogniser:
    """Load a released Paraformer, with its own tokens.

    Raises:
        InputError: the folder is missing, incomplete, or holds another model.
    """
    require_paraformer(folder)
    with TemporaryDirectory() as imported:
        import_release(folder, Path(imported))
        return load_recogniser(imported, device, precision)
