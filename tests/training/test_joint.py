"""Joint training: what the contrastive loss is taken over, and what learns from it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, pairwise
from pathlib import Path

import pytest
import torch

from clsr.audio.waveform import read_waveform
from clsr.checkpoint import load_speech_encoder, load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import AdaptorConfig, DataConfig, LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule
from clsr.data.splits import Split, read_splits
from clsr.errors import InputError
from clsr.models.adaptor import soft_codes, straight_through_codes, top_k_codes
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.training.asr import asr_losses, make_encoders, start_paraformer
from clsr.training.joint import JointModule, cif_gradients, ramped, train_joint
from clsr.training.losses import bank_nll, batch_nll


@pytest.fixture
def text_encoder(tiny_bert: Path) -> TextEncoder:
    return load_text_encoder(str(tiny_bert))


def make(config: TrainingConfig, corpus: Path, text_encoder: TextEncoder, start: Path | None = None):
    """The module, and its batches for ever."""
    splits = read_splits(corpus)
    torch.manual_seed(0)
    vocabulary, paraformer, units = start_paraformer(config, splits[0], text_encoder, start)
    data = SpeechDataModule(*splits, make_encoders(vocabulary, config, units, paraformer), config.data, 0)
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
    codebook, logits = text_encoder.word_embeddings[module.vocabulary.text_ids], output.logits[1:]
    made = {
        "top_k": lambda: top_k_codes(logits, codebook, 2, 0.5),
        "soft": lambda: soft_codes(logits, codebook, 0.5),
        "straight_through": lambda: straight_through_codes(logits, codebook, 0.5),
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


def test_joint_training_starts_from_a_recogniser(
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


def test_a_model_that_recognises_nothing_is_measured(
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


@pytest.mark.parametrize("codes", ["top_k", "soft"])
def test_development_recall_is_of_the_trained_codes(
    tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder, codes
):
    config = with_loss(tiny_settings, LossConfig(), AdaptorConfig(codes, top_k=2))
    module, batches = make(config, tone_corpus, text_encoder)
    batch = next(batches)
    module.references = dict.fromkeys(batch.ids, "red dog")
    with torch.no_grad():
        module.validation_step(batch, 0)
        output = module.paraformer.recognise(batch.features, batch.frame_lengths)
        logits = module.paraformer.decoder.output_layer(output.states)
        if codes == "soft":
            made = soft_codes(logits, module.codebook, 1.5)
        else:
            logits[..., module.paraformer.never] = -torch.inf
            made = top_k_codes(logits, module.codebook, 2, 1.5)
        expected = text_encoder(made, output.token_lengths)
    (vectors,) = module.meter.passages
    assert torch.allclose(vectors, expected, atol=1e-5)


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


def first_gradients(
    config: TrainingConfig, corpus: Path, start: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    """Train for a step; return its gradients."""
    found = {}

    def keep(self: JointModule, optimizer: object) -> None:
        found.update({name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None})

    monkeypatch.setattr(JointModule, "on_before_optimizer_step", keep)
    train_joint(config, corpus, output, start)
    return found


@pytest.mark.parametrize("negatives", ["bank", "batch"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_cached_gradients_are_those_of_the_whole_batch(
    tiny_settings: TrainingConfig,
    tone_corpus: Path,
    tone_model: Path,
    tmp_path: Path,
    monkeypatch,
    negatives,
    accumulate,
):
    loss = LossConfig(mae_weight=0.3, nll_weight=0.3, temperature=0.1, negatives=negatives)
    config = with_loss(tiny_settings, loss, AdaptorConfig(passage_projection=True))
    config = replace(config, optimizer=OptimizerConfig(5e-4, 2, 1, clip_norm=1e6))
    config = replace(config, trainer=TrainerConfig(1, accumulate=accumulate))
    whole = first_gradients(config, tone_corpus, tone_model, tmp_path / "whole", monkeypatch)
    sizes = []
    forward = Paraformer.forward

    def note(self: Paraformer, features: torch.Tensor, *lengths: torch.Tensor) -> object:
        sizes.append(features.shape[0] * features.shape[1])
        return forward(self, features, *lengths)

    monkeypatch.setattr(Paraformer, "forward", note)
    parts = replace(config, trainer=replace(config.trainer, chunk_s=3.0))
    cached = first_gradients(parts, tone_corpus, tone_model, tmp_path / "parts", monkeypatch)
    assert max(sizes) <= 3.0 / 0.06 and len(sizes) > 4 * accumulate  # never more than a part, each twice
    assert set(cached) == set(whole) and "passage_projection.weight" in whole
    for name, gradient in whole.items():
        assert (cached[name] - gradient).abs().max() <= 1e-5, name


def test_both_passes_of_a_part_drop_the_same(
    tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
):
    """With dropout both passes have equal logits, or a gradient would belong to other vectors."""
    config = with_loss(tiny_settings, LossConfig(0.3, 0.3))
    config.model.encoder.dropout = 0.5
    module, batches = make(replace(config, trainer=TrainerConfig(chunk_s=3.0)), tone_corpus, text_encoder)
    seen = []
    forward = Paraformer.forward

    def note(self: Paraformer, *inputs: torch.Tensor) -> object:
        output = forward(self, *inputs)
        seen.append(output.logits.detach())
        return output

    monkeypatch.setattr(Paraformer, "forward", note)
    module.train()
    module.training_step(next(batches), 0).backward()
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(first) > 1
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(second), strict=True))  # the last part comes first
    assert not any(torch.equal(*pair) for pair in pairwise(first) if pair[0].shape == pair[1].shape)
    config.model.encoder.dropout = 0.0


@pytest.mark.parametrize("chunk_s", [0.0, 3.0])
def test_bfloat16_takes_part_in_all_of_it(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path, chunk_s: float
):
    config = with_loss(tiny_settings, LossConfig(0.465, 0.07), AdaptorConfig(passage_projection=True))
    trainer = TrainerConfig(3, chunk_s=chunk_s, precision="bf16-mixed")
    config = replace(config, optimizer=OptimizerConfig(5e-4, 2, 6), trainer=trainer)
    train_joint(config, tone_corpus, tmp_path, start=tone_model)
    assert read_meta(tmp_path).metrics["dev/recall@1"] >= 5 / 6
    assert {weight.dtype for weight in load_weights(tmp_path).values()} == {torch.float32}


def test_caching_on_several_devices_is_refused(tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    config = replace(tiny_settings, trainer=TrainerConfig(chunk_s=3.0, devices=2))
    with pytest.raises(InputError, match=r"trainer.chunk_s 3 with trainer.devices 2: .* on one device only"):
        train_joint(config, tone_corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_contrastive_weight_grows_over_its_first_steps():
    weights = LossConfig(nll_weight=0.4, nll_ramp_steps=4)
    assert [ramped(weights, step).nll_weight for step in (0, 1, 3, 4, 99)] == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4])
    assert ramped(LossConfig(nll_weight=0.4), 0).nll_weight == 0.4


def test_cif_gradients_are_of_weighted_losses(
    tiny_settings: TrainingConfig, tone_corpus: Path, text_encoder: TextEncoder
):
    loss = LossConfig(mae_weight=0.3, nll_weight=0.2)
    module, batches = make(with_loss(tiny_settings, loss), tone_corpus, text_encoder)
    batch = next(batches)
    found = module.forward_pass(batch)
    losses = {**found.losses, "nll": module.contrastive(found)}
    norms = cif_gradients(module.paraformer, losses, loss)
    for name, weight in (("ce", 0.5), ("mae", 0.3), ("nll", 0.2)):
        module.zero_grad()
        (weight * losses[name]).backward(retain_graph=True)
        squares = [p.grad.square().sum() for p in module.paraformer.predictor.parameters() if p.grad is not None]
        assert norms[f"train/cif_gradient_{name}"].item() == pytest.approx(torch.stack(squares).sum().sqrt().item())
        assert norms[f"train/cif_gradient_{name}"] > 0


def test_a_passage_projection_is_learnt_kept_and_used(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path
):
    config = with_loss(tiny_settings, LossConfig(0.465, 0.07), AdaptorConfig(passage_projection=True))
    config = replace(config, optimizer=OptimizerConfig(5e-3, 2, 6), trainer=TrainerConfig(3))
    train_joint(config, tone_corpus, tmp_path / "joint", start=tone_model)
    learnt = load_weights(tmp_path / "joint")["passage_projection.weight"]
    assert 1e-3 < (learnt - torch.eye(32)).abs().max() < 1
    encoder = load_speech_encoder(tmp_path / "joint")
    waveforms = [read_waveform(tone_corpus / "dev" / "passages" / f"p{n:02}.wav") for n in range(3)]
    plain = encoder.embed(encoder.recognise(waveforms))
    mapped = torch.nn.functional.normalize(plain @ learnt.T, dim=1)
    assert torch.allclose(torch.from_numpy(encoder.encode(waveforms).vectors), mapped, atol=1e-6)
    assert not torch.allclose(plain, mapped, atol=1e-4)
    train_joint(replace(config, seed=1), tone_corpus, tmp_path / "again", start=tmp_path / "joint")  # goes on from it
    assert (load_weights(tmp_path / "again")["passage_projection.weight"] - learnt).abs().max() < 0.05
