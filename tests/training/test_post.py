"""Post-training: the text encoder learns, the recogniser stays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.checkpoint import load_speech_encoder, load_weights
from clsr.checkpoint_folder import fingerprint, read_meta
from clsr.config import OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule
from clsr.data.retrieval_set import write_relevance
from clsr.data.splits import read_splits
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_settings, start_settings
from clsr.training.asr import make_encoders, start_paraformer
from clsr.training.losses import batch_nll
from clsr.training.post import PostModule, train_post


@pytest.fixture
def post(tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path) -> tuple[PostModule, SpeechBatch]:
    """The module on top of the trained recogniser, and one batch."""
    splits = read_splits(tone_corpus)
    text_encoder = load_text_encoder(tiny_settings.text_encoder)
    vocabulary, paraformer, units = start_paraformer(tiny_settings, splits[0], text_encoder, tone_model)
    data = SpeechDataModule(*splits, make_encoders(vocabulary, tiny_settings, units, paraformer), tiny_settings.data, 0)
    batch = next(data.train_set[cuts] for cuts in data._train_sampler)
    return PostModule(paraformer, vocabulary, text_encoder, tiny_settings, splits), batch


def test_the_loss_compares_recognised_speech_with_questions(post: tuple[PostModule, SpeechBatch]):
    module, batch = post
    module.eval()  # without dropout
    loss = module.training_step(batch, 0)
    encoder = module.text_encoder.requires_grad_(False)
    texts = [module.vocabulary.decode(row[:n].tolist()) for row, n in zip(batch.targets, batch.target_lengths)]
    questions = encoder.encode([module.train_pairs[row].question for row in batch.pair_rows.tolist()], "question")
    expected = batch_nll(encoder.encode(texts), questions, 0.05)  # the recogniser makes no error, and hardly doubts
    assert loss.item() == pytest.approx(expected.item(), abs=0.05)


def test_gradients_stay_in_the_text_encoder(post: tuple[PostModule, SpeechBatch]):
    module, batch = post
    module.training_step(batch, 0).backward()
    assert all(weight.grad is None for weight in module.paraformer.parameters())
    assert (
        module.text_encoder.word_embeddings.grad is not None
        and module.text_encoder.word_embeddings.grad.abs().sum() > 0
    )


def test_one_batch_is_learnt_by_heart(post: tuple[PostModule, SpeechBatch], descend):
    module, batch = post
    module.eval()
    losses = descend(lambda step: module.training_step(batch, step), module.text_encoder.parameters(), 2e-3, 40)
    assert losses[-1] < 0.1


def test_it_trains_with_dropout(post: tuple[PostModule, SpeechBatch]):
    module, batch = post
    assert module.text_encoder.transformer.training
    assert module.training_step(batch, 0).item() != module.training_step(batch, 0).item()


def test_a_passage_nobody_asks_for_teaches_nothing(post: tuple[PostModule, SpeechBatch]):
    module, batch = post
    module.eval()
    rows = batch.pair_rows.clone()
    rows[0] = -1
    fewer = module.training_step(batch._replace(pair_rows=rows), 0)
    others = SpeechBatch(batch.ids[1:], *(values[1:] for values in batch[1:-1]))
    assert fewer.item() == pytest.approx(module.training_step(others, 0).item(), rel=1e-4)
    nothing = module.training_step(batch._replace(pair_rows=torch.full_like(rows, -1)), 0)
    assert nothing.item() == 0.0 and nothing.requires_grad


def test_later_stages_take_the_trained_text_encoder(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path
):
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 2, 2), trainer=TrainerConfig(1))
    train_post(config, tone_corpus, tmp_path / "post", start=tone_model)
    settings = read_settings(TrainingConfig, base=start_settings(tmp_path / "post"))
    assert settings.text_encoder == str(tmp_path / "post" / "text_encoder")
    assert load_text_encoder(settings.text_encoder).fingerprint == read_meta(tmp_path / "post").text_encoder_fingerprint


def test_the_checkpoint_carries_both(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path, say_in_tones
):
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 2, 6), trainer=TrainerConfig(3))
    train_post(config, tone_corpus, tmp_path / "post", start=tone_model)
    meta = read_meta(tmp_path / "post")
    assert meta.kind == "post" and "dev/recall@1" in meta.metrics
    before, after = load_weights(tone_model), load_weights(tmp_path / "post")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert fingerprint(tmp_path / "post") != fingerprint(tone_model)
    model, start = load_speech_encoder(tmp_path / "post"), load_speech_encoder(tone_model)
    encoded, was = model.encode([say_in_tones("old red boat")]), start.encode([say_in_tones("old red boat")])
    assert encoded.transcripts == was.transcripts == ["old red boat"]
    assert np.abs(encoded.vectors - was.vectors).max() > 1e-3
    state = torch.load(tmp_path / "post" / "state" / "last.ckpt", weights_only=False)["state_dict"]
    assert all(name.startswith("text_encoder.") for name in state)
    train_post(config, tone_corpus, tmp_path / "post", start=tone_model)  # the recogniser is not missed when resuming


def test_it_needs_a_model_and_questions(tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path):
    with pytest.raises(InputError, match="name it with --start"):
        train_post(tiny_settings, tone_corpus, tmp_path / "out")
    write_relevance(tmp_path / "qrels", {})
    for name in ("train", "dev"):
        (tmp_path / name).symlink_to(tone_corpus / name / "passages")
    with pytest.raises(InputError, match="train: no questions"):
        train_post(tiny_settings, tmp_path, tmp_path / "out", start=tone_model)
