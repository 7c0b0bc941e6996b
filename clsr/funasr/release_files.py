"""What all folders of FunASR have, ``config.yaml``, ``am.mvn`` and ``model.pt``: read, and compared with a network.

Only PyYAML and torch are needed, and of ``model.pt`` nothing but tensors is ever loaded.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clsr.audio.features import FEATURE_SIZE
from clsr.config import EncoderConfig
from clsr.errors import InputError

MOST_NAMES = 100  # of weights, in a message

# Settings of a front end that change its numbers, with what is implemented here; the first value is what FunASR takes
# where a file says nothing.
FRONTEND_CHOICES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "frontend_conf.fs": (16000, (16000,)),
    "frontend_conf.window": ("hamming", ("hamming",)),
    "frontend_conf.n_mels": (80, (80,)),
    "frontend_conf.frame_length": (25, (25,)),
    "frontend_conf.frame_shift": (10, (10,)),
    "frontend_conf.lfr_m": (1, (7,)),
    "frontend_conf.lfr_n": (1, (6,)),
    "frontend_conf.snip_edges": (True, (True,)),
    "frontend_conf.upsacle_samples": (True, (True,)),
}


def require_files(folder: Path, *wanted: Sequence[str]) -> None:
    """See that a folder has its files.

    Args:
        folder: of the release.
        wanted: for each file the names that it may have.

    Raises:
        InputError: some are missing; all of them are named.
    """
    missing = [" or ".join(names) for names in wanted if not any((folder / name).is_file() for name in names)]
    if missing:
        raise InputError(f"{folder}: no {', '.join(missing)} in it: name the whole folder of a FunASR model")


class ConfigKeys(NamedTuple):
    """Keys of ``config.yaml`` that a reader knows.

    Attributes:
        choices: settings that change the network, with FunASR's default and the values that are implemented here.
        sizes: sections whose every key is checked, with the keys that are read.
        indifferent: keys of the same sections that change nothing that is computed here.
    """

    choices: Mapping[str, tuple[Any, tuple[Any, ...]]]
    sizes: Mapping[str, str]
    indifferent: Mapping[str, str]

    def require_known(self, values: Mapping[str, Any], path: Path) -> None:
        """See that a file describes a network that is implemented here.

        Raises:
            InputError: it does not; the key is named.
        """
        for key, (default, known) in self.choices.items():
            section, _, name = key.rpartition(".")
            inside = values.get(section) or {} if section else values
            if not isinstance(inside, Mapping):
                raise InputError(f"{path}: {section} is {inside!r}, and should hold keys and values: mend the file")
            value = inside.get(name, default)
            if value not in known:
                found = repr(value) if name in inside else f"not given, which means {default!r}"
                raise InputError(f"{path}: {key} is {found}; what can be imported has {' or '.join(map(repr, known))}")
        for section in self.sizes:
            known_keys = {key.rpartition(".")[2] for key in self.choices if key.startswith(f"{section}.")}
            known_keys |= {*self.sizes[section].split(), *self.indifferent[section].split()}
            if unknown := sorted(map(str, (values.get(section) or {}).keys() - known_keys)):
                raise InputError(f"{path}: {section} has {', '.join(unknown)}, and it is not known what that changes")


class Section:
    """One ``..._conf`` of a ``config.yaml``, with FunASR's defaults for what it leaves out."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]):
        self.path = path
        self.name = name
        self.values: Mapping[str, Any] = values.get(name) or {}

    def _fault(self, key: str, wanted: str) -> InputError:
        found = repr(self.values[key]) if key in self.values else "not given"
        return InputError(f"{self.path}: {self.name}.{key} is {found}, and should be {wanted}: mend the file")

    def size(self, key: str, default: int | None, least: int = 1) -> int:
        """Return a whole number."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._fault(key, f"a whole number of at least {least}")
        return value

    def divisor(self, key: str, default: int, whole: int) -> int:
        """Return a whole number that divides another."""
        value = self.size(key, default)
        if whole % value:
            raise self._fault(key, f"a divisor of {whole}, encoder_conf.output_size")
        return value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """Return a number in a range."""
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or not least <= value <= most:
            raise self._fault(key, f"a number from {least} to {most}")
        return float(value)

    def require(self, key: str, wanted: int) -> None:
        """See that a number is the one that others imply."""
        if self.size(key, None) != wanted:
            raise self._fault(key, f"{wanted}, as encoder_conf.output_size is")


def encoder_sizes(encoder: Section) -> EncoderConfig:
    """Return the sizes of a SAN-M encoder, from ``encoder_conf``."""
    width = encoder.size("output_size", 256)
    return EncoderConfig(
        width=width,
        hidden=encoder.size("linear_units", 2048),
        layers=encoder.size("num_blocks", 6),
        heads=encoder.divisor("attention_heads", 4, width),
        kernel=encoder.size("kernel_size", 11),
        dropout=encoder.number("dropout_rate", 0.1, 0.0, 1.0),
    )


def read_cmvn(path: Path) -> dict[str, Tensor]:
    """Read ``am.mvn``, Kaldi's text form of two layers: what is added to a stacked feature, and what scales the sum.

    Returns:
        ``cmvn.shift`` and ``cmvn.scale``, ``(560,)`` each.

    Raises:
        InputError: a layer is missing, or does not hold 560 numbers.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): copy it again") from error
    found = {}
    for name, layer in (("cmvn.shift", "<AddShift>"), ("cmvn.scale", "<Rescale>")):
        match = re.search(rf"{layer}\s+\d+\s+\d+\s+<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]", text)
        try:
            values = torch.tensor([float(value) for value in match[1].split()]) if match else torch.empty(0)
        except ValueError as error:
            raise InputError(f"{path}: {layer} holds something else than numbers ({error}): copy it again") from error
        if len(values) != FEATURE_SIZE or not values.isfinite().all():
            raise InputError(
                f"{path}: {layer} holds {len(values)} numbers, not {FEATURE_SIZE} finite ones: copy it again"
            )
        found[name] = values
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """Load tensors by name; anything in the file that would run code is refused by torch before it is looked at.

    Raises:
        InputError: it is damaged, or holds something else.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path}: asks to call {named[1]}, which weights never need, and nothing of it was run: get the model "
                "from a source that you trust"
            ) from error
        raise InputError(f"{path}: damaged, or no weights of PyTorch: copy it again") from error
    except Exception as error:  # torch and zipfile raise many kinds for a file cut short
        reason = " ".join(str(error).split()).partition(". ")[0][:120] or type(error).__name__
        raise InputError(f"{path}: damaged or cut short ({reason}): copy it again") from error
    for inside in ("state_dict", "model_state_dict", "model"):
        if isinstance(weights, Mapping) and isinstance(weights.get(inside), Mapping):
            weights = weights[inside]
    if not isinstance(weights, Mapping) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise InputError(f"{path}: holds something else than tensors by name: name the folder of a FunASR model")
    return dict(weights)


def require_fit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """See that weights are those of a network.

    Args:
        weights: by name.
        own: those of the network, of which names and shapes count.
        path: file that the weights are from.

    Raises:
        InputError: a weight is unknown, missing or of another shape.
    """
    for fault, names in (("unknown", weights.keys() - own.keys()), ("missing", own.keys() - weights.keys())):
        if names:
            raise InputError(
                f"{path}: {len(names)} {fault} weights, so it is not the model that config.yaml describes: "
                f"{_listed(sorted(names))}"
            )
    for name, weight in weights.items():
        if weight.shape != own[name].shape:
            raise InputError(
                f"{path}: weight {name} is {tuple(weight.shape)}, but {tuple(own[name].shape)} by config.yaml: bring "
                "the two files that belong together"
            )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:MOST_NAMES])} and {rest} more"
