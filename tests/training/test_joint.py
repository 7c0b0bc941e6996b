"""Joint training: what the contrastive loss is taken over, and what learns from it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
import torch

from clsr.checkpoint import load_speech_encoder, load_weights, read_meta
from clsr.config import AdaptorConfig, DataConfig, LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule, Split
from clsr.errors import InputError
from clsr.losses import bank_nll, batch_nll
from clsr.models.adaptor import soft_codes, straight_through_codes, top_k_codes
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.training.asr import asr_losses, make_encoders, read_splits, start_paraformer
from clsr.training.joint import JointModule, train_joint


@pytest.fixture
def text_encoder(tiny_bert: Path) -> TextEncoder:
    return load_text_encoder(str(tiny_bert))


def make(config: TrainingConfig, corpus: Path, text_encoder: TextEncoder, start: Path | None = None):
    """The module, and its batches for ever."""
    splits = read_splits(corpus)
    torch.manual_seed(0)
    vocabulary, paraformer, units = start_paraformer(config, splits[0], text_encoder, start)
    data = SpeechDataModule(*splits, make_encoders(vocabulary, config, units), config.data, 0)
    batches: Iterator[SpeechBatch] = cycle([data.train_set[cuts] for cuts in data._train_sampler])
    return JointModule(paraformer, vocabulary, text_encoder, config, splits), batches


def with_loss(config: TrainingConfig, loss: LossConfig, adaptor: AdaptorConfig | None = None) -> TrainingConfig:
    return replace(config, loss=loss, model=replace(config.model, adaptor=adaptor or AdaptorConfig()))


@pytest.mark.parametrize("negatives", ["bank", "batch"])
@pytest.mark.parametrize("codes", ["top_k", "soft", "straight_through"])
def test_the_loss_is_the_one_of_the_settings(
    tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder, negatives, codes
):
    loss_config = LossConfig(mae_weight=0.3, nll_weight=0.2, temperature=0.1, negatives=negatives)
    config = with_loss(tiny_settings, loss_config, AdaptorConfig(codes, top_k=2, gamma=0.5))
    module, batches = make(config, tone_corpus, text_encoder)
    batch = next(batches)
    batch.pair_rows[0] = -1  # one passage that nobody asks for
    loss = module.training_step(batch, 0)
    output = module.paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
    table, logits = text_encoder.table[module.vocabulary.text_ids], output.logits[1:]
    made = {
        "top_k": lambda: top_k_codes(logits, table, 2, 0.5),
        "soft": lambda: soft_codes(logits, table, 0.5),
        "straight_through": lambda: straight_through_codes(logits, table, 0.5),
    }[codes]()
    speech, rows = text_encoder(made, batch.target_lengths[1:]), batch.pair_rows[1:]
    if negatives == "bank":
        nll = bank_nll(speech, rows, module.bank.questions, module.bank.passages, 0.1)
    else:
        nll = batch_nll(speech, module.bank.questions[rows], 0.1)
    parts = asr_losses(output, batch, loss_config)
    assert loss.item() == pytest.approx((0.5 * parts["ce"] + 0.3 * parts["mae"] + 0.2 * nll).item(), rel=1e-4)


def test_a_batch_without_questions_is_asr(tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder):
    module, batches = make(with_loss(tiny_settings, LossConfig(0.5, 0.2)), tone_corpus, text_encoder)
    batch = next(batches)
    batch.pair_rows.fill_(-1)
    output = module.paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
    parts = asr_losses(output, batch, LossConfig())
    assert module.training_step(batch, 0).item() == pytest.approx((0.3 * parts["ce"] + 0.5 * parts["mae"]).item())


@pytest.mark.parametrize("codes", ["top_k", "soft"])
def test_questions_alone_teach_the_recogniser(
    tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder, codes, descend
):
    """No transcript is used but its length: the contrastive loss of one batch falls to nearly zero."""
    loss_config = LossConfig(mae_weight=0.0, nll_weight=1.0, temperature=0.02, negatives="batch")
    config = replace(with_loss(tiny_settings, loss_config, AdaptorConfig(codes)), data=DataConfig(batch_s=4.0))
    module, batches = make(config, tone_corpus, text_encoder)
    batch = next(batches)
    frozen = {name: weight.clone() for name, weight in text_encoder.state_dict().items()}
    losses = descend(
        lambda step: module.training_step(batch, step), (p for p in module.parameters() if p.requires_grad), 5e-3, 40
    )
    assert losses[0] > 1.0
    assert losses[-1] < 0.1
    assert all(torch.equal(weight, frozen[name]) for name, weight in text_encoder.state_dict().items())
    assert all(weight.grad is None for weight in text_encoder.parameters())


def test_a_recogniser_goes_on_to_retrieve(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tiny_bert: Path, tmp_path: Path
):
    config = replace(
        with_loss(tiny_settings, LossConfig(0.465, 0.07)),
        optimizer=OptimizerConfig(5e-4, 2, 6),
        trainer=TrainerConfig(3),
    )
    train_joint(config, tone_corpus, tmp_path, start=tone_model)
    meta = read_meta(tmp_path)
    assert meta.kind == "joint"
    assert meta.metrics["dev/recall@1"] >= 5 / 6
    assert set(load_weights(tmp_path)) == set(load_weights(tone_model))
    assert load_speech_encoder(tmp_path).text_encoder.fingerprint == load_text_encoder(str(tiny_bert)).fingerprint
    state = torch.load(tmp_path / "state" / "last.ckpt", weights_only=False)["state_dict"]
    assert all(name.startswith("paraformer.") for name in state)  # the frozen text encoder is not kept again
    train_joint(config, tone_corpus, tmp_path, start=tone_model)  # and is not missed when resuming


def test_a_model_that_hears_nothing_is_measured_too(
    tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder
):
    module, batches = make(tiny_settings, tone_corpus, text_encoder)
    with torch.no_grad():
        module.paraformer.predictor.cif_output.bias.fill_(-20.0)
        batch = next(batches)
        module.references = dict.fromkeys(batch.ids, "red dog")
        module.validation_step(batch, 0)
    (vectors,) = module.meter.passages
    assert torch.allclose(vectors, text_encoder.encode([""]).expand(len(batch.ids), -1), atol=1e-6)
    assert [error.errors for error in module.errors] == [2] * len(batch.ids)


def test_speech_without_questions_is_refused(tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    for name in ("train", "dev"):
        (tmp_path / name).symlink_to(tone_corpus / name / "passages")
    with pytest.raises(InputError, match="train: no questions"):
        train_joint(tiny_settings, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_splits_keep_their_pairs_apart(tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder):
    module, _ = make(tiny_settings, tone_corpus, text_encoder)
    train, dev = read_splits(tone_corpus)
    assert isinstance(train, Split)
    assert module.bank.questions.shape == (len(train.pairs), 32) == (24, 32)
    assert module.dev_bank.questions.shape == (len(dev.pairs), 32) == (6, 32)
