"""On an accelerator: what is computed there is what a processor computes, and training there learns."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from clsr.audio.features import fbank, fbank_batch
from clsr.checkpoint import load_speech_encoder
from clsr.checkpoint_folder import read_meta
from clsr.config import AdaptorConfig, DecoderConfig, EncoderConfig, LossConfig, ModelConfig
from clsr.data.datamodule import SpeechBatch
from clsr.models.adaptor import training_codes
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import load_text_encoder
from clsr.training.asr import asr_losses, total_loss, train_asr
from clsr.training.joint import train_joint
from clsr.training.losses import bank_nll, batch_nll

if TYPE_CHECKING:
    from clsr.config import TrainingConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator"),
]
TEXTS = ["old dog", "red sun boat", "blue green cat"]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions in float32 whole, not rounded to the 10 bits of TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def waveforms(say_in_tones: Callable[[str], np.ndarray]) -> list[np.ndarray]:
    return [say_in_tones(text) for text in (*TEXTS, "boat")]


def batch_of(vocabulary_size: int) -> SpeechBatch:
    """Three utterances of random features and targets."""
    draw = torch.Generator().manual_seed(0)
    frames, tokens = torch.tensor([40, 31, 12]), torch.tensor([9, 6, 2])
    return SpeechBatch(
        ["a", "b", "c"], torch.randn(3, 40, 560, generator=draw), frames,
        torch.randint(3, vocabulary_size, (3, 9), generator=draw), tokens,
        torch.randint(1, 11, (3, 20), generator=draw), torch.tensor([20, 12, 5]), torch.tensor([2, 0, 1]),
    )  # fmt: skip


def moved(batch: SpeechBatch, device: str) -> SpeechBatch:
    return SpeechBatch(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in batch))


def test_losses_and_gradients_are_those_of_a_processor(tiny_bert: Path):
    torch.manual_seed(0)
    encoder, decoder = EncoderConfig(64, 128, 3, 4, 11), DecoderConfig(128, 2, 4, 11)
    adaptor, weights = AdaptorConfig(), LossConfig(mae_weight=0.5, nll_weight=0.2, ctc_weight=0.5, label_smoothing=0.1)
    text_encoder = load_text_encoder(str(tiny_bert))
    size = len(text_encoder.word_embeddings)
    network = Paraformer(ModelConfig(encoder=encoder, decoder=decoder), size, 11)
    questions, passages = (torch.nn.functional.normalize(torch.randn(5, text_encoder.width), dim=1) for _ in range(2))

    def gradients(device: str) -> tuple[dict[str, float], list[torch.Tensor]]:
        network.to(device).train().zero_grad()
        text_encoder.to(device)
        batch = moved(batch_of(size), device)
        output = network(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
        losses = asr_losses(output, batch, weights)
        speech = text_encoder(
            training_codes(output.logits, text_encoder.word_embeddings, adaptor), batch.target_lengths
        )
        banks = questions.to(device), passages.to(device)
        losses["nll"] = bank_nll(speech, batch.pair_rows, *banks, 0.05) + batch_nll(speech, banks[0][:3], 0.05)
        total_loss(losses, weights).backward()
        return {name: loss.item() for name, loss in losses.items()}, [
            weight.grad.cpu().clone() for weight in network.parameters() if weight.grad is not None
        ]

    (here, expected), (there, found) = gradients("cpu"), gradients("cuda")
    assert there == pytest.approx(here, rel=1e-4) and set(here) == {"ce", "mae", "ctc", "nll"}
    assert len(found) == len(expected) > 50
    for gradient, right in zip(found, expected, strict=True):
        assert (gradient - right).norm() <= 1e-3 * right.norm() + 1e-6


def test_filter_banks_are_those_of_a_processor(waveforms: list[np.ndarray]):
    loud = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    found = fbank_batch(torch.from_numpy(loud)[None].cuda())[0].cpu()
    assert (found - fbank(loud)).abs().max() < 2e-3
    assert (found - fbank_batch(torch.from_numpy(loud)[None])[0]).abs().max() < 1e-3


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.9999), ("bf16", 0.99)])
def test_vectors_words_and_times_match_the_cpu(tone_model: Path, waveforms: list[np.ndarray], precision, least: float):
    here, there = load_speech_encoder(tone_model).encode(waveforms), None
    there = load_speech_encoder(tone_model, "cuda", precision).encode(waveforms)
    assert there.transcripts == here.transcripts
    assert (here.vectors * there.vectors).sum(1).min() > least
    for words, right in zip(there.words, here.words, strict=True):
        assert [w.text for w in words] == [w.text for w in right]
        spans = [[(w.start_s, w.end_s) for w in of] for of in (words, right)]
        assert np.allclose(*spans, atol=0.12)  # two frames


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_trained_recogniser_loads_on_the_cpu(
    tone_corpus: Path, tmp_path: Path, tiny_settings: "TrainingConfig", waveforms: list[np.ndarray], precision
):
    config = replace(
        tiny_settings,
        trainer=replace(tiny_settings.trainer, precision=precision),
        data=replace(tiny_settings.data, workers=2, noise_probability=0.2),
    )
    train_asr(config, tone_corpus, tmp_path / "asr")
    assert read_meta(tmp_path / "asr").metrics["dev/wer"] < 0.1
    assert load_speech_encoder(tmp_path / "asr").encode(waveforms).transcripts[:3] == TEXTS


@pytest.mark.parametrize("chunk_s", [0.0, 3.0])
def test_joint_training_learns(
    tone_corpus: Path, tone_model: Path, tmp_path: Path, tiny_settings: "TrainingConfig", chunk_s: float
):
    config = replace(
        tiny_settings,
        loss=replace(tiny_settings.loss, nll_weight=0.3, mae_weight=0.4),
        model=replace(tiny_settings.model, adaptor=replace(tiny_settings.model.adaptor, passage_projection=True)),
        trainer=replace(tiny_settings.trainer, chunk_s=chunk_s, precision="bf16-mixed"),
        optimizer=replace(tiny_settings.optimizer, max_steps=30, learning_rate=1e-3),
    )
    train_joint(config, tone_corpus, tmp_path / "joint", tone_model)
    assert read_meta(tmp_path / "joint").metrics["dev/recall@1"] >= 0.5
