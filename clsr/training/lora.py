"""Low-rank adapters: small matrices are trained beside frozen weights, then merged into them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.extras import require
from clsr.models.paraformer import Paraformer

if TYPE_CHECKING:
    from peft import LoraModel

log = logging.getLogger("clsr")


def add_adapters(paraformer: Paraformer, config: TrainingConfig, start: Path | None) -> LoraModel | None:
    """Put adapters beside the linear layers of a recogniser, in place, and freeze all else (arXiv:2106.09685).

    ``B`` starts at zero, so that at first nothing changes. What ``lora.modules_to_save`` names stays trainable. Frozen
    layers of a released front end get none: training does not run them.

    Args:
        paraformer: with the weights of the checkpoint that it starts from.
        config: ``lora.rank`` 0 leaves the recogniser as it is.
        start: that checkpoint.

    Returns:
        What ``merged`` takes at the end; ``None`` without adapters.

    Raises:
        InputError: there is nothing to adapt, a name fits no layer, or states are to be averaged, since the mean of
            two adapters is not the adapter of their mean.
    """
    lora = config.lora
    if not lora.rank:
        return None
    if start is None:
        raise InputError("lora.rank: adapters need a trained recogniser: name it with --start, or set lora.rank to 0")
    if config.trainer.average > 1:
        raise InputError(f"trainer.average: {config.trainer.average} states with adapters have no mean: set it to 1")
    if not lora.layers:
        raise InputError("lora.layers: none is named: leave the setting out, or set lora.rank to 0")
    linear = [name for name, module in paraformer.named_modules() if _is_trained_linear(module)]
    targets = {layer: [name for name in linear if name == layer or name.endswith(f".{layer}")] for layer in lora.layers}
    for layer, found in targets.items():
        if not found:
            raise InputError(
                f"lora.layers: no linear layer that is trained is called {layer}; there are {_ends(linear)}"
            )
    parts = dict(paraformer.named_modules())
    for name in lora.modules_to_save:
        if name not in parts:
            raise InputError(f"lora.modules_to_save: no part is called {name}; there are decoder.output_layer, ...")

    require("peft")
    import peft

    settings = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=[name for found in targets.values() for name in found]
    )
    adapted = peft.LoraModel(paraformer, settings, "default")
    for name in lora.modules_to_save:
        parts[name].requires_grad_(True)
    trained = sum(parameter.numel() for parameter in paraformer.parameters() if parameter.requires_grad)
    whole = sum(parameter.numel() for parameter in paraformer.parameters())
    log.info("low-rank adapters: %d of %d parameters are trained", trained, whole)
    return adapted


def merged(adapted: LoraModel | None, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with their adapters merged in: those of an ordinary recogniser, names and shapes included.

    Args:
        adapted: of ``add_adapters``; its recogniser loses the adapters. ``None`` returns the weights as they are.
        weights: state of the recogniser with adapters.
    """
    if adapted is None:
        return dict(weights)
    adapted.model.load_state_dict(weights)
    return adapted.merge_and_unload().state_dict()


def _is_trained_linear(module: object) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear) and module.weight.requires_grad


def _ends(names: list[str]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in names}))
