"""Starting from a checkpoint that lacks words of the corpus: it is said, and rows can be added."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clsr.checkpoint import load_speech_encoder, load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import CtcConfig, LossConfig, TrainingConfig
from clsr.data.splits import read_splits
from clsr.models.text_encoder import load_text_encoder
from clsr.training.asr import start_paraformer, train_asr
from clsr.training.extension import add_rows, extended, missing_pieces
from clsr.training.post import train_post
from clsr.vocabulary import Vocabulary


@pytest.fixture
def known(tiny_settings: TrainingConfig) -> Vocabulary:
    return Vocabulary.of_texts(["red dog"], load_text_encoder(tiny_settings.text_encoder).tokenizer)


def test_what_is_missing_by_hand(known: Vocabulary):
    missing, pieces = missing_pieces(["The dog is red.", "is it dogs?", "愛"], known)
    assert missing == Counter({"is": 2, "the": 1, "i": 1, "##t": 1, "##s": 1})  # 愛 is [UNK] to the text encoder too
    assert pieces == 10
    assert extended(known, missing).pieces == ["[PAD]", "[UNK]", "dog", "red", "is", "##s", "##t", "i", "the"]
    assert missing_pieces(["dog red red"], known) == (Counter(), 3)


def test_rows_by_hand():
    weights = {
        "decoder.output_layer.weight": torch.tensor([[9.0], [9.0], [1.0], [3.0]]),
        "decoder.output_layer.bias": torch.tensor([9.0, 9.0, -1.0, -2.0]),
        "ctc.ctc_lo.weight": torch.tensor([[9.0], [1.0], [3.0], [9.0], [5.0], [6.0]]),  # two slots of three units
        "ctc.ctc_lo.bias": torch.tensor([0.0, 1.0, 2.0, 0.0, 3.0, 5.0]),
        "other": torch.tensor([1.0]),
    }
    longer = add_rows(weights, 6, ["[PAD]", "a", "b", "c"], 2)
    assert longer["decoder.output_layer.weight"].flatten().tolist() == [9, 9, 1, 3, 2, 2]
    assert longer["decoder.output_layer.bias"].tolist() == [9, 9, -1, -2, -1.5, -1.5]
    assert longer["ctc.ctc_lo.weight"].flatten().tolist() == [9, 1, 3, 2, 9, 5, 6, 5.5]
    assert longer["ctc.ctc_lo.bias"].tolist() == [0, 1, 2, 1.5, 0, 3, 5, 4]
    assert longer["other"] is weights["other"]
    assert set(add_rows({k: v for k, v in weights.items() if "ctc" not in k}, 4, [], 1)) == set(weights) - {
        "ctc.ctc_lo.weight", "ctc.ctc_lo.bias",
    }  # fmt: skip


def start(config: TrainingConfig, corpus: Path, model: Path, text: str):
    """Start from a model for a corpus of one text."""
    train, _ = read_splits(corpus)
    train = replace(train, utterances=[replace(train.utterances[0], text=text)])
    return start_paraformer(config, train, load_text_encoder(config.text_encoder), model)


def test_it_is_said_before_training(tone_model: Path, tone_corpus: Path, tiny_settings: TrainingConfig, caplog):
    with caplog.at_level(logging.WARNING, "clsr"):
        start(tiny_settings, tone_corpus, tone_model, "where is the dog the red dog")
    assert caplog.messages == [
        f"{tone_model}: its output layer lacks 3 pieces of the training transcripts, 57.1 % of what is said "
        "(the, where, is): they will never be recognised; add them with --vocabulary extend"
    ]
    caplog.clear()
    start(tiny_settings, tone_corpus, tone_model, "red dog")
    assert not caplog.messages


def test_an_extended_output_layer_recognises_the_same(
    tone_model: Path, tone_corpus: Path, tiny_settings: TrainingConfig
):
    old_vocabulary, old, _ = start(tiny_settings, tone_corpus, tone_model, "red")
    config = replace(tiny_settings, vocabulary="extend")
    vocabulary, longer, units = start(config, tone_corpus, tone_model, "where is the red dog")
    assert vocabulary.pieces == [*old_vocabulary.pieces, "is", "the", "where"] and units == []
    features, lengths = torch.randn(3, 9, 560), torch.tensor([9, 7, 8])
    with torch.no_grad():
        targets, counts = torch.full((3, 4), 2), torch.tensor([4, 2, 3])
        logits, before = (model.eval()(features, lengths, targets, counts).logits for model in (longer, old))
    torch.testing.assert_close(logits[..., :-3], before)  # a wider product may be summed in another order
    assert torch.allclose(logits[..., -3:], before[..., 2:].mean(2, keepdim=True).expand(-1, -1, 3), atol=1e-5)
    again, _, _ = start(config, tone_corpus, tone_model, "red dog")
    assert str(again) == str(old_vocabulary)  # nothing lacks, nothing is added


def test_without_a_start_extend_is_corpus(tone_corpus: Path, tiny_settings: TrainingConfig):
    train, _ = read_splits(tone_corpus)
    text_encoder = load_text_encoder(tiny_settings.text_encoder)
    one, other = (
        start_paraformer(replace(tiny_settings, vocabulary=kind), train, text_encoder, None)[0]
        for kind in ("extend", "corpus")
    )
    assert str(one) == str(other)


def test_new_words_are_learnt(tmp_path: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    """A model that knows two words only goes on to learn all eight, its character CTC included."""
    sizes = replace(tiny_settings.model, ctc=CtcConfig("characters"))
    config = replace(tiny_settings, model=sizes, loss=LossConfig(ctc_weight=0.1), vocabulary="extend")
    for split in ("train", "dev"):
        (tmp_path / "two" / split).mkdir(parents=True)
        for name in ("wav.scp", "text"):
            lines = (tone_corpus / split / "passages" / name).read_text().splitlines()[:3]
            if name == "text":
                lines = [f"{line.split()[0]} red dog" for line in lines]
            else:
                lines = [f"{line.split()[0]} {tone_corpus / split / 'passages' / line.split()[1]}" for line in lines]
            (tmp_path / "two" / split / name).write_text("".join(f"{line}\n" for line in lines))
    short = replace(config, optimizer=replace(config.optimizer, max_steps=2))
    train_asr(short, tmp_path / "two", tmp_path / "start")
    assert read_meta(tmp_path / "start").ctc_units == ["[PAD]", *"degor"]
    train_asr(config, tone_corpus, tmp_path / "asr", start=tmp_path / "start")
    encoder = load_speech_encoder(tmp_path / "asr")
    assert len(encoder.vocabulary) == 2 + 8
    assert read_meta(tmp_path / "asr").ctc_units == ["[PAD]", *"degor", *"abclnstu"]
    assert read_meta(tmp_path / "asr").metrics["dev/wer"] < 0.2
    assert load_weights(tmp_path / "asr")["ctc.ctc_lo.weight"].shape == (14, 32)


def test_post_training_adds_nothing(tmp_path: Path, tone_model: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    config = replace(tiny_settings, vocabulary="extend", optimizer=replace(tiny_settings.optimizer, max_steps=1))
    (tmp_path / "data").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "data" / split).mkdir()
        for part in ("questions", "qrels"):
            (tmp_path / "data" / split / part).symlink_to(tone_corpus / split / part)
        source, passages = tone_corpus / split / "passages", tmp_path / "data" / split / "passages"
        passages.mkdir()
        for line in (source / "wav.scp").read_text().splitlines():
            (passages / line.split()[1]).symlink_to(source / line.split()[1])
        (passages / "wav.scp").write_text((source / "wav.scp").read_text())
        (passages / "text").write_text((source / "text").read_text().replace("red", "where"))
    train_post(config, tmp_path / "data", tmp_path / "post", start=tone_model)
    assert len(load_speech_encoder(tmp_path / "post").vocabulary) == 10
