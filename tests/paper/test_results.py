import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clsr.errors import InputError
from clsr.paper.results import CLEAN, collect, collect_longform, find_files, noise_families

Write = Callable[..., Path]


def test_reports_at_any_depth_are_grouped_by_tags(tmp_path: Path, write_result: Write) -> None:
    for seed in ("10", "2"):
        write_result(tmp_path / "a" / seed, {"dataset": "mini", "seed": seed}, {"clsr": 0.5})
    write_result(tmp_path / "b", {"dataset": "librisqa", "seed": "2"}, {"clsr": 0.5})
    first, second = collect([tmp_path / "a", tmp_path / "b" / "report.json"])
    assert (first.tags, second.tags) == ({"dataset": "librisqa"}, {"dataset": "mini"})  # the paper's come first
    assert second.seeds == list(second.rows["clsr"]) == ["2", "10"]


def test_copies_of_a_report_count_once(tmp_path: Path, write_result: Write) -> None:
    file = write_result(tmp_path / "measures" / "test", {"dataset": "mini"}, {"clsr": 0.5})
    shutil.copy(file, tmp_path)
    file.with_name("rankings.jsonl").write_text("")
    assert find_files([tmp_path, tmp_path / "measures"], "report.json") == [file]
    assert len(collect([tmp_path])) == 1


def test_two_reports_with_the_same_tags_are_refused(tmp_path: Path, write_result: Write) -> None:
    tags = {"dataset": "mini", "seed": "1"}
    write_result(tmp_path / "a", tags, {"clsr": 0.5})
    write_result(tmp_path / "b", tags, {"clsr": 0.75})
    with pytest.raises(InputError, match=r"a/report.json and .*b/report.json: both have row clsr under the same tags"):
        collect([tmp_path])


def test_systems_measured_one_after_the_other_stand_together(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path / "a", {"dataset": "mini", "snr_db": "clean"}, {"clsr": 0.5})
    write_result(tmp_path / "b", {"dataset": "mini"}, {"whisper-bge": 0.75})
    (condition,) = collect([tmp_path])  # without noise is clean
    assert sorted(condition.rows) == ["clsr", "whisper-bge"]


def test_an_untagged_report_goes_by_its_set(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path, {}, {"clsr": 0.5})
    assert collect([tmp_path])[0].label == "data/test"


def test_differences_are_there_without_rankings(tmp_path: Path, write_result: Write) -> None:
    difference = {"a": "clsr-soft", "b": "cascade", "direction": "q2c", "metric": "recall@1"}
    difference |= {"value": 0.25, "low": 0.1, "high": 0.4}
    write_result(tmp_path, {"dataset": "mini"}, {"clsr-soft": 0.75, "cascade": 0.5}, differences=[difference])
    (condition,) = collect([tmp_path])
    assert condition.gains == {("clsr-soft", "cascade"): {"": (0.25, 0.1, 0.4)}}


def test_differences_between_reports_come_from_their_rankings(tmp_path: Path, write_result: Write) -> None:
    for name, right in (("clsr-soft", 4), ("whisper-bge", 3)):
        folder = write_result(tmp_path / name, {"dataset": "mini"}, {name: right / 4}).parent
        lines = [
            {"row": name, "direction": "q2c", "id": f"q{i}", "relevant_rank": 1, "top": [],
             "metrics": dict.fromkeys(("recall@1", "recall@5", "recall@10", "mrr@10"), float(i < right))}
            for i in range(4)
        ]  # fmt: skip
        (folder / "rankings.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (gain,) = collect([tmp_path])[0].gains["clsr-soft", "whisper-bge"].values()
    assert (gain.value, gain.low) == (0.25, 0.0) and gain.high in (0.5, 0.75)


@pytest.mark.parametrize(
    ("tags", "differences", "message"),
    [
        ({"snr_db": "loud"}, [], "report.json: tag snr_db=loud: neither a number of decibels nor 'clean'"),
        ({}, [{"a": "x"}], "report.json: not a whole report"),
    ],
)
def test_faults_name_their_file(
    tmp_path: Path, write_result: Write, tags: dict, differences: list, message: str
) -> None:
    write_result(tmp_path, tags, {"clsr": 0.5}, differences=differences)
    with pytest.raises(InputError, match=message):
        collect([tmp_path])


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such folder"):
        collect([tmp_path / "absent"])


def test_noise_is_told_apart_by_its_place(tmp_path: Path, write_result: Write) -> None:
    tags = {"dataset": "mini", "split": "test"}
    noises = [{}, {"seed": "0", "snr_db": "10"}, {"snr_db": "10.0", "seed": "1"}, {"snr_db": "0"},
              {"question_snr_db": "clean"},
              {"question_snr_db": "5"}, {"question_snr_db": "5", "snr_db": "10"}, {"snr_db": "0", "step": "9"},
              {"dataset": "quiet"}]  # fmt: skip
    for number, noise in enumerate(noises):
        write_result(tmp_path / str(number), tags | noise, {"clsr": number / 10})
    passages, questions = noise_families(collect([tmp_path]))
    assert (passages.noisy, list(passages.by_ratio)) == ("passages", [0, 10, CLEAN])
    assert passages.by_ratio[10].seeds == ["0", "1"]
    assert (questions.noisy, list(questions.by_ratio)) == ("questions", [5, CLEAN])
    assert questions.by_ratio[CLEAN].tags["question_snr_db"] == "clean"  # not the one of typed questions


def test_long_recordings_are_read_by_tags_and_row(tmp_path: Path, write_longform: Write) -> None:
    for seed in ("0", "1"):
        write_longform(tmp_path / seed, {"dataset": "slue_sqa5", "seed": seed})
    ((tags, (rows, hardware)),) = collect_longform([tmp_path]).items()
    assert (tags, list(rows)) == ((("dataset", "slue_sqa5"),), ["whole recording", "clsr-soft top 1, all"])
    assert [row.seconds for row in rows["clsr-soft top 1, all"]] == [12.5, 12.5]
    assert hardware == {"2 cores"}
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    assert len(collect_longform([tmp_path])) == 1  # a copy
    write_longform(tmp_path / "3", {"dataset": "slue_sqa5", "seed": "1"}, commit="other")
    with pytest.raises(InputError, match=r"1/longform.json and .*3/longform.json: have the same tags"):
        collect_longform([tmp_path])


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "other"}', '{"kind": "longform", "tags": {}, "rows": [{}]}'])
def test_a_damaged_report_on_long_recordings_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "longform.json").write_text(content)
    with pytest.raises(InputError, match="longform.json: not a whole report on long recordings"):
        collect_longform([tmp_path])
