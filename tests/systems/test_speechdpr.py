"""SpeechDPR: a speech encoder that learns a cascade's scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.checkpoint import load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import AugmentConfig, DataConfig, LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule
from clsr.data.splits import read_splits
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.load import load_system
from clsr.systems.parabge import NO_TARGETS
from clsr.systems.speechdpr import SpeechDpr, SpeechDprModule, SpeechDprSystem, load_speechdpr, train_speechdpr


@pytest.fixture
def module(tiny_settings: TrainingConfig, tone_corpus: Path) -> SpeechDprModule:
    torch.manual_seed(0)
    speeds = DataConfig(batch_s=4.0, augment=AugmentConfig(speeds=(1.0, 0.9)))
    config = replace(tiny_settings, loss=LossConfig(temperature=0.1), data=speeds)
    text_encoder = load_text_encoder(config.text_encoder)
    return SpeechDprModule(SpeechDpr(config.model, 32), text_encoder, config, read_splits(tone_corpus))


@pytest.fixture
def batch(module: SpeechDprModule, tone_corpus: Path) -> SpeechBatch:
    data = SpeechDataModule(*read_splits(tone_corpus), NO_TARGETS, module.config.data, 0)
    batch = next(data.train_set[cuts] for cuts in data._train_sampler)
    module.model.speech.cmvn.fit([batch.features[0]])
    return batch


def test_the_loss_is_the_divergence_from_the_cascade(
    module: SpeechDprModule, batch: SpeechBatch, tone_corpus: Path, tiny_settings: TrainingConfig
):
    train, text_encoder = read_splits(tone_corpus)[0], load_text_encoder(tiny_settings.text_encoder)
    texts = {utterance.id: utterance.text or "" for utterance in train.utterances}
    passages = text_encoder.encode([texts[i.partition("_sp")[0]] for i in batch.ids])  # copies at other speeds too
    speech, total = module.model.speech(batch.features, batch.frame_lengths), 0.0
    for row in batch.pair_rows.tolist():  # at the start the map of questions is the identity
        question = text_encoder.encode([train.pairs[row].question], "question")[0]
        teacher, student = ((vectors @ question / 0.1).softmax(0) for vectors in (passages, speech))
        total += (teacher * (teacher.log() - student.log())).sum().item()
    assert module.training_step(batch, 0).item() == pytest.approx(total / len(batch.ids), rel=1e-4)
    assert any("_sp" in utterance_id for utterance_id in batch.ids)


def test_passages_without_questions_are_candidates(module: SpeechDprModule, batch: SpeechBatch):
    rows = batch.pair_rows.clone()
    whole = module.training_step(batch, 0)
    rows[0] = -1
    fewer = module.training_step(batch._replace(pair_rows=rows), 0)
    student = module.model(batch.features, batch.frame_lengths, module.questions[rows[1:]])
    assert student.shape == (len(rows) - 1, len(rows))
    assert fewer.item() != pytest.approx(whole.item(), rel=1e-4)
    nothing = module.training_step(batch._replace(pair_rows=torch.full_like(rows, -1)), 0)
    assert nothing.item() == 0.0 and nothing.requires_grad


def test_one_batch_is_learnt_by_heart(module: SpeechDprModule, batch: SpeechBatch, descend):
    losses = descend(lambda step: module.training_step(batch, step), module.model.parameters(), 3e-3, 80)
    assert losses[-1] < 0.1 * losses[0]
    assert not torch.equal(module.model.question_map.weight, torch.eye(32))


def test_it_trains_and_is_measured_by_its_folder(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path
):
    config = replace(tiny_settings, optimizer=OptimizerConfig(0.0, 1, 2), trainer=TrainerConfig(1))  # nothing moves
    train_speechdpr(config, tone_corpus, tmp_path, start=tone_model)
    assert read_meta(tmp_path).kind == "speechdpr" and "dev/recall@1" in read_meta(tmp_path).metrics
    system, recogniser = load_system(str(tmp_path)), load_weights(tone_model)
    assert isinstance(system, SpeechDprSystem) and system.rows == ("speechdpr",)
    for name, weight in system.model.speech.state_dict().items():
        assert name.startswith("projection.") or torch.equal(weight, recogniser[name]), name


def test_the_system_keeps_order_and_norm(module: SpeechDprModule, tiny_settings: TrainingConfig):
    torch.nn.init.normal_(module.model.question_map.weight)
    text_encoder = load_text_encoder(tiny_settings.text_encoder)
    system = SpeechDprSystem(module.model.eval(), text_encoder)
    waveforms = [np.random.default_rng(n).standard_normal(n, dtype=np.float32) for n in (4000, 9000, 6000)]
    recognised = system.recognise(waveforms)
    vectors = system.encode(recognised, "speechdpr", "passage")
    alone = torch.cat([system.encode(system.recognise([waveform]), "speechdpr", "question") for waveform in waveforms])
    assert torch.allclose(vectors, alone, atol=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    questions = system.encode_text(["red dog", "blue cat"], "question")
    assert torch.allclose(questions.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.equal(system.encode_text(["red dog"], "passage"), text_encoder.encode(["red dog"]))
    assert not torch.allclose(questions[:1], text_encoder.encode(["red dog"], "question"))
    assert system.transcribe(recognised) is None


def test_another_checkpoint_is_refused(tone_model: Path):
    with pytest.raises(InputError, match=r"weight speech.cmvn"):
        load_speechdpr(tone_model)
