"""Records of trainings, beside checkpoints: what is read back, and what a folder without one is."""

import json
from pathlib import Path

import pytest

from clsr.checkpoint_folder import Meta
from clsr.errors import InputError
from clsr.training_record import Cost, CurvePoint, TrainingRecord, begin_record, read_training, write_training

RISING = [CurvePoint(10, 0.25, 1.5, 40), CurvePoint(20, 0.75, 3.0, 80), CurvePoint(30, 0.5, 4.5, 120)]


def test_a_record_is_read_as_written(tmp_path: Path) -> None:
    record = TrainingRecord("release", Cost(5, 2.0, 7), "dev/recall@1", "spoken", True, RISING)
    write_training(tmp_path, record)
    assert read_training(tmp_path) == record
    assert begin_record(tmp_path) == TrainingRecord("release", Cost(35, 6.5, 127))
    assert begin_record(None) == TrainingRecord("nothing")


def test_the_best_point_follows_the_metric() -> None:
    for metric, step in (("dev/recall@1", 20), ("dev/wer", 10), ("dev/ce", 10)):
        best = TrainingRecord("nothing", metric=metric, curve=RISING).best
        assert best is not None and best.step == step
    assert TrainingRecord("nothing").best is None


@pytest.mark.parametrize("text", ["{", "[]", '{"start": "moon", "before": {}, "curve": []}', '{"start": "nothing"}'])
def test_a_damaged_record_gives_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(InputError, match=r"training.json: damaged .*: copy the checkpoint again"):
        read_training(tmp_path)


def test_folders_without_record_are_told_apart(tmp_path: Path) -> None:
    assert read_training(tmp_path) == TrainingRecord("release")  # no checkpoint of ours at all
    own = Meta("asr", "", "")
    (tmp_path / "meta.json").write_text(own.to_json())
    assert read_training(tmp_path) is None
    assert begin_record(tmp_path) == TrainingRecord("checkpoint")
    for released in (Meta("release", ""  , ""), Meta("asr", "", "", untrained=True)):  # fmt: skip
        (tmp_path / "meta.json").write_text(json.dumps(json.loads(released.to_json())))
        assert begin_record(tmp_path) == TrainingRecord("release")
