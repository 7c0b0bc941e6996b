"""Learning curves: what is noted while a training runs, and when its patience ends it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clsr.config import OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.training.asr import AsrModule, train_asr
from clsr.training.fit import optimizers
from clsr.training_record import Cost, TrainingRecord, read_training

Measure = Callable[..., None]


@pytest.fixture
def patient(tiny_settings: TrainingConfig) -> TrainingConfig:
    """At most 100 steps, measured every two, until two measurements in a row have brought nothing."""
    optimizer = OptimizerConfig(learning_rate=5e-3, warmup_steps=4, max_steps=100)
    return replace(tiny_settings, optimizer=optimizer, trainer=TrainerConfig(validate_every=2, patience=2))


def measured_as(rates: dict[int, float]) -> Measure:
    """A measurement on the development set whose error rates are known, by step."""
    return lambda module: module.log("dev/wer", rates[module.global_step])


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches of all steps, filled while training."""
    sizes: list[int] = []
    step = AsrModule.training_step

    def note(self: AsrModule, batch, number: int):
        sizes.append(len(batch.ids))
        return step(self, batch, number)

    monkeypatch.setattr(AsrModule, "training_step", note)
    return sizes


def the_record(folder: Path) -> TrainingRecord:
    record = read_training(folder)
    assert record is not None
    return record


def test_patience_stops_at_the_right_check(
    patient: TrainingConfig, tone_corpus: Path, tmp_path: Path, batches: list[int], monkeypatch
):
    rates = {2: 0.5, 4: 0.25, 6: 0.3, 8: 0.2, 10: 0.2, 12: 0.4}  # equal is no improvement
    monkeypatch.setattr(AsrModule, "on_validation_epoch_end", measured_as(rates))
    train_asr(patient, tone_corpus, tmp_path)
    record = the_record(tmp_path)
    assert [(point.step, point.value) for point in record.curve] == [(s, pytest.approx(r)) for s, r in rates.items()]
    assert [point.examples for point in record.curve] == [sum(batches[:step]) for step in rates]
    seconds = [point.seconds for point in record.curve]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert record.converged and record.best is not None and record.best.step == 8
    assert (record.start, record.before, record.metric, record.questions) == ("nothing", Cost(), "dev/wer", "")
    train_asr(patient, tone_corpus, tmp_path)  # it had ended
    assert len(batches) == 12 and the_record(tmp_path) == record


def test_a_limit_of_steps_is_no_convergence(patient: TrainingConfig, tone_corpus: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(AsrModule, "on_validation_epoch_end", measured_as({2: 0.5, 4: 0.25}))
    train_asr(replace(patient, optimizer=replace(patient.optimizer, max_steps=4)), tone_corpus, tmp_path)
    assert not the_record(tmp_path).converged


def test_an_interrupted_curve_is_continued(
    patient: TrainingConfig, tone_corpus: Path, tmp_path: Path, batches: list[int], monkeypatch
):
    monkeypatch.setattr(AsrModule, "on_validation_epoch_end", measured_as({2: 0.5, 4: 0.4, 6: 0.45, 8: 0.5}))
    report, cut = AsrModule.report, [True]

    def fail(self: AsrModule, *arguments):
        if self.global_step == 5 and cut:
            cut.clear()
            raise RuntimeError("power cut")
        return report(self, *arguments)

    monkeypatch.setattr(AsrModule, "report", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        train_asr(patient, tone_corpus, tmp_path)
    done_twice = len(batches) - 4
    train_asr(patient, tone_corpus, tmp_path)
    record = the_record(tmp_path)
    assert [point.step for point in record.curve] == [2, 4, 6, 8]
    assert record.total.examples == sum(batches) - sum(batches[4 : 4 + done_twice])
    assert record.curve[2].seconds > record.curve[1].seconds


def test_costs_of_all_stages_add_up(patient: TrainingConfig, tone_corpus: Path, tone_model: Path, tmp_path: Path):
    short = replace(patient, optimizer=replace(patient.optimizer, max_steps=4), trainer=TrainerConfig(validate_every=2))
    train_asr(short, tone_corpus, tmp_path, start=tone_model)
    first, second = the_record(tone_model), the_record(tmp_path)
    assert second.start == first.start == "nothing"
    assert second.before == first.total and first.total.steps == 60
    assert second.total.steps == 64
    assert second.total.examples == first.total.examples + second.curve[-1].examples
    assert second.total.seconds == pytest.approx(first.total.seconds + second.curve[-1].seconds)


def test_a_constant_rate_stays(tiny_settings: TrainingConfig):
    import torch

    config = OptimizerConfig(2.0, warmup_steps=0, max_steps=10, schedule="constant")
    made = optimizers(torch.nn.Linear(2, 2), replace(tiny_settings, optimizer=config))  # type: ignore[arg-type]
    rates = []
    for _ in range(20):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates == [2.0] * 20
