"""Baselines of encoding speed: they do the work that they are timed for, no less and no more."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import clsr.bench.whisper
from clsr.audio.features import fbank, stack_frames
from clsr.audio.waveform import SAMPLE_RATE
from clsr.bench.baselines import Baseline, baselines, embed, int8_text_encoder
from clsr.bench.whisper import WhisperTranscriber, in_chunks, random_whisper, token_count
from clsr.config import CifConfig, DecoderConfig, EncoderConfig, ModelConfig
from clsr.errors import InputError
from clsr.models.paraformer import Paraformer
from clsr.models.precision import OnednnLinear, replace_linear
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.padding import pad

TINY = ModelConfig(
    encoder=EncoderConfig(width=32, hidden=48, layers=3, heads=4, kernel=11),
    cif=CifConfig(ending="tail"),
    decoder=DecoderConfig(hidden=40, layers=2, heads=4, kernel=11),
)
SECONDS = (1.0, 31.0, 2.5)
WHISPERS = ("transformers", "faster-whisper", "faster-whisper, int8 text")
FUNASRS = ("funasr", "funasr onnx", "funasr onnx, int8 text")


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [0.1 * draw.standard_normal(int(s * SAMPLE_RATE)).astype(np.float32) for s in SECONDS]


@pytest.fixture(scope="module")
def text_encoder(tiny_bert: Path) -> TextEncoder:
    return load_text_encoder(str(tiny_bert))


@pytest.fixture(scope="module")
def paraformer() -> Paraformer:
    """One that fires about four tokens a second."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Paraformer(TINY, 40).eval().requires_grad_(False)
    nn.init.constant_(model.predictor.cif_output.bias, -1.0)
    return model


@pytest.fixture(scope="module")
def find(paraformer: Paraformer, text_encoder: TextEncoder) -> Callable[[str], Baseline]:
    """A baseline by name; the test is skipped where it cannot run."""
    by_name = {baseline.name: baseline for baseline in baselines(paraformer, text_encoder, "mini")}
    assert set(by_name) == {*WHISPERS, *FUNASRS}

    def named(name: str) -> Baseline:
        if by_name[name].reason is not None:
            pytest.skip(str(by_name[name].reason))
        return by_name[name]

    return named


@pytest.mark.parametrize("name", WHISPERS)
def test_whisper_writes_tokens_by_the_audio_length(
    name: str, find: Callable[[str], Baseline], waveforms: list[np.ndarray]
) -> None:
    ids = find(name).transcriber.transcribe(waveforms)
    assert [len(row) for row in ids] == [3, 99 + 3, 8]  # 3.3, 99 and 3.3 of two chunks, 8.25
    assert all(i < 1000 for row in ids for i in row)  # text only


@pytest.mark.parametrize("name", [*WHISPERS, *FUNASRS])
def test_vectors_are_unit_vectors_of_the_tokens(
    name: str, find: Callable[[str], Baseline], waveforms: list[np.ndarray], text_encoder: TextEncoder
) -> None:
    baseline = find(name)
    vectors = baseline.encode(waveforms)
    assert vectors.shape == (3, 32) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    embeddings, ids = text_encoder.word_embeddings, baseline.transcriber.transcribe(waveforms)
    expected = torch.cat([text_encoder.encode_ids([[i % len(embeddings) for i in row]]) for row in ids])
    # 8 bits a weight and a value, in two layers: vectors off by some hundredths
    torch.testing.assert_close(vectors, expected, atol=0.1 if "int8 text" in name else 1e-5, rtol=0)
    assert "random weights" in baseline.description


def test_a_chunk_is_encoded_once(waveforms: list[np.ndarray]) -> None:
    whisper = WhisperTranscriber("mini")
    batches: list[int] = []
    whisper.model.model.encoder.register_forward_hook(lambda module, inputs, output: batches.append(len(output[0])))
    whisper.transcribe(waveforms)
    assert batches == [4]  # the chunks of 1, 30, 1 and 2.5 s


def test_whisper_small_has_the_released_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):  # no memory, no numbers
        monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
        model = random_whisper("full")
    assert sum(weight.numel() for weight in model.parameters()) == 241_734_912
    config, generation = model.config, model.generation_config
    assert (config.vocab_size, config.max_source_positions, config.max_target_positions) == (51865, 1500, 448)
    assert (generation.eos_token_id, generation.decoder_start_token_id) == (50257, 50258)
    assert (generation.task_to_id, generation.no_timestamps_token_id) == ({"transcribe": 50359}, 50363)


def test_chunks_are_joined_and_short_ones_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clsr.bench.whisper, "AT_ONCE", 2)
    calls = []

    def write(chunks: list[np.ndarray], count: int) -> list[list[int]]:
        calls.append((len(chunks), count))
        return [[int(chunk[0])] * count for chunk in chunks]

    lengths_s = (70.0, 1.0)
    found = in_chunks(write, [np.arange(int(s * SAMPLE_RATE), dtype=np.float64) for s in lengths_s])
    assert calls == [(2, 99), (2, 33)]  # 30 and 30 s; 10 and 1 s
    assert found == [[0] * 99 + [480_000] * 99 + [960_000] * 33, [0] * 3]
    assert token_count(1) == 1  # so that there is something to encode


def test_funasr_agrees_with_us_on_equal_weights(
    find: Callable[[str], Baseline], waveforms: list[np.ndarray], paraformer: Paraformer
) -> None:
    theirs = find("funasr").transcriber
    for waveform in waveforms:  # one by one: padding changes FunASR's own result
        features, lengths = pad([stack_frames(fbank(waveform))])
        with torch.inference_mode():
            recognised = paraformer.recognise(features, lengths)
            logits, counts = theirs.recognise(paraformer.cmvn(theirs.features([waveform])[0])[None], lengths)
            logits[..., paraformer.never] = -torch.inf
        assert counts.tolist() == recognised.token_lengths.tolist()
        known = logits.log_softmax(2).gather(2, recognised.tokens)
        torch.testing.assert_close(known, recognised.log_probabilities, atol=1e-4, rtol=1e-4)
        assert theirs.transcribe([waveform]) == recognised.tokens[..., 0].tolist()


def test_the_export_agrees_with_funasr_to_eight_bits(
    find: Callable[[str], Baseline], waveforms: list[np.ndarray], paraformer: Paraformer
) -> None:
    exported, modules = find("funasr onnx").transcriber, find("funasr").transcriber
    with torch.inference_mode():
        features = paraformer.cmvn(modules.features(waveforms[:1])[0])[None]
        lengths = torch.tensor([features.shape[1]])
        logits, counts = exported.recognise(features, lengths)
        expected, expected_counts = modules.recognise(features, lengths)
    assert abs(counts - expected_counts).max() <= 1  # FunASR's export rounds down where its modules round
    both = int(min(counts[0], expected_counts[0]))
    assert both >= 3
    difference = logits[0, :both] - expected.log_softmax(2)[0, :both]
    assert difference.norm() < 0.05 * expected.log_softmax(2)[0, :both].norm()


def test_int8_does_not_change_the_copied_encoder(text_encoder: TextEncoder) -> None:
    text_encoder = copy.deepcopy(text_encoder)
    replace_linear(text_encoder.transformer, OnednnLinear)  # as an encoder that was loaded may have them
    ids = [[5, 6, 7], [8]]
    before = embed(text_encoder, ids)
    copied = int8_text_encoder(text_encoder)
    assert not any(isinstance(module, nn.Linear) for module in copied.transformer.modules())
    assert torch.equal(embed(text_encoder, ids), before)
    assert (embed(copied, ids) * before).sum(1).min() > 0.99


def test_a_missing_package_is_named_to_install(text_encoder: TextEncoder) -> None:
    def never() -> WhisperTranscriber:
        raise AssertionError("made without its package")

    baseline = Baseline("other", "another", ["numpy", "no_such_module"], never, lambda: text_encoder)
    assert baseline.reason == "not run: pip install 'clsr[baselines]' (no no_such_module)"
    with pytest.raises(InputError, match="other: not run: pip install"):
        baseline.encode([])
