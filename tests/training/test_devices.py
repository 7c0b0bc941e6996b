"""Two processes with uneven shares learn what one learns from all: same gradients, same measures, nobody waits."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clsr.checkpoint import load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.settings import write_yaml
from clsr.training.devices import gather_items, gather_rows, share

SECONDS = 180  # until processes that wait for each other are ended

# Runs in every process; keeps the gradients of the first step and what each process trained on.
SCRIPT = """
import sys
from pathlib import Path

import torch

from clsr.config import TrainingConfig
from clsr.settings import read_settings
from clsr.training.joint import JointModule, train_joint

settings, data, output, start = map(Path, sys.argv[1:])
torch.set_num_threads(1)


def keep(self, optimizer):
    if self.global_step == 0:
        gradients = {name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None}
        torch.save(gradients, f"{settings}.gradients-{self.global_rank}")


step = JointModule.training_step


def note(self, batch, number):
    with open(f"{settings}.ids-{self.global_rank}", "a") as file:
        file.write(f"{self.current_epoch} {' '.join(batch.ids)}\\n")
    return step(self, batch, number)


JointModule.on_before_optimizer_step = keep
JointModule.training_step = note
train_joint(read_settings(TrainingConfig, [settings]), data, output, start)
"""


def train(config: TrainingConfig, corpus: Path, start: Path, folder: Path) -> dict[str, Tensor]:
    """Train in as many processes as there are devices; return the gradients of the first step."""
    folder.mkdir()
    write_yaml(folder / "settings", config)
    (folder / "train.py").write_text(SCRIPT)
    command = [sys.executable, folder / "train.py", folder / "settings", corpus, folder / "out", start]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    gradients = [torch.load(path) for path in sorted(folder.glob("settings.gradients-*"))]
    assert len(gradients) == config.trainer.devices
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[-1][name]), name  # as averaged, on each device
    return gradients[0]


def trained_on(folder: Path, epoch: int) -> list[list[str]]:
    """The ids that each process trained on in an epoch, sorted."""
    ids = []
    for path in sorted(folder.glob("settings.ids-*")):
        lines = [line.split() for line in path.read_text().splitlines()]
        ids.append(sorted(i for number, *of_batch in lines if int(number) == epoch for i in of_batch))
    return ids


def settings(tiny: TrainingConfig, loss: LossConfig) -> TrainingConfig:
    """Three steps, each over all utterances, with a passage projection to learn too."""
    return replace(
        tiny,
        model=replace(tiny.model, adaptor=replace(tiny.model.adaptor, passage_projection=True)),
        loss=loss,
        data=replace(tiny.data, batch_s=100.0, buckets=1),
        optimizer=OptimizerConfig(5e-4, 2, 3, clip_norm=1e6),
        trainer=TrainerConfig(validate_every=3),
    )


def in_two(config: TrainingConfig) -> TrainingConfig:
    """The same in two processes, one of which gets about twice as much."""
    return replace(config, data=replace(config.data, batch_s=20.0), trainer=replace(config.trainer, devices=2))


@pytest.mark.slow
@pytest.mark.parametrize(("negatives", "alone"), [("bank", "bank"), ("gathered", "batch")])
def test_two_processes_are_one(tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path,
                               negatives, alone):  # fmt: skip
    loss = LossConfig(mae_weight=0.3, nll_weight=0.3, temperature=0.1, negatives=negatives)
    config = settings(tiny_settings, loss)
    whole = train(replace(config, loss=replace(loss, negatives=alone)), tone_corpus, tone_model, tmp_path / "one")
    found = train(in_two(config), tone_corpus, tone_model, tmp_path / "two")
    assert set(found) == set(whole) and "passage_projection.weight" in found
    for name, gradient in whole.items():
        assert (found[name] - gradient).abs().max() <= 1e-5, name
        assert gradient.abs().max() > 1e-5 or "linear_q_k_v" in name, name
    for epoch in range(3):
        (everything,), (first, second) = trained_on(tmp_path / "one", epoch), trained_on(tmp_path / "two", epoch)
        assert sorted(first + second) == everything and len(everything) == 24
        assert len(first) != len(second)
    one, two = (load_weights(tmp_path / name / "out") for name in ("one", "two"))
    for name, weight in one.items():
        assert torch.allclose(two[name], weight, atol=1e-4), name
    measured = [read_meta(tmp_path / name / "out").metrics["dev/recall@1"] for name in ("one", "two")]
    assert measured[0] == pytest.approx(measured[1])
    assert (tmp_path / "two" / "out" / "meta.json").exists()


@pytest.mark.slow
def test_a_device_without_questions_blocks_nobody(
    tiny_settings: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path
):
    shutil.copytree(tone_corpus, tmp_path / "data")
    kept = ("q14", "q00", "q17")  # of passages that all come to the first process in the first epoch
    for name in ("qrels", "questions/text"):
        path = tmp_path / "data" / "train" / name
        path.write_text("".join(line for line in path.open() if line.startswith(kept)))
    config = settings(tiny_settings, LossConfig(mae_weight=0.3, nll_weight=0.3, temperature=0.1))
    whole = train(config, tmp_path / "data", tone_model, tmp_path / "one")
    found = train(in_two(config), tmp_path / "data", tone_model, tmp_path / "two")
    of_first, of_second = trained_on(tmp_path / "two", 0)
    assert {"p14", "p00", "p17"} <= set(of_first) and of_second
    for name, gradient in whole.items():
        assert (found[name] - gradient).abs().max() <= 1e-5, name


def test_a_single_process_keeps_what_it_has():
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_rows(rows) is rows
    assert gather_items([1, 2]) == [1, 2]
    assert share(torch.tensor(5)) == 1.0
