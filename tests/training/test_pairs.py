"""Banks of questions and passages, and recall in training."""

from pathlib import Path

import pytest
import torch

from clsr.data.splits import Pair
from clsr.models.text_encoder import load_text_encoder
from clsr.training.pairs import PairBank, RecallMeter


def test_a_bank_encodes_texts_as_search_does(tiny_bert: Path):
    text_encoder = load_text_encoder(str(tiny_bert))
    text_encoder.prompts = {"question": "the ", "passage": ""}
    bank = PairBank([Pair("Where is it?", "Red, dog!", 0), Pair("sun", "Sun", 1)], text_encoder)
    assert torch.equal(bank.questions, text_encoder.encode(["the Where is it?", "the sun"]))
    assert torch.equal(bank.passages, text_encoder.encode(["red dog", "sun"]))  # as transcripts are written


def test_a_bank_moves_to_a_device_once(tiny_bert: Path):
    bank = PairBank([Pair("dog", "dog", 0)], load_text_encoder(str(tiny_bert)))
    assert bank.on(torch.device("cpu")) is bank
    moved = bank.on(torch.device("meta")).questions
    assert moved.is_meta and bank.passages.is_meta and bank.groups.is_meta
    assert bank.on(torch.device("meta")).questions is moved


def test_recall_counts_each_question_once():
    meter, groups = RecallMeter(), torch.arange(4)
    # Question 0 is answered in two voices, one of them well; 2 finds a passage of 0, and 3 has none.
    meter.add(torch.tensor([[0.2, 0.0, 0.9], [0.8, 0.1, 0.0]]), torch.tensor([0, 0]))
    meter.add(torch.tensor([[0.0, 0.5, 0.5], [0.1, 0.1, 0.1], [0.0, 0.9, 0.1]]), torch.tensor([2, -1, 1]))
    assert meter.recall_at_1(torch.cat([torch.eye(3), torch.ones(1, 3)]), groups) == pytest.approx(2 / 3)
    meter.add(torch.tensor([[0.0, 0.9, 0.1]]), torch.tensor([1]))
    assert meter.recall_at_1(torch.eye(3), groups[:3]) == 1.0  # nothing is left of what came before


def test_passages_without_question_are_distractors():
    meter = RecallMeter()
    meter.add(torch.tensor([[0.5, 0.0], [0.9, 0.0], [0.0, 0.9]]), torch.tensor([0, -1, 1]))
    assert meter.recall_at_1(torch.eye(2), torch.arange(2)) == 0.5


def test_all_questions_of_a_passage_are_drawn():
    meter = RecallMeter()
    meter.add(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 2]))  # row 1 is another question about row 0's
    questions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert meter.recall_at_1(questions, torch.tensor([0, 0, 2])) == pytest.approx(2 / 3)
