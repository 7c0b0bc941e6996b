"""Linear maps of inference as the hardware is fastest at: int8 on processors, bfloat16 on accelerators, float32.

Why torch's own int8 and not ONNX Runtime's or OpenVINO's: docs/results/speed.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from clsr.config import PAYS_FROM, Precision
from clsr.errors import InputError
from clsr.models.attention import CrossAttention, Products, SelfAttention, multiplies_tiles
from clsr.models.bert import BertSelfAttention
from clsr.models.decoder import DecoderFeedForward
from clsr.models.encoder import FeedForward
from clsr.models.recogniser import Recogniser
from clsr.models.speech_encoder import SpeechEncoder
from clsr.models.text_encoder import TextEncoder
from clsr.models.whisper import WhisperAttention

RecogniserT = TypeVar("RecogniserT", bound=Recogniser)
PartT = TypeVar("PartT", bound=nn.Module)


class OnednnLinear(nn.Module):
    """A linear map by oneDNN, its weights laid out once in the order in which they are read; for inference alone.

    Torch's own lays them out anew at each call in bfloat16, and takes MKL in float32, which uses half the width of
    processors other than Intel's. Results differ by the order of sums. Where a gradient is wanted it is torch's own.
    The map stays on the CPU, and in its type.

    Args:
        linear: the map to stand for, on the CPU.
        rectified: whether numbers below 0 become 0, which costs nothing here.
    """

    def __init__(self, linear: nn.Linear, rectified: bool = False):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.rectified = rectified
        self.bias = linear.bias
        self._laid_out = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    @property
    def weight(self) -> Tensor:
        """The weights ``(out, in)`` as they were given; a copy."""
        return self._laid_out.to_dense()

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        if not values.numel():
            return values.new_zeros(*values.shape[:-1], self.out_features)
        if torch.is_grad_enabled() and values.requires_grad:
            mapped = nn.functional.linear(values, self.weight, self.bias)
            return mapped.relu() if self.rectified else mapped
        then = "relu" if self.rectified else "none"
        return torch.ops.mkldnn._linear_pointwise(values, self._laid_out, self.bias, then, [], "")

    def __deepcopy__(self, memo: dict[int, object]) -> OnednnLinear:
        bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone(), self.bias.requires_grad)
        copied = copy.copy(self)  # shares the weights, which nothing changes
        copied._parameters = {"bias": bias}
        return copied

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


class Int8Linear(nn.Module):
    """A linear map of float32 inputs with int8 weights, a scale for each output; 4 to 7 times as fast with VNNI.

    Inputs are rounded to 8 bits by the range of all of them, so that what a batch holds beside an utterance moves its
    result a little: by less than the rounding itself.

    Args:
        linear: the map to stand for, in float32 on the CPU.
    """

    def __init__(self, linear: nn.Linear | OnednnLinear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._rectified = isinstance(linear, OnednnLinear) and linear.rectified
        vnni = torch.cpu._is_vnni_supported()
        self._narrow = not vnni  # seven bits of the inputs: sums of two products fit into 16 bits
        weight = linear.weight.detach()
        scales = weight.abs().amax(1).clamp(min=1e-12).double() / 127
        rounded = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales, dtype=torch.long), 0, torch.qint8)
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = "onednn" if vnni else "fbgemm"
        try:
            self._packed = torch.ops.quantized.linear_prepack(rounded, linear.bias)
        finally:
            torch.backends.quantized.engine = before

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        if not values.numel():
            return values.new_zeros(*values.shape[:-1], self.out_features)
        mapped = torch.ops.quantized.linear_dynamic(values, self._packed, self._narrow)
        return mapped.relu_() if self._rectified else mapped


def lower(recogniser: RecogniserT, precision: Precision) -> RecogniserT:
    """Turn a recogniser, with its text encoder if it has one, to a precision, in place; it serves inference alone then.

    Firing weights are computed in float32 in any case: rounded, their sums would be whole tokens off.

    Raises:
        InputError: int8 is chosen on an accelerator.
        ValueError: the recogniser was lowered before.
    """
    paraformer = recogniser.paraformer
    parts = (paraformer.frontend, paraformer.encoder, paraformer.decoder)
    precision = lower_speech_parts(recogniser, parts, precision, paraformer.cmvn.shift.device)
    if isinstance(recogniser, SpeechEncoder):
        lower_text_encoder(recogniser.text_encoder, precision)
    return recogniser


def lower_speech_parts(
    model: nn.Module, parts: Iterable[nn.Module], precision: Precision, device: torch.device
) -> Precision:
    """Turn those parts of a model that recognise speech to a precision, in place, and return it.

    Args:
        model: whose size decides what "auto" is.
        parts: of the model.
        precision: numbers to compute in.
        device: of the model.

    Raises:
        InputError: int8 is chosen on an accelerator.
        ValueError: the model was lowered before.
    """
    if precision == "auto":
        precision = best_precision(model, device)
    if precision == "int8" and device.type != "cpu":
        raise InputError(f"precision int8 is for processors: take bf16 on {device.type}")
    if any(isinstance(module, OnednnLinear | Int8Linear) for module in model.modules()):
        raise ValueError("lowered before: load the model anew")
    for part in parts:
        if precision == "int8":
            replace_linear(part, Int8Linear)
            if torch.cpu._is_avx512_bf16_supported():
                _multiply(part, "bfloat16")
        else:
            lower_part(part, precision, device)
    return precision


def lower_text_encoder(text_encoder: TextEncoder, precision: Precision) -> TextEncoder:
    """Turn a text encoder to what is of a precision in a model that ``lower`` has turned to it, in place.

    With int8 that is bfloat16, where the processor is fast at it, else float32: int8 would cost a point of recall.
    "auto" goes by the size of the text encoder alone; beside a much larger recogniser it is lowered further.
    """
    device = text_encoder.word_embeddings.device
    if precision == "auto":
        precision = best_precision(text_encoder, device)
    if precision == "int8":
        precision = "bf16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    lower_part(text_encoder.transformer, precision, device)
    return text_encoder


def lower_part(part: PartT, precision: Precision, device: torch.device) -> PartT:
    """Turn the linear maps of a network to bf16 or float32, in place; it serves inference alone then."""
    if precision == "bf16":
        part.to(torch.bfloat16)
    if device.type == "cpu" and (lays_out_bfloat16() if precision == "bf16" else mkl_holds_back()):
        replace_linear(part, OnednnLinear)
        for module in part.modules():
            if isinstance(module, FeedForward | DecoderFeedForward) and isinstance(module.w_1, OnednnLinear):
                module.w_1.rectified, module.rectifier = True, nn.Identity()
        if precision != "bf16":
            _multiply(part, "onednn")
    return part


def mkl_holds_back() -> bool:
    """Whether oneDNN multiplies float32 faster than MKL, torch's own choice: where AVX-512 is not Intel's."""
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    name = str(torch.cpu.get_capabilities().get("cpu_name", "intel"))
    return libraries and torch.cpu._is_avx512_supported() and "intel" not in name.lower()


def lays_out_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 by instructions of the processor: then it is faster with weights laid out."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()


def best_precision(model: nn.Module, device: torch.device) -> Precision:
    """Return the precision that is fastest on the hardware, for a model that is large enough for it to pay."""
    size = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    if size < PAYS_FROM:
        return "float32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu":
        return "float32"
    if multiplies_tiles():  # int8 has the same speed then: what its products save, rounding the inputs costs
        return "bf16"
    return "int8" if torch.cpu._is_vnni_supported() else "float32"


def replace_linear(module: nn.Module, make: Callable[..., nn.Module]) -> None:
    """Replace each linear map below a module, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear | OnednnLinear):
            setattr(module, name, make(child))
        else:
            replace_linear(child, make)


def _multiply(part: nn.Module, products: Products) -> None:
    """Say how attention's own products, which are of activations alone, are computed."""
    for module in part.modules():
        if isinstance(module, SelfAttention | CrossAttention | WhisperAttention | BertSelfAttention):
            module.products = products
