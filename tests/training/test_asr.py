"""ASR pre-training: what it learns, what it counts and what it starts from."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clsr.checkpoint import load_speech_encoder, load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import CtcConfig, LossConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch
from clsr.data.splits import Split, data_digest, read_split, read_splits
from clsr.errors import InputError
from clsr.models.paraformer import Paraformer, TrainingOutput
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_settings
from clsr.training import asr
from clsr.training.asr import (
    AsrModule,
    asr_losses,
    ctc_units,
    draw_outputs,
    make_encoders,
    start_paraformer,
    total_loss,
    train_asr,
)  # fmt: skip
from clsr.vocabulary import Vocabulary

NO_SPEECH = Split([], [], {})


def test_it_learns_the_language_of_tones(tone_model: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    meta = read_meta(tone_model)
    assert meta.kind == "asr"
    assert meta.metrics == {"dev/wer": 0.0}  # on unseen sentences
    assert meta.data_digest == data_digest(read_split(tone_corpus / "train"))
    assert meta.text_encoder == tiny_settings.text_encoder
    assert read_settings(TrainingConfig, [tone_model / "config.yaml"]) == tiny_settings
    words = "[PAD] [UNK] blue boat cat dog green old red sun".split()
    assert sorted(load_speech_encoder(tone_model).vocabulary.pieces) == words  # "where is the" is never said


def test_it_logs_csv_and_tensorboard(tone_model: Path):
    with (tone_model / "logs" / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dev/wer"]) for row in rows if row["dev/wer"]][-1] == 0.0
    assert [int(row["step"]) for row in rows if row["dev/wer"]] == [29, 59]  # steps count from 0
    assert {"train/ce", "train/mae", "train/loss", "train/accuracy"} <= set(rows[0])
    assert list((tone_model / "logs" / "tensorboard").glob("events.*"))


def test_statistics_are_those_of_the_training_corpus(tone_model: Path, tone_corpus: Path):
    weights = load_weights(tone_model)
    assert (weights["cmvn.scale"] > 0).all() and weights["cmvn.scale"].std() > 0
    assert (-weights["cmvn.shift"]).mean() > 0  # log energies of loud tones on the 16-bit scale


def test_the_total_by_hand():
    losses = {"ce": torch.tensor(2.0), "mae": torch.tensor(3.0), "nll": torch.tensor(5.0), "ctc": torch.tensor(7.0)}
    weights = LossConfig(mae_weight=0.3, nll_weight=0.2, ctc_weight=0.1)
    assert total_loss(losses, weights).item() == pytest.approx(0.5 * 2 + 0.3 * 3 + 0.2 * 5 + 0.1 * 7)
    del losses["nll"], losses["ctc"]
    assert total_loss(losses, LossConfig(mae_weight=1 / 3)).item() == pytest.approx(2 / 3 * 2 + 1 / 3 * 3)


def test_losses_of_a_batch():
    batch = SpeechBatch(["a"], torch.zeros(1, 3, 560), torch.tensor([3]), torch.tensor([[1, 0]]), torch.tensor([2]),
                        torch.tensor([[2]]), torch.tensor([1]), torch.tensor([-1]))  # fmt: skip
    output = TrainingOutput(
        torch.zeros(1, 2, 4), torch.zeros(1, 2).long(), torch.tensor([2]), torch.tensor([3.0]), torch.zeros(1, 6, 5)
    )
    losses = asr_losses(output, batch, LossConfig(ctc_weight=0.5))
    assert losses["ce"].item() == pytest.approx(1.3863, abs=1e-4)  # ln 4
    assert losses["mae"].item() == pytest.approx(0.5)  # 3 announced, 2 there
    # 21 of the 5^6 paths through two slots a frame collapse to one unit: a run of it between blanks.
    assert losses["ctc"].item() == pytest.approx(6 * 1.6094 - 3.0445, abs=1e-3)
    assert set(asr_losses(output, batch, LossConfig(ctc_weight=0.0))) == {"ce", "mae"}


def test_drawn_outputs_hold_blank_and_targets():
    outputs = draw_outputs(torch.tensor([[70, 9], [9, 0]]), 100, 20)
    assert outputs[0] == 0 and {9, 70} <= set(outputs.tolist())
    assert 3 < len(outputs) <= 23 and outputs.max() < 100 and (outputs.diff() > 0).all()


def test_sampled_training_scores_the_drawn_outputs(monkeypatch: pytest.MonkeyPatch, tiny_settings: TrainingConfig):
    vocabulary = Vocabulary.whole(load_text_encoder(tiny_settings.text_encoder).tokenizer)
    torch.manual_seed(0)
    paraformer = Paraformer(replace(tiny_settings.model, ctc=CtcConfig("none")), len(vocabulary))
    targets = torch.tensor([[7, 60, 31]])
    batch = SpeechBatch(["a"], torch.randn(1, 12, 560), torch.tensor([12]), targets, torch.tensor([3]),
                        torch.zeros(1, 0).long(), torch.tensor([0]), torch.tensor([-1]))  # fmt: skip
    config = replace(tiny_settings, loss=LossConfig(sampled_outputs=20))
    module = AsrModule(paraformer, vocabulary, config, NO_SPEECH)
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(asr, "draw_outputs", lambda *of: drawn.append(draw_outputs(*of)) or drawn[0])
    monkeypatch.setattr(module, "log", lambda *of, **how: None)
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(module, "log_dict", lambda values, **how: logged.update(values))
    module.eval().training_step(batch, 0)
    every = paraformer(batch.features, batch.frame_lengths, targets, batch.target_lengths).logits[0]
    chosen = every[:, drawn[0]].log_softmax(1)
    by_hand = -sum(chosen[u, drawn[0].tolist().index(token)] for u, token in enumerate([7, 60, 31])) / 3
    assert logged["train/ce"].item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_mwer_needs_all_outputs(tiny_settings: TrainingConfig):
    loss = LossConfig(sampled_outputs=50, mwer_weight=0.1)
    vocabulary = Vocabulary.whole(load_text_encoder(tiny_settings.text_encoder).tokenizer)
    with pytest.raises(InputError, match=r"loss\.sampled_outputs: MWER needs all outputs"):
        AsrModule(Paraformer(tiny_settings.model, 9), vocabulary, replace(tiny_settings, loss=loss), NO_SPEECH)


def test_ctc_units_by_kind(tiny_settings: TrainingConfig):
    tokenizer = load_text_encoder(tiny_settings.text_encoder).tokenizer
    vocabulary = Vocabulary.of_texts(["red dogs"], tokenizer)
    assert ctc_units("none", vocabulary) == []
    assert ctc_units("pieces", vocabulary) == ["[PAD]", "[UNK]", "##s", "dog", "red"]
    units = ctc_units("characters", vocabulary)
    assert units == ["[PAD]", *"degors"]
    config = replace(tiny_settings, model=replace(tiny_settings.model, ctc=CtcConfig("characters")))
    paraformer = Paraformer(tiny_settings.model, len(vocabulary))
    encoders = make_encoders(vocabulary, config, units, paraformer)
    assert [units[i] for i in encoders.ctc("Dogs, red!")] == list("dogsred")
    assert [vocabulary.pieces[i] for i in encoders.targets("Dogs, red!")] == ["dog", "##s", "red"]
    assert make_encoders(vocabulary, tiny_settings, [], paraformer).ctc("red") == []


def test_an_auxiliary_ctc_is_saved_and_started_from(tmp_path: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    config = replace(
        tiny_settings,
        model=replace(tiny_settings.model, ctc=CtcConfig("characters", upsampling=2)),
        loss=LossConfig(ctc_weight=0.3),
        optimizer=replace(tiny_settings.optimizer, max_steps=4),
    )
    train_asr(config, tone_corpus, tmp_path / "ctc")
    units = read_meta(tmp_path / "ctc").ctc_units
    assert units == ["[PAD]", *sorted(set("blueboatcatdoggreenoldredsun"))]
    assert load_weights(tmp_path / "ctc")["ctc.ctc_lo.weight"].shape == (2 * len(units), 32)
    load_speech_encoder(tmp_path / "ctc")  # weights of the CTC belong to the model
    train_asr(config, tone_corpus, tmp_path / "again", start=tmp_path / "ctc")
    assert read_meta(tmp_path / "again").ctc_units == units


def test_a_start_keeps_vocabulary_and_weights(tone_model: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    text_encoder = load_text_encoder(tiny_settings.text_encoder)
    train, _ = read_splits(tone_corpus)
    train = replace(train, utterances=[replace(train.utterances[0], text="where is the dog")])
    vocabulary, paraformer, _ = start_paraformer(tiny_settings, train, text_encoder, tone_model)
    assert str(vocabulary) == (tone_model / "vocabulary.txt").read_text()
    for name, weight in load_weights(tone_model).items():
        assert torch.equal(paraformer.state_dict()[name], weight)
    assert paraformer.training
    fresh, _, _ = start_paraformer(tiny_settings, train, text_encoder, None)
    assert sorted(fresh.pieces) == ["[PAD]", "[UNK]", "dog", "is", "the", "where"]
    whole, _, _ = start_paraformer(replace(tiny_settings, vocabulary="whole"), train, text_encoder, None)
    assert len(whole) == len(text_encoder.word_embeddings) - 3  # without [CLS], [SEP], [MASK]


def test_a_start_of_another_size_is_refused(tone_model: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    encoder = replace(tiny_settings.model.encoder, width=64)
    config = replace(tiny_settings, model=replace(tiny_settings.model, encoder=encoder))
    with pytest.raises(InputError, match=r"weight encoder.* is .96, 560. there, .192, 560. in the model"):
        train_asr(config, tone_corpus, tone_model.parent / "refused", start=tone_model)


def test_training_is_given_by_the_seed(tmp_path: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    config = replace(tiny_settings, optimizer=replace(tiny_settings.optimizer, max_steps=3))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_asr(replace(config, seed=seed), tone_corpus, tmp_path / name)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_a_folder_without_splits(tmp_path: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    with pytest.raises(InputError, match="no folder 'train'"):
        train_asr(tiny_settings, tmp_path, tmp_path / "out")
    (tmp_path / "train").symlink_to(tone_corpus / "train")
    with pytest.raises(InputError, match="no folder 'dev'"):
        train_asr(tiny_settings, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_meta_is_plain_json(tone_model: Path):
    assert set(json.loads((tone_model / "meta.json").read_text())) == {
        "kind", "text_encoder", "text_encoder_fingerprint", "ctc_units", "data_digest", "commit", "metrics",
    }  # fmt: skip


def test_another_ctc_than_that_of_the_start(
    tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path, tiny_bert: Path
):
    config = replace(
        tiny_settings,
        model=replace(tiny_settings.model, ctc=CtcConfig("characters")),
        optimizer=replace(tiny_settings.optimizer, max_steps=2),
        loss=LossConfig(ctc_weight=0.1),
    )
    train_asr(config, tone_corpus, tmp_path / "start")
    train, text_encoder = read_split(tone_corpus / "train"), load_text_encoder(str(tiny_bert))
    pieces = replace(config, model=replace(config.model, ctc=CtcConfig("pieces")))
    with pytest.raises(InputError, match="model.ctc.units is pieces, but .*/start has characters"):
        start_paraformer(pieces, train, text_encoder, tmp_path / "start")
    without = replace(config, model=replace(config.model, ctc=CtcConfig("none")))
    _, paraformer, units = start_paraformer(without, train, text_encoder, tmp_path / "start")
    assert paraformer.ctc is None and units == []
    unused = replace(config, loss=LossConfig())
    vocabulary, paraformer, _ = start_paraformer(unused, train, text_encoder, tmp_path / "start")
    AsrModule(paraformer, vocabulary, unused, train)
    assert paraformer.ctc is not None and not paraformer.ctc.ctc_lo.weight.requires_grad
