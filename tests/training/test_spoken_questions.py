"""Spoken questions: both sides of a pair go through the recogniser, or through the encoder of a baseline."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.config import DataConfig, LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule
from clsr.data.kaldi import Utterance, write_data_dir
from clsr.data.splits import data_digest, read_split, read_splits
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.parabge import NO_TARGETS, ParaBge, ParaBgeModule, train_parabge
from clsr.systems.speechdpr import SpeechDpr, SpeechDprModule
from clsr.training.asr import asr_losses, make_encoders, start_paraformer
from clsr.training.gradient_cache import forward_in_parts
from clsr.training.joint import JointModule, train_joint
from clsr.training.losses import bank_nll, batch_nll, score_distillation
from clsr.training.pairs import RecallMeter
from clsr.training.post import PostModule
from clsr.training_record import read_training


@pytest.fixture(scope="module")
def spoken_corpus(
    tone_corpus: Path, say_in_tones: Callable[[str], np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The language of tones with spoken questions: the words of the passage in reverse order."""
    folder = shutil.copytree(tone_corpus, tmp_path_factory.mktemp("spoken") / "sets")
    for name in ("train", "dev"):
        asked = []
        for passage in read_split(folder / name).utterances:
            text = " ".join(reversed((passage.text or "").split()))
            path, waveform = folder / name / "questions" / f"{passage.id}.wav", say_in_tones(text)
            write_waveform(path, waveform)
            length_s = len(waveform) / SAMPLE_RATE
            asked.append(Utterance(passage.id.replace("p", "q"), path, 0.0, length_s, text, "tuning-fork"))
        write_data_dir(folder / name / "questions", asked)
    return folder


@pytest.fixture
def spoken(tiny_settings: TrainingConfig) -> TrainingConfig:
    loss = LossConfig(mae_weight=0.3, nll_weight=0.2, temperature=0.1)
    return replace(tiny_settings, loss=loss, data=DataConfig(batch_s=8.0, questions="spoken"))


def make(config: TrainingConfig, corpus: Path) -> tuple[JointModule, SpeechBatch]:
    """A module of joint training, and its first batch."""
    splits, text_encoder = read_splits(corpus, config.data.questions), load_text_encoder(config.text_encoder)
    torch.manual_seed(0)
    vocabulary, paraformer, units = start_paraformer(config, splits[0], text_encoder, None)
    data = SpeechDataModule(*splits, make_encoders(vocabulary, config, units, paraformer), config.data, 0)
    batch = next(data.train_set[cuts] for cuts in data._train_sampler)
    return JointModule(paraformer, vocabulary, text_encoder, config, splits), batch


def asked_in(batch: SpeechBatch) -> Tensor:
    assert batch.question_rows is not None
    return batch.question_rows >= 0


def unit(*sizes: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*sizes), dim=-1)


def test_swapping_both_sides_changes_no_loss():
    torch.manual_seed(0)
    speech, asked, questions, passages = unit(3, 8), unit(3, 8), unit(6, 8), unit(6, 8)
    own, groups = torch.tensor([4, 0, 2]), torch.tensor([0, 1, 1, 2, 0, 3])
    loss = bank_nll(speech, own, questions, passages, 0.2, groups, asked)
    assert bank_nll(asked, own, passages, questions, 0.2, groups, speech).item() == pytest.approx(loss.item())
    total = 0.0
    for queries, candidates, texts in ((speech, asked, questions), (asked, speech, passages)):
        for row, at in enumerate(own.tolist()):  # by hand: candidates of its own group, but for itself, are left out
            wrong = [n for n in range(6) if n not in own.tolist() and groups[n] != groups[at]]
            wrong_speech = [n for n in range(3) if groups[own[n]] != groups[at] or n == row]
            scores = torch.cat([candidates[wrong_speech] @ queries[row], texts[wrong] @ queries[row]]) / 0.2
            total += scores.logsumexp(0).item() - (candidates[row] @ queries[row]).item() / 0.2
    assert loss.item() == pytest.approx(total / 6, rel=1e-5)


def test_identical_audio_makes_both_directions_equal(spoken: TrainingConfig, spoken_corpus: Path, tmp_path: Path):
    folder = shutil.copytree(spoken_corpus, tmp_path / "sets")
    for name in ("train", "dev"):
        passages = read_split(folder / name).utterances
        write_data_dir(folder / name / "questions", [replace(u, id=u.id.replace("p", "q")) for u in passages])
    module, batch = make(spoken, folder)
    module.eval()
    found = module.forward_pass(batch)
    asked = asked_in(batch)[asked_in(batch) | (batch.pair_rows >= 0)]
    passages, questions, rows = found.vectors[~asked], found.vectors[asked], batch.pair_rows[batch.pair_rows >= 0]
    assert torch.allclose(passages, questions, atol=1e-5)
    bank = module.bank
    to_passages = bank_nll(passages, rows, bank.questions, bank.passages, 0.1, bank.groups, questions)
    to_questions = bank_nll(questions, rows, bank.passages, bank.questions, 0.1, bank.groups, passages)
    assert module.contrastive(found).item() == pytest.approx(to_passages.item(), rel=1e-5)
    assert to_passages.item() == pytest.approx(to_questions.item(), rel=1e-5)


def test_a_batch_brings_its_recorded_questions(spoken: TrainingConfig, spoken_corpus: Path):
    _, batch = make(spoken, spoken_corpus)
    count = len(batch.ids) // 2
    assert batch.question_rows is not None and count > 1
    assert batch.ids[count:] == [f"question {i.replace('p', 'q')}" for i in batch.ids[:count]]
    assert batch.pair_rows.tolist() == [*batch.pair_rows[:count].tolist(), *[-1] * count]
    assert batch.question_rows.tolist() == [*[-1] * count, *batch.pair_rows[:count].tolist()]
    targets = [row[:n].tolist() for row, n in zip(batch.targets, batch.target_lengths)]
    assert targets[count:] == [target[::-1] for target in targets[:count]]  # their words in reverse order


@pytest.mark.parametrize("negatives", ["bank", "batch"])
def test_questions_have_recogniser_losses_and_codes(spoken: TrainingConfig, spoken_corpus: Path, negatives):
    config = replace(spoken, loss=replace(spoken.loss, negatives=negatives))
    module, batch = make(config, spoken_corpus)
    output = module.paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
    asked, parts = asked_in(batch), asr_losses(output, batch, config.loss)
    sides = [module._vectors(output.logits[of], output.token_lengths[of], side)  # type: ignore[arg-type]
             for of, side in ((~asked, "passage"), (asked, "question"))]  # fmt: skip
    rows, bank = batch.pair_rows[~asked], module.bank
    if negatives == "bank":
        nll = bank_nll(sides[0], rows, bank.questions, bank.passages, 0.1, bank.groups, sides[1])
    else:
        nll = batch_nll(sides[0], sides[1], 0.1, bank.groups[rows])
    loss = 0.5 * parts["ce"] + 0.3 * parts["mae"] + 0.2 * nll
    assert module.training_step(batch, 0).item() == pytest.approx(loss.item(), rel=1e-4)
    parted = forward_in_parts(module.forward_pass, [batch])
    assert module.contrastive(parted).item() == pytest.approx(nll.item(), rel=1e-4)


def test_recordings_stand_in_for_typed_questions():
    meter, eye = RecallMeter(), torch.eye(3)
    meter.add(torch.cat([eye[:2], eye[[1]]]), torch.tensor([0, 1, -1]), torch.tensor([-1, -1, 0]))  # one asked aloud
    meter.add(eye[2:], torch.tensor([2]))
    assert meter.recall_at_1(eye, torch.arange(3)) == pytest.approx(2 / 3)  # the recorded one finds another passage
    meter.add(eye, torch.arange(3))
    assert meter.recall_at_1(eye, torch.arange(3)) == 1.0


def test_joint_training_takes_spoken_questions(
    spoken: TrainingConfig, spoken_corpus: Path, tone_model: Path, tmp_path: Path
):
    short = replace(spoken, optimizer=OptimizerConfig(5e-4, 2, 4), trainer=TrainerConfig(2))
    for name, train in (("joint", train_joint), ("parabge", train_parabge)):
        train(short, spoken_corpus, tmp_path / name, tone_model)
        record = read_training(tmp_path / name)
        assert record is not None and record.questions == "spoken"
        assert record.curve[-1].examples % 2 == 0  # passages and as many questions


def test_baselines_encode_both_sides(spoken: TrainingConfig, spoken_corpus: Path):
    splits, text_encoder = read_splits(spoken_corpus, "spoken"), load_text_encoder(spoken.text_encoder)
    config = replace(spoken, loss=replace(spoken.loss, negatives="batch"))
    data = SpeechDataModule(*splits, NO_TARGETS, config.data, 0)
    batch = next(data.train_set[cuts] for cuts in data._train_sampler)
    torch.manual_seed(0)
    parabge = ParaBgeModule(ParaBge(config.model, 32), text_encoder, config, splits)
    vectors, asked = parabge.model(batch.features, batch.frame_lengths), asked_in(batch)
    expected = batch_nll(vectors[~asked], vectors[asked], 0.1)
    assert parabge.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)
    speechdpr = SpeechDprModule(SpeechDpr(config.model, 32), text_encoder, config, splits)
    vectors = speechdpr.model.speech(batch.features, batch.frame_lengths)
    texts = text_encoder.encode([data.train_set.utterances[i].text or "" for i in batch.ids[: len(batch.ids) // 2]])
    questions = text_encoder.encode([splits[0].pairs[row].question for row in batch.pair_rows[~asked]], "question")
    expected = score_distillation(vectors[asked] @ vectors[~asked].T, questions @ texts.T, 0.1)
    assert speechdpr.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-4)


def test_post_training_takes_spoken_questions(spoken: TrainingConfig, spoken_corpus: Path):
    joint, batch = make(spoken, spoken_corpus)
    splits = read_splits(spoken_corpus, "spoken")
    module = PostModule(joint.paraformer, joint.vocabulary, joint.text_encoder, spoken, splits).eval()
    vectors, asked = module._speech(batch), asked_in(batch)
    expected = batch_nll(vectors[~asked], vectors[asked], 0.1)
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_typed_training_reads_no_recordings(spoken_corpus: Path, tone_corpus: Path, tmp_path: Path):
    typed, recorded = (read_split(spoken_corpus / "train", way) for way in ("typed", "spoken"))  # type: ignore[arg-type]
    assert typed.questions == [] and len(recorded.questions) == 24 and len(recorded.speech) == 48
    assert data_digest(typed) != data_digest(recorded)
    with pytest.raises(InputError, match=r"questions/wav.scp: no such file: for typed questions, set data.questions"):
        read_split(tone_corpus / "train", "spoken")


def test_long_recorded_questions_are_left_out(spoken: TrainingConfig, spoken_corpus: Path, caplog):
    splits = read_splits(spoken_corpus, "spoken")
    long = [replace(question, end_s=60.0) for question in splits[0].questions[:2]]
    train = replace(splits[0], questions=[*long, *splits[0].questions[2:]])
    data = SpeechDataModule(train, splits[1], NO_TARGETS, spoken.data, 0)
    assert "2 of 24 spoken questions are longer than 30 s and left out" in caplog.text
    assert {row for rows in data.train_set.split.pairs_of.values() for row in rows} == set(range(2, 24))
