"""conf/paper.yaml is the paper: the settings that come of it, value by value."""

from pathlib import Path

import pytest

from clsr.config import TrainingConfig
from clsr.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
BEFORE = {name: [ROOT / "recipes" / name / "conf" / file for file in ("budget.yaml", "joint.yaml")]
          for name in ("mini", "squad_closed", "librisqa", "slue_sqa5", "drcd", "spoken_squad")}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_paper_settings_are_the_papers(name: str) -> None:
    config = read_settings(TrainingConfig, [*BEFORE[name], ROOT / "conf" / "paper.yaml"])
    model, loss, optimizer = config.model, config.loss, config.optimizer
    assert (loss.mae_weight, loss.nll_weight) == (pytest.approx(1 / 3), pytest.approx(1 / 3))  # alpha, beta
    assert (loss.mwer_weight, loss.ctc_weight, loss.label_smoothing, loss.nll_ramp_steps) == (1.0, 0.0, 0.0, 0)
    assert (loss.temperature, loss.negatives) == (1.0, "batch")
    assert (model.adaptor.codes, model.adaptor.input, model.adaptor.gamma) == ("straight_through", "logits", 0.1)
    assert (model.adaptor.passage_projection, model.cif.length_margin) == (False, 0)
    assert model.sampler.ratio > 0 and model.sampler.positions == "wrong"
    assert (optimizer.learning_rate, optimizer.schedule, optimizer.warmup_steps) == (5e-5, "constant", 0)
    assert optimizer.weight_decay == 0
    assert config.trainer.patience > 0  # to convergence


@pytest.mark.parametrize("name", ["mini", "squad_closed"])
def test_small_corpora_depart_in_the_rate_alone(name: str) -> None:
    paper = [*BEFORE[name], ROOT / "conf" / "paper.yaml"]
    config = read_settings(TrainingConfig, [*paper, ROOT / "recipes" / name / "conf" / "small_corpus.yaml"])
    assert config.optimizer.learning_rate == 3e-4
    config.optimizer.learning_rate = 5e-5
    assert config == read_settings(TrainingConfig, paper)
