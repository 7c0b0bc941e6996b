"""Lower precision: int8 maps against rounding by hand, what may change and by how much, and who chooses."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clsr.checkpoint import load_recogniser, load_speech_encoder, load_text_side
from clsr.errors import InputError
from clsr.models import precision
from clsr.models.attention import LONG, attend
from clsr.models.precision import Int8Linear, OnednnLinear, best_precision, lower
from clsr.models.speech_encoder import SpeechEncoder
from clsr.padding import length_mask

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
TEXTS = ["old boat red", "sun", "green dog blue cat sun red", "cat dog"]


@pytest.fixture
def waveforms(say_in_tones: Callable[[str], np.ndarray]) -> list[np.ndarray]:
    return [say_in_tones(text) for text in TEXTS]


def rounded_by_hand(linear: nn.Linear, values: Tensor, steps: int) -> Tensor:
    """Weights to 8 bits by the largest of each output, inputs to so many steps from their least to their greatest."""
    scales = linear.weight.abs().amax(1, keepdim=True) / 127
    weight = (linear.weight / scales).round() * scales
    low, high = min(values.min().item(), 0.0), max(values.max().item(), 0.0)
    step = (high - low) / steps
    zero = round(-low / step)
    inputs = ((values / step).round() + zero).clamp(0, steps) - zero
    return inputs * step @ weight.T + linear.bias


@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24)])
def test_an_int8_layer_rounds_weights_and_inputs(shape: tuple[int, ...]):
    torch.manual_seed(0)
    linear, values = nn.Linear(24, 10), torch.randn(shape) * 3 + 1
    int8 = Int8Linear(linear)
    with torch.no_grad():
        expected = rounded_by_hand(linear, values, 127 if int8._narrow else 255)
        found = int8(values)
        assert found.shape == expected.shape and found.dtype == torch.float32
        assert torch.allclose(found, expected, atol=1e-4)
        assert (found - linear(values)).abs().max() > 1e-4  # it is rounded


def test_an_int8_map_of_nothing_and_without_bias():
    int8 = Int8Linear(nn.Linear(6, 4, bias=False))
    assert int8(torch.zeros(2, 0, 6)).shape == (2, 0, 4)
    assert int8(torch.zeros(3, 6)).tolist() == [[0.0] * 4] * 3


def test_the_quantisation_engine_is_restored():
    before = torch.backends.quantized.engine
    Int8Linear(nn.Linear(6, 4))
    assert torch.backends.quantized.engine == before


@onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_map_by_onednn_is_the_same_map(dtype: torch.dtype, bias: bool):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this processor")
    torch.manual_seed(0)
    linear, values = nn.Linear(24, 10, bias=bias).to(dtype), torch.randn(2, 7, 24).to(dtype)
    other = OnednnLinear(linear)
    assert torch.equal(other.weight, linear.weight)
    assert other.state_dict().keys() == linear.state_dict().keys()
    assert all(torch.equal(value, linear.state_dict()[name]) for name, value in other.state_dict().items())
    with torch.inference_mode():
        tolerance = 1e-5 if dtype == torch.float32 else 0.02
        assert torch.allclose(other(values), linear(values), atol=tolerance)
        for rows in (1, 300):  # however many there are, the same layout serves
            many = values[0, :1].repeat(rows, 1)
            assert torch.allclose(other(many), linear(many), atol=tolerance)
        assert other(torch.zeros(2, 0, 24, dtype=dtype)).shape == (2, 0, 10)


@onednn
@pytest.mark.parametrize("held_back", [True, False])
def test_float32_is_equal_with_either_library(
    tone_model: Path, waveforms: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, held_back: bool
):
    monkeypatch.setattr(precision, "mkl_holds_back", lambda: False)
    expected = load_speech_encoder(tone_model).encode(waveforms)
    monkeypatch.setattr(precision, "mkl_holds_back", lambda: held_back)
    encoder = load_speech_encoder(tone_model)
    assert any(isinstance(module, OnednnLinear) for module in encoder.modules()) == held_back
    found = encoder.encode(waveforms)
    assert found.transcripts == expected.transcripts == TEXTS
    assert np.abs(found.vectors - expected.vectors).max() < 1e-5


@pytest.mark.parametrize(("name", "wide", "expected"), [
    ("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel(R) Xeon(R) Processor", True, False),
])  # fmt: skip
def test_mkl_holds_back_on_wide_processors_of_others(
    monkeypatch: pytest.MonkeyPatch, name: str, wide: bool, expected: bool
):
    for library in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(library, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: wide)
    assert precision.mkl_holds_back() == expected


@pytest.mark.parametrize("kind", ["bf16", "int8"])
@pytest.mark.parametrize("codes", ["soft", "hard"])
def test_lower_precision_keeps_transcripts_and_nearly_vectors(
    tone_model: Path, waveforms: list[np.ndarray], kind, codes
):
    whole, lowered = load_speech_encoder(tone_model), load_speech_encoder(tone_model, precision=kind)
    expected, found = (encoder.encode(waveforms, codes) for encoder in (whole, lowered))
    assert found.transcripts == expected.transcripts == TEXTS
    assert found.vectors.dtype == np.float32
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert (found.vectors * expected.vectors).sum(1).min() > 0.995
    assert not np.array_equal(found.vectors, expected.vectors)
    for words, known in zip(found.words, expected.words, strict=True):
        assert [w.start_s for w in words] == pytest.approx([w.start_s for w in known], abs=0.06)


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_firing_weights_stay_float32(tone_model: Path, kind):
    paraformer = load_speech_encoder(tone_model, precision=kind).paraformer
    assert {weight.dtype for weight in paraformer.predictor.parameters()} == {torch.float32}
    features, lengths = torch.randn(2, 20, 560), torch.tensor([20, 13])
    with torch.inference_mode():
        frames, mask = paraformer.encoder(paraformer.cmvn(features), lengths)
        assert paraformer.predictor(frames, mask).dtype == torch.float32
        assert not frames[1, 13:].any()


def test_all_recogniser_layers_but_firing_are_int8(tone_model: Path, monkeypatch: pytest.MonkeyPatch):
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        monkeypatch.setattr(precision, "lays_out_bfloat16", lambda: False)
        encoder = load_speech_encoder(tone_model, precision="int8")
        left = {name for name, module in encoder.paraformer.named_modules() if isinstance(module, nn.Linear)}
        assert left == {"predictor.cif_output"}
        assert {weight.dtype for weight in encoder.text_encoder.parameters()} == {expected}


def test_bf16_does_not_depend_on_the_batch(tone_model: Path, waveforms: list[np.ndarray]):
    encoder = load_speech_encoder(tone_model, precision="bf16")
    together = encoder.encode(waveforms).vectors
    alone = np.concatenate([encoder.encode([waveform]).vectors for waveform in waveforms])
    assert (together * alone).sum(1).min() > 0.9999


def test_a_release_is_lowered_too(release_model: Path, say_in_tones: Callable[[str], np.ndarray]):
    waveform = [say_in_tones("red dog sun boat")]
    whole, lowered = (load_recogniser(release_model, precision=kind) for kind in ("float32", "bf16"))
    one, other = (model.recognise(waveform)[0][0] for model in (whole, lowered))
    assert one.best == other.best
    assert one.scores == pytest.approx(other.scores, abs=0.1) and not np.array_equal(one.scores, other.scores)


@onednn
@pytest.mark.parametrize("looks", [5, LONG + 3])
def test_onednn_attention_is_equal_and_ignores_padding(looks: int):
    torch.manual_seed(0)
    count = LONG + 3
    queries, keys, values = torch.randn(3, looks, 16), torch.randn(3, count, 16), torch.randn(3, count, 16)
    mask = length_mask(torch.tensor([count, 4, 0]))
    expected = attend(queries, keys, values, mask, 4)
    keys[1, 4:] = values[1, 4:] = 1e3  # padding may hold anything
    found = attend(queries, keys, values, mask, 4, products="onednn")
    assert torch.isfinite(found).all()  # also where there is nothing to look at
    assert torch.allclose(found[:2], expected[:2], atol=1e-5)


@onednn
def test_a_rectifier_joins_the_layer_before():
    torch.manual_seed(0)
    linear, values = nn.Linear(24, 10), torch.randn(7, 24)
    rectified = OnednnLinear(linear, rectified=True)
    with torch.inference_mode():
        assert torch.allclose(rectified(values), linear(values).relu(), atol=1e-5)
        assert (linear(values) < 0).any()
        assert torch.equal(Int8Linear(rectified)(values), Int8Linear(linear)(values).relu())


@onednn
@pytest.mark.parametrize("rectified", [True, False])
def test_a_onednn_layer_passes_gradients_to_inputs(rectified: bool):
    torch.manual_seed(0)
    linear, values = nn.Linear(24, 10), torch.randn(7, 24, requires_grad=True)
    mapped = linear(values).relu() if rectified else linear(values)
    (expected,) = torch.autograd.grad(mapped.square().sum(), values)
    (found,) = torch.autograd.grad(OnednnLinear(linear, rectified)(values).square().sum(), values)
    assert torch.allclose(found, expected, atol=1e-5)


@onednn
def test_a_copied_onednn_layer_shares_nothing():
    linear = OnednnLinear(nn.Linear(24, 10), rectified=True)
    copied = copy.deepcopy(linear)
    with torch.no_grad():
        copied.bias.add_(1)
    assert torch.equal(copied.weight, linear.weight) and copied.rectified
    assert torch.equal(copied.bias, linear.bias + 1)


@pytest.mark.parametrize("tiles", [False, True])
def test_bfloat16_attention_is_close_and_ignores_padding(tiles: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clsr.models.attention.multiplies_tiles", lambda: tiles)
    torch.manual_seed(0)
    queries, keys, values = torch.randn(3, 5, 16), torch.randn(3, 9, 16), torch.randn(3, 9, 16)
    mask = length_mask(torch.tensor([9, 4, 0]))
    expected = attend(queries, keys, values, mask, 4)
    keys[1, 4:] = values[1, 4:] = 1e3  # padding may hold anything
    found = attend(queries, keys, values, mask, 4, products="bfloat16")
    assert found.dtype == torch.float32 and torch.isfinite(found).all()  # also where there is nothing to look at
    assert torch.allclose(found[:2], expected[:2], atol=0.05)


def test_auto_goes_by_size_and_hardware(tone_model: Path, monkeypatch: pytest.MonkeyPatch):
    encoder = load_speech_encoder(tone_model)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    vnni = lambda: True  # noqa: E731
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", vnni)
    assert best_precision(encoder, cpu) == "float32"  # too small for it to pay
    monkeypatch.setattr(precision, "PAYS_FROM", 1)
    for tiles, expected in ((True, "bf16"), (False, "int8")):  # AMX multiplies bfloat16 as fast as int8 is rounded
        monkeypatch.setattr(precision, "multiplies_tiles", lambda tiles=tiles: tiles)
        assert best_precision(encoder, cpu) == expected
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert best_precision(encoder, cpu) == "float32"
    for supported, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=supported: has)
        assert best_precision(encoder, cuda) == expected
    assert best_precision(encoder, torch.device("mps")) == "float32"


def test_auto_leaves_a_small_model_as_it_is(tone_model: Path, waveforms: list[np.ndarray]):
    whole, auto = load_speech_encoder(tone_model), load_speech_encoder(tone_model, precision="auto")
    assert np.array_equal(whole.encode(waveforms).vectors, auto.encode(waveforms).vectors)


@pytest.mark.parametrize("kind", ["float32", "bf16", "int8", "auto"])
@pytest.mark.parametrize("large", [True, False])
def test_the_text_side_alone_equals_the_whole_model(
    tone_model: Path, monkeypatch: pytest.MonkeyPatch, kind, large: bool
):
    monkeypatch.setattr(precision, "PAYS_FROM", 1 if large else 10**9)
    whole, alone = load_speech_encoder(tone_model, precision=kind).text_encoder, load_text_side(tone_model, kind)
    assert np.array_equal(whole.encode(TEXTS), alone.encode(TEXTS))
    plain = load_text_side(tone_model).encode(TEXTS)
    assert ((plain * alone.encode(TEXTS)).sum(1) > 0.999).all()


def test_a_model_is_lowered_once(tone_model: Path):
    with pytest.raises(ValueError, match="load the model anew"):
        lower(load_speech_encoder(tone_model, precision="int8"), "bf16")


def test_int8_is_for_processors(tone_model: Path):
    encoder: SpeechEncoder = load_speech_encoder(tone_model).to("meta")
    with pytest.raises(InputError, match="int8 is for processors: take bf16 on meta"):
        lower(encoder, "int8")
