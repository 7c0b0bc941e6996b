"""Text-encoder pre-training: questions and the texts that answer them."""

from dataclasses import replace
from pathlib import Path

import pytest

from clsr.checkpoint import load_text_side
from clsr.checkpoint_folder import read_meta
from clsr.config import LossConfig, OptimizerConfig, TrainingConfig
from clsr.data.splits import Pair
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.training.losses import batch_nll
from clsr.training.text import PairDataModule, TextModule, train_text


def test_the_loss_encodes_texts_as_search_does(tiny_settings: TrainingConfig):
    encoder = load_text_encoder(tiny_settings.text_encoder)
    encoder.prompts = {"question": "the ", "passage": ""}
    module = TextModule(encoder, replace(tiny_settings, loss=LossConfig(temperature=0.3))).eval()
    loss = module.training_step([Pair("Where is it?", "Red, dog!", 0), Pair("sun", "The boat.", 1)], 0)
    questions, passages = encoder.encode(["Where is it?", "sun"], "question"), encoder.encode(["red dog", "the boat"])
    assert loss.item() == pytest.approx(batch_nll(passages, questions, 0.3).item(), rel=1e-5)


def test_one_batch_is_learnt_by_heart(tiny_settings: TrainingConfig, descend):
    module = TextModule(load_text_encoder(tiny_settings.text_encoder), tiny_settings)
    assert module.text_encoder.transformer.training  # with dropout, but not here
    module.eval()
    words = ["red", "blue", "green", "old", "dog", "cat", "sun", "boat"]
    rows = enumerate(zip(words, words[::-1]))  # not what they look like
    batch = [Pair(f"where is the {word}", other, row) for row, (word, other) in rows]
    losses = descend(lambda step: module.training_step(batch, step), module.parameters(), 5e-3, 60)
    assert losses[0] > 2.0 and losses[-1] < 0.1


def test_every_pair_comes_up_in_an_epoch():
    pairs = [Pair(str(i), str(i), i) for i in range(70)]
    data = PairDataModule(pairs, pairs[:5], 0)
    trained = [pair for batch in data.train_dataloader() for pair in batch]
    assert len(trained) == len(set(trained)) == 70
    assert trained != [pair for batch in PairDataModule(pairs, pairs[:5], 1).train_dataloader() for pair in batch]
    assert [pair for batch in data.val_dataloader() for pair in batch] == pairs[:5]
    few = PairDataModule(pairs[:3], pairs[:3], 0)
    assert [len(batch) for batch in few.train_dataloader()] == [3]


def test_training_leaves_a_text_encoder(tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    source = Path(tiny_settings.text_encoder)
    before = (source / "model.safetensors").read_bytes()
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 2, 30))
    train_text(config, tone_corpus, tmp_path / "text")
    trained = load_text_encoder(str(tmp_path / "text" / "text_encoder"))
    meta = read_meta(tmp_path / "text")
    assert meta.kind == "text"
    assert meta.text_encoder_fingerprint == trained.fingerprint != load_text_encoder(str(source)).fingerprint
    assert meta.metrics["dev/recall@1"] >= 5 / 6
    assert load_text_side(tmp_path / "text").fingerprint == trained.fingerprint
    assert trained.pooling == "mean" and trained.token_ids("red dog") == load_text_encoder(str(source)).token_ids(
        "red dog"
    )
    assert (source / "model.safetensors").read_bytes() == before


def test_it_needs_questions(tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    for name in ("train", "dev"):
        (tmp_path / name).symlink_to(tone_corpus / name / "passages")
    with pytest.raises(InputError, match="train: no questions"):
        train_text(tiny_settings, tmp_path, tmp_path / "out")
