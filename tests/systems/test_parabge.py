"""ParaBGE: mean of frames, projected into the space of the text encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio.features import FEATURE_SIZE, fbank, stack_frames
from clsr.checkpoint import load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import (
    DataConfig,
    EncoderConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
    TrainingConfig,
)
from clsr.data.datamodule import Encoders, SpeechDataModule
from clsr.data.splits import read_splits
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.padding import pad
from clsr.systems.parabge import ParaBge, ParaBgeModule, load_parabge, train_parabge
from clsr.training.losses import bank_nll, batch_nll


def tiny() -> ParaBge:
    torch.manual_seed(0)
    return ParaBge(ModelConfig(encoder=EncoderConfig(width=16, hidden=24, layers=2, heads=2)), 6).eval()


def test_vectors_are_projected_means_of_frames():
    model, rows = tiny(), [torch.randn(length, FEATURE_SIZE) for length in (5, 2, 9)]
    vectors = model(*pad(rows))
    for row, vector in zip(rows, vectors):  # alone, without padding
        frames, _ = model.encoder(row[None], torch.tensor([len(row)]))
        expected = torch.nn.functional.normalize(model.projection(frames[0].mean(0)), dim=0)
        assert torch.allclose(vector, expected, atol=1e-5)


def test_waveforms_are_encoded_one_by_one_in_order():
    model = tiny()
    waveforms = [np.random.default_rng(n).standard_normal(n, dtype=np.float32) for n in (4000, 9000)]
    expected = torch.cat([model(*pad([stack_frames(fbank(waveform))])) for waveform in waveforms])
    assert torch.equal(model.encode(waveforms), expected)


def test_frame_mean_has_the_vectors_direction():
    model, waveform = tiny(), np.random.default_rng(0).standard_normal(9000, dtype=np.float32)
    frames = model.frame_vectors(waveform)
    assert frames.shape == (len(stack_frames(fbank(waveform))), 6)
    assert torch.allclose(torch.nn.functional.normalize(frames.mean(0), dim=0), model.encode([waveform])[0], atol=1e-5)


@pytest.mark.parametrize("negatives", ["bank", "batch"])
def test_one_batch_is_learnt_by_heart(tiny_settings: TrainingConfig, tone_corpus: Path, negatives, descend):
    splits, text_encoder = read_splits(tone_corpus), load_text_encoder(tiny_settings.text_encoder)
    config = replace(
        tiny_settings, loss=LossConfig(temperature=0.02, negatives=negatives), data=DataConfig(batch_s=4.0)
    )
    torch.manual_seed(0)
    module = ParaBgeModule(ParaBge(config.model, 32), text_encoder, config, splits)
    data = SpeechDataModule(*splits, Encoders(lambda text: [0], lambda text: []), config.data, 0)
    batch = next(data.train_set[cuts] for cuts in data._train_sampler)
    module.model.cmvn.fit([batch.features[0]])
    speech = module.model(batch.features, batch.frame_lengths)
    if negatives == "bank":
        expected = bank_nll(speech, batch.pair_rows, module.bank.questions, module.bank.passages, 0.02)
    else:
        expected = batch_nll(speech, module.bank.questions[batch.pair_rows], 0.02)
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)
    losses = descend(lambda step: module.training_step(batch, step), module.model.parameters(), 3e-3, 60)
    assert losses[-1] < 0.1


def test_it_starts_from_a_recognisers_encoder(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path
):
    config = replace(tiny_settings, optimizer=OptimizerConfig(0.0, 1, 2), trainer=TrainerConfig(1))  # nothing moves
    train_parabge(config, tone_corpus, tmp_path, start=tone_model)
    model, text_encoder = load_parabge(tmp_path)
    meta = read_meta(tmp_path)
    assert meta.kind == "parabge" and "dev/recall@1" in meta.metrics
    assert meta.text_encoder_fingerprint == text_encoder.fingerprint
    recogniser = load_weights(tone_model)
    for name, weight in model.state_dict().items():
        assert name.startswith("projection.") or torch.equal(weight, recogniser[name]), name


def test_it_trains_from_nothing_and_is_loaded_again(tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 2, 4), trainer=TrainerConfig(2))
    train_parabge(config, tone_corpus, tmp_path)
    model, _ = load_parabge(tmp_path)
    assert not model.training
    assert model.cmvn.shift.any()  # statistics of the corpus
    assert model.encode([np.zeros(4000, np.float32)]).norm().item() == pytest.approx(1.0)


def test_another_checkpoint_is_refused(tone_model: Path):
    with pytest.raises(InputError, match=r"asr: weight projection.weight is absent there"):
        load_parabge(tone_model)
