"""Running a stage: schedule, best states, interruptions and what is left of them."""

import csv
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from clsr.checkpoint import load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import LossConfig, OptimizerConfig, SamplerConfig, TrainerConfig, TrainingConfig
from clsr.errors import InputError
from clsr.settings import read_settings, write_yaml
from clsr.training.asr import AsrModule, train_asr
from clsr.training.fit import Origin, claim, optimizers, read_rows, steps_between


@pytest.fixture
def short(tiny_settings: TrainingConfig) -> TrainingConfig:
    """Eight steps, measured every two."""
    optimizer = OptimizerConfig(learning_rate=5e-3, warmup_steps=4, max_steps=8)
    return replace(tiny_settings, optimizer=optimizer, trainer=TrainerConfig(validate_every=2))


DIVERGED = {
    "loss": "the loss is no number any more at step 6",
    "weights": "the weights are no numbers any more",
    "firing": r"no tokens are fired any more \(the firing weights of an utterance are 0\)",
}


@pytest.mark.parametrize("broken", DIVERGED)
def test_a_loss_that_is_no_number_ends_training(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
):
    step = AsrModule.training_step

    def diverge(self: AsrModule, *arguments: object) -> torch.Tensor:
        loss = step(self, *arguments)
        if self.global_step == 5 and broken != "loss":
            with torch.no_grad():
                self.paraformer.predictor.cif_output.bias.fill_(torch.nan if broken == "weights" else -1e4)
        return loss * torch.nan if self.global_step == 5 and broken == "loss" else loss

    monkeypatch.setattr(AsrModule, "training_step", diverge)
    with pytest.raises(
        InputError, match=f"{DIVERGED[broken]}.* \\(last finite loss: .* at step [56]; learning rate 0.00"
    ) as error:
        train_asr(short, tone_corpus, tmp_path / "out")
    assert "lower optimizer.learning_rate" in str(error.value)
    state = torch.load(tmp_path / "out" / "state" / "last.ckpt", weights_only=False)["state_dict"]
    assert all(torch.isfinite(values).all() for values in state.values() if values.is_floating_point())


@pytest.mark.parametrize("max_steps", [1, 7, 20, 1000, 5400])
@pytest.mark.parametrize("validate_every", [1, 2, 9, 600])
def test_training_ends_with_a_measurement(max_steps: int, validate_every: int):
    between = steps_between(max_steps, validate_every)
    measurements = max_steps // between
    assert between <= max(validate_every, 1)
    assert max_steps - measurements * between < measurements  # nothing, or next to nothing, comes after it


@pytest.fixture
def steps_taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of the training steps taken."""
    taken: list[int] = []
    step = AsrModule.training_step

    def count(self: AsrModule, *arguments: object) -> torch.Tensor:
        taken.append(self.global_step)
        return step(self, *arguments)

    monkeypatch.setattr(AsrModule, "training_step", count)
    handler = signal.getsignal(signal.SIGINT)
    yield taken
    signal.signal(signal.SIGINT, handler)  # Lightning ignores further signals once interrupted


def interrupt(monkeypatch: pytest.MonkeyPatch, at_step: int, error: BaseException) -> None:
    """Let the training step of a number fail once."""
    step, failed = AsrModule.training_step, []

    def fail(self: AsrModule, *arguments: object) -> torch.Tensor:
        if self.global_step == at_step and not failed:
            failed.append(True)
            raise error
        return step(self, *arguments)

    monkeypatch.setattr(AsrModule, "training_step", fail)


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "csv" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def measured_steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in csv_rows(folder) if row["dev/wer"]]


def test_the_learning_rate_warms_up_and_decays():
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    made = optimizers(module, TrainingConfig(optimizer=OptimizerConfig(2.0, warmup_steps=10, max_steps=110)))  # type: ignore[arg-type]
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    assert [parameter.shape for group in optimizer.param_groups for parameter in group["params"]] == [(2, 2)]
    rates = []
    for _ in range(120):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[60] == pytest.approx(2 * (0.01 + 0.99 / 2))  # half way down
    assert rates[110:] == pytest.approx([0.02] * 10)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("power cut")])
def test_an_interrupted_run_goes_on_where_it_stopped(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, steps_taken: list[int], monkeypatch, error: BaseException
):
    interrupt(monkeypatch, 5, error)
    with pytest.raises(type(error)):
        train_asr(short, tone_corpus, tmp_path / "run")
    assert steps_taken == [0, 1, 2, 3, 4]
    assert not (tmp_path / "run" / "meta.json").exists()  # no checkpoint yet
    steps_taken.clear()
    train_asr(short, tone_corpus, tmp_path / "run")
    assert steps_taken == [4, 5, 6, 7]  # the last measurement was after step 4
    assert measured_steps(tmp_path / "run") == [1, 3, 5, 7]  # counted from 0; the first two from before
    assert read_meta(tmp_path / "run").kind == "asr"


def test_a_run_that_got_worse_resumes_too(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, steps_taken: list[int], monkeypatch: pytest.MonkeyPatch
):
    rates = {2: 0.25, 4: 0.5, 6: 0.75, 8: 1.0}
    measure = lambda self: self.log("dev/wer", rates[self.global_step])  # noqa: E731
    monkeypatch.setattr(AsrModule, "on_validation_epoch_end", measure)
    interrupt(monkeypatch, 7, RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        train_asr(short, tone_corpus, tmp_path)
    steps_taken.clear()
    train_asr(short, tone_corpus, tmp_path)
    assert steps_taken == [6, 7]
    assert measured_steps(tmp_path) == [1, 3, 5, 7]
    assert read_meta(tmp_path).metrics == {"dev/wer": 0.25}
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["last.ckpt", "step-2.ckpt"]


def test_a_finished_run_is_not_run_again(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, steps_taken: list[int]
):
    train_asr(short, tone_corpus, tmp_path)
    weights, metrics = (tmp_path / "model.safetensors").read_bytes(), read_meta(tmp_path).metrics
    steps_taken.clear()
    train_asr(short, tone_corpus, tmp_path)
    assert steps_taken == []
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert read_meta(tmp_path).metrics == metrics
    assert measured_steps(tmp_path) == [1, 3, 5, 7]


def test_a_run_refuses_other_settings(short: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    train_asr(short, tone_corpus, tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(InputError, match=f"{tmp_path}: holds a run with other settings: name another --output"):
        train_asr(replace(short, seed=1), tone_corpus, tmp_path)
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_a_run_refuses_other_data_or_start(short: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path):
    train_asr(short, tone_corpus, tmp_path / "run")
    with pytest.raises(InputError, match=f"^{tmp_path}/run: holds a run with other start: name another --output"):
        train_asr(short, tone_corpus, tmp_path / "run", start=tone_model)
    shutil.copytree(tone_corpus, tmp_path / "data")
    text = tmp_path / "data" / "train" / "passages" / "text"
    text.write_text(text.read_text().replace("red", "blue"))
    with pytest.raises(InputError, match="holds a run with other data"):
        train_asr(short, tmp_path / "data", tmp_path / "run")


def test_settings_may_change_before_anything_was_learnt(short: TrainingConfig, tmp_path: Path):
    claim(tmp_path / "run", short, Origin("a", "b", "c", ""))
    claim(tmp_path / "run", replace(short, seed=1), Origin("d", "e", "f", "g"))
    assert "seed: 1" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_place_that_cannot_be_written(short: TrainingConfig, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="run: cannot be written .*: name another --output"):
        claim(tmp_path / "file" / "run", short, Origin("", "", "", ""))


def states(folder: Path) -> dict[int, dict[str, torch.Tensor]]:
    """The states kept, by step."""
    found = {}
    for path in (folder / "state").glob("step-*.ckpt"):
        state = torch.load(path, weights_only=False)
        found[state["global_step"]] = {name.removeprefix("paraformer."): w for name, w in state["state_dict"].items()}
    return found


def test_the_best_states_are_averaged(short: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    train_asr(replace(short, trainer=replace(short.trainer, average=3)), tone_corpus, tmp_path)
    kept = states(tmp_path)
    assert len(kept) == 3
    for name, weight in load_weights(tmp_path).items():
        mean = torch.stack([state[name].double() for state in kept.values()]).mean(0)
        assert torch.allclose(weight.double(), mean, atol=1e-6), name


def test_the_best_state_is_kept(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rates = iter([0.5, 0.25, 0.75, 1.0])
    monkeypatch.setattr(AsrModule, "on_validation_epoch_end", lambda self: self.log("dev/wer", next(rates)))
    train_asr(short, tone_corpus, tmp_path)
    (step, state), = states(tmp_path).items()  # fmt: skip
    assert step == 4
    assert read_meta(tmp_path).metrics == {"dev/wer": 0.25}
    for name, weight in load_weights(tmp_path).items():
        assert torch.equal(weight, state[name])


def test_training_stops_when_nothing_improves(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rates = iter([0.5, 0.25, 0.3, 0.25, 0.1])
    monkeypatch.setattr(AsrModule, "on_validation_epoch_end", lambda self: self.log("dev/wer", next(rates)))
    config = replace(short, optimizer=replace(short.optimizer, max_steps=100), trainer=TrainerConfig(2, patience=2))
    train_asr(config, tone_corpus, tmp_path)
    assert measured_steps(tmp_path) == [1, 3, 5, 7]
    assert read_meta(tmp_path).metrics == {"dev/wer": 0.25}


def test_gradients_are_clipped(short: TrainingConfig, tone_corpus: Path, tmp_path: Path, monkeypatch):
    before, after = [], []

    def norm(module: AsrModule) -> float:
        return torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm().item()

    monkeypatch.setattr(AsrModule, "on_before_optimizer_step", lambda self, _: before.append(norm(self)))
    monkeypatch.setattr(AsrModule, "on_train_batch_end", lambda self, *_: after.append(norm(self)))
    train_asr(replace(short, optimizer=replace(short.optimizer, clip_norm=0.1)), tone_corpus, tmp_path)
    assert min(before) > 0.1
    assert after == pytest.approx([0.1] * 8, rel=1e-3)


def test_log_rows_end_where_training_resumes(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    assert read_rows(path, 50) == []
    path.write_text("dev/wer,step,train/ce\n,49,3.5\n0.5,49,\n,99,2.5\n")
    assert read_rows(path, 50) == [
        {"dev/wer": "", "step": "49", "train/ce": "3.5"},
        {"dev/wer": "0.5", "step": "49", "train/ce": ""},
    ]
    assert read_rows(path, 49) == []
    assert len(read_rows(path, 100)) == 3


def test_training_is_in_training_mode_after_measurements_too(short, tone_corpus: Path, tmp_path: Path, monkeypatch):
    modes = []
    step = AsrModule.training_step

    def note(self: AsrModule, *arguments: object) -> torch.Tensor:
        modes.append(self.paraformer.training)
        return step(self, *arguments)

    monkeypatch.setattr(AsrModule, "training_step", note)
    train_asr(short, tone_corpus, tmp_path)
    assert modes == [True] * 8  # sampler, dropout and auxiliary CTC depend on it


def test_accumulated_gradients_are_a_mean_over_batches(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def gradients(config: TrainingConfig, output: Path) -> list[dict[str, torch.Tensor]]:
        found: list[dict[str, torch.Tensor]] = []
        keep = lambda self, _: found.append({n: p.grad.clone() for n, p in self.named_parameters()})  # noqa: E731
        monkeypatch.setattr(AsrModule, "on_before_optimizer_step", keep)
        train_asr(config, tone_corpus, output)
        return found

    still = replace(short, optimizer=replace(short.optimizer, learning_rate=1e-12, clip_norm=1e6))  # nothing is learnt
    plain = gradients(still, tmp_path / "plain")
    pairs = gradients(replace(still, trainer=replace(still.trainer, accumulate=2)), tmp_path / "pairs")
    assert len(plain) == len(pairs) == 8
    for name, gradient in pairs[0].items():
        assert torch.allclose(gradient, (plain[0][name] + plain[1][name]) / 2, atol=1e-6), name
    assert measured_steps(tmp_path / "pairs") == [1, 3, 5, 7]  # steps are counted, not batches


@pytest.mark.slow
def test_accumulated_steps_count_all_batches_and_resume(
    short: TrainingConfig, tone_corpus: Path, tmp_path: Path, steps_taken: list[int], monkeypatch: pytest.MonkeyPatch
):
    """An epoch of three batches is dealt out as four, so that no step at its end has fewer."""
    config = replace(short, trainer=TrainerConfig(2, accumulate=4), data=replace(short.data, batch_s=12.0))
    train_asr(config, tone_corpus, tmp_path / "whole")
    assert steps_taken == [step for step in range(8) for _ in range(4)]
    steps_taken.clear()
    interrupt(monkeypatch, 5, RuntimeError("power cut"))
    with pytest.raises(RuntimeError, match="power cut"):
        train_asr(config, tone_corpus, tmp_path / "cut")
    train_asr(config, tone_corpus, tmp_path / "cut")
    assert measured_steps(tmp_path / "cut") == measured_steps(tmp_path / "whole")
    cut, whole = (load_weights(tmp_path / name) for name in ("cut", "whole"))
    assert all(torch.equal(cut[name], whole[name]) for name in whole)


def test_more_devices_than_there_are(short: TrainingConfig, tone_corpus: Path, tmp_path: Path, monkeypatch):
    def refuse(**_: object) -> None:
        raise MisconfigurationException("You requested gpu: [0, 1]\n But your machine only has: [0]")

    monkeypatch.setattr("pytorch_lightning.Trainer", refuse)
    config = replace(short, trainer=replace(short.trainer, devices=2))
    with pytest.raises(
        InputError, match=r"trainer.devices 2: You requested gpu: \[0, 1\] But your machine only has: \[0\]"
    ):
        train_asr(config, tone_corpus, tmp_path)


def test_a_folder_that_was_moved(short: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    train_asr(short, tone_corpus, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(InputError, match="there: no measured state is left, as after moving the folder"):
        train_asr(short, tone_corpus, tmp_path / "there")


def test_bfloat16_learns_too(tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    config = replace(tiny_settings, trainer=replace(tiny_settings.trainer, precision="bf16-mixed"))
    train_asr(config, tone_corpus, tmp_path)
    assert read_meta(tmp_path).metrics == {"dev/wer": 0.0}
    assert {weight.dtype for weight in load_weights(tmp_path).values()} == {torch.float32}


@pytest.mark.slow
def test_killed_training_ends_with_the_same_weights(tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path):
    """All that is drawn by chance is on: dropout, sampler, noise and the candidates of MWER."""
    config = replace(
        tiny_settings,
        loss=LossConfig(mwer_weight=0.1, mwer_draw="sample"),
        data=replace(tiny_settings.data, noise_probability=0.5),
        optimizer=replace(tiny_settings.optimizer, max_steps=60),
        trainer=TrainerConfig(validate_every=6, threads=1),
    )
    config.model = replace(
        config.model,
        encoder=replace(config.model.encoder, dropout=0.1),
        sampler=SamplerConfig(ratio=0.5),
    )
    write_yaml(tmp_path / "settings.yaml", config)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_asr(read_settings(TrainingConfig, [tmp_path / "settings.yaml"]), tone_corpus, whole)
    chance, kills = random.Random(0), 0
    while not (killed / "meta.json").exists():
        command = [sys.executable, "-m", "clsr.cli.main", "train-asr", "settings.yaml"]
        process = subprocess.Popen(
            [*command, "--data", tone_corpus, "--output", killed], cwd=tmp_path, stderr=subprocess.DEVNULL
        )
        written = killed / "state" / "last.ckpt"
        before = written.stat().st_mtime_ns if written.exists() else 0
        while kills < 2 and process.poll() is None:
            if written.exists() and written.stat().st_mtime_ns != before:
                time.sleep(chance.uniform(0, 0.5))  # until some later step
                process.kill()
                kills += process.wait() == -signal.SIGKILL
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills > 0
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert read_meta(killed).metrics == read_meta(whole).metrics
    once, again = (
        [(row["step"], row["dev/wer"]) for row in csv_rows(folder) if row["dev/wer"]] for folder in (whole, killed)
    )
    # Killed between writing the state and writing the row, it lacks the row.
    assert set(again) <= set(once) and len(again) == len(set(again)) >= len(once) - kills
