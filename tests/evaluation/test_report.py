import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from clsr.errors import InputError
from clsr.evaluation import scores
from clsr.evaluation.report import compare, read_report, write_report
from clsr.evaluation.scores import ModelInfo, Report, ReportRow, differences, measure_recognition, measure_retrieval
from clsr.metrics.recall import METRICS, invert
from clsr.metrics.word_errors import WordErrors
from clsr.training_record import Cost, CurvePoint, TrainingRecord

REFERENCES = {"p0": "the cat sat", "p1": "dogs bark"}
HYPOTHESES = {"p0": "the bat sat", "p1": "dogs bark", "p9": "not in the set"}


@cache
def row(name: str, right: int, questions: int = 40) -> ReportRow:
    """A row that puts the passages of its first questions first and all others second."""
    relevance = {f"q{number:02d}": {f"p{number:02d}": 1} for number in range(questions)}
    rankings = {}
    for number, (question, grades) in enumerate(relevance.items()):
        found = [(next(iter(grades)), 0.9), ("other", 0.8)]
        rankings[question] = found if number < right else found[::-1]
    inverted = invert(relevance)
    return ReportRow(
        name,
        measure_recognition(REFERENCES, HYPOTHESES),
        measure_retrieval(rankings, relevance),
        measure_retrieval({passage: [(next(iter(inverted[passage])), 0.9)] for passage in inverted}, inverted),
        seconds=1.5,
        audio_seconds=60.0,
    )


def report(*rows: ReportRow) -> Report:
    model = ModelInfo("exp/joint", "0123456789abcdef", 1_600_000)
    return Report("data/test", 40, 40, model, "clsr evaluate", "abc1234", "2 cores", 0, list(rows))


def cells(page: str, first: str) -> list[str]:
    """The cells of the table line that starts so."""
    lines = [line.strip("| ").split("|") for line in page.splitlines() if line.startswith(f"| {first} ")]
    assert len(lines) == 1, page
    return [cell.strip() for cell in lines[0]]


def test_recognition_counts_and_pools() -> None:
    recognition = measure_recognition(REFERENCES, HYPOTHESES)
    assert recognition.total == (1, 5)
    assert recognition.transcripts[0] == ("p0", "the cat sat", "the bat sat", 1, 3)
    assert [transcript.id for transcript in recognition.transcripts] == ["p0", "p1"]


def test_recognition_needs_every_transcript_and_a_word() -> None:
    with pytest.raises(InputError, match="p1: has a reference but no transcript"):
        measure_recognition(REFERENCES, {"p0": "x"})
    with pytest.raises(InputError, match="no word in any reference"):
        measure_recognition({"p0": ""}, {"p0": "x"})


def test_retrieval_keeps_rank_top_ten_and_metrics() -> None:
    order = [(f"p{number}", 1.0 - number / 100) for number in range(20)]
    retrieval = measure_retrieval({"b": order, "a": order}, {"a": {"p11": 1}, "b": {"p1": 1, "p0": 0}})
    assert retrieval.query_ids == ["a", "b"]
    assert [query.relevant_rank for query in retrieval.queries] == [12, 2]
    assert retrieval.queries[0].top == order[:10]
    metrics = {"recall@1": 0, "recall@5": 1, "recall@10": 1, "mrr@10": 0.5, "ndcg@5": 1 / math.log2(3)}
    assert retrieval.queries[1].metrics == pytest.approx(metrics)
    assert retrieval.intervals["recall@5"].value == retrieval.values("recall@5").mean() == 0.5


def test_rank_below_the_depth_is_none() -> None:
    assert measure_retrieval({"q": [("p0", 1.0)]}, {"q": {"p5": 1}}).queries[0].relevant_rank is None


def test_json_has_the_agreed_keys_and_values(tmp_path: Path) -> None:
    write_report(report(row("cascade", 20), row("clsr-soft", 30)), tmp_path / "new" / "out")
    content = json.loads((tmp_path / "new" / "out" / "report.json").read_text())
    assert list(content) == ("set questions passages model command commit hardware seed tags rows differences".split())
    assert content["model"] == {"path": "exp/joint", "fingerprint": "0123456789abcdef", "parameters": 1_600_000}
    cascade, soft = content["rows"]
    assert list(cascade) == ["name", "wer", "q2c", "c2q", "seconds", "audio_seconds"]
    assert cascade["wer"] == {"value": 0.2, "errors": 1, "words": 5}
    assert list(soft["q2c"]) == list(METRICS)
    assert soft["q2c"]["recall@1"]["value"] == 0.75
    assert 0.55 < soft["q2c"]["recall@1"]["low"] < 0.75 < soft["q2c"]["recall@1"]["high"] < 0.95
    assert soft["c2q"]["mrr@10"] == {"value": 1, "low": 1, "high": 1}
    first = content["differences"][0]
    assert {key: first[key] for key in ("a", "b", "direction", "metric", "value")} == (
        {"a": "clsr-soft", "b": "cascade", "direction": "q2c", "metric": "recall@1", "value": 0.25}
    )
    assert 0 < first["low"] < 0.25 < first["high"]


def test_success_stands_beside_recall_of_several(tmp_path: Path) -> None:
    relevance = {"p0": {"q0": 1, "q1": 1}, "p1": {"q2": 1}}
    rankings = {"p0": [("q9", 3.0), ("q1", 2.0), ("q0", 1.0)], "p1": [("q2", 1.0)]}
    several = measure_retrieval(rankings, relevance)
    assert several.intervals["recall@1"].value == several.intervals["success@1"].value == 0.5
    assert several.queries[0].metrics["success@5"] == 1
    one = row("clsr", 20)
    of_several = ReportRow("clsr-soft", one.wer, one.q2c, several)
    write_report(report(one, of_several), tmp_path)
    written, (_, read) = json.loads((tmp_path / "report.json").read_text())["rows"], read_report(tmp_path).rows
    assert "success@1" not in written[0]["c2q"] and written[1]["c2q"]["success@1"]["value"] == 0.5
    assert read.c2q == several
    page = (tmp_path / "report.md").read_text()
    assert cells(page, "Row ")[-3:] == ["C-Q success@1", "C-Q success@5", "C-Q success@10"]
    assert cells(page, "clsr-soft")[-2].startswith("100.0") and cells(page, "clsr")[-1] == "–"


def test_both_normalisations_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "english_normaliser", lambda: lambda text: text.replace("it's", "it is"))
    recognition = measure_recognition({"a": "it's a cat"}, {"a": "it is a cat"}, english=True)
    assert recognition.total == (2, 3) and recognition.english == (0, 4)
    write_report(report(ReportRow("clsr", recognition), row("clsr-soft", 20)), tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert cells(page, "Row ")[1:3] == ["WER (errors/words)", "WER, Whisper's normaliser"]
    assert cells(page, "clsr")[1:3] == ["66.7 (2/3)", "0.0 (0/4)"] and cells(page, "clsr-soft")[2] == "–"
    read = read_report(tmp_path).rows
    assert read[0].wer and read[0].wer.english == (0, 4) and read[1].wer and read[1].wer.english is None
    monkeypatch.setattr(scores, "english_normaliser", lambda: None)  # the package is missing
    assert measure_recognition(REFERENCES, HYPOTHESES, english=True).english is None


def test_lines_of_transcripts_and_rankings(tmp_path: Path) -> None:
    write_report(report(row("clsr", 39)), tmp_path)
    transcripts = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()]
    assert transcripts[1] == (
        {"row": "clsr", "id": "p1", "reference": "dogs bark", "hypothesis": "dogs bark", "errors": 0, "words": 2}
    )
    rankings = [json.loads(line) for line in (tmp_path / "rankings.jsonl").read_text().splitlines()]
    assert len(rankings) == 80
    assert rankings[39] == {
        "row": "clsr",
        "direction": "q2c",
        "id": "q39",
        "relevant_rank": 2,
        "top": [["other", 0.8], ["p39", 0.9]],
        "metrics": {
            "recall@1": 0,
            "recall@5": 1,
            "recall@10": 1,
            "mrr@10": 0.5,
            "ndcg@5": pytest.approx(1 / math.log2(3)),
        },
    }


def test_reports_are_read_as_written_but_for_transcripts(tmp_path: Path) -> None:
    written = report(row("text", 38), row("clsr", 20), ReportRow("parabge", None, row("", 2).q2c))
    written.tags = {"dataset": "mini", "seed": "1"}
    write_report(written, tmp_path)
    for path in (tmp_path, tmp_path / "report.json"):
        read = read_report(path)
        assert read.rows[1].wer is not None
        assert read.rows[1].wer.total == (1, 5)
        assert (read.rows[0].q2c, read.rows[1].c2q) == (written.rows[0].q2c, written.rows[1].c2q)
        assert read.rows[2] == written.rows[2]
        assert (read.model, read.commit, read.seed) == (written.model, "abc1234", 0)
        assert read.tags == {"dataset": "mini", "seed": "1"}


def test_reports_without_tags_have_none(tmp_path: Path) -> None:
    write_report(report(row("clsr", 20)), tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    del content["tags"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert read_report(tmp_path).tags == {}


def test_page_shows_percent_counts_and_marked_differences(tmp_path: Path) -> None:
    write_report(
        report(row("cascade", 20), row("clsr-soft", 30), ReportRow("parabge", None, row("", 29).q2c)), tmp_path
    )
    page = (tmp_path / "report.md").read_text()
    header = "Row, WER (errors/words), Q-C R@1, Q-C R@5, Q-C R@10, Q-C MRR@10, C-Q R@1, C-Q R@5, C-Q R@10"
    assert cells(page, "Row ") == header.split(", ")
    assert cells(page, "cascade")[1] == "20.0 (1/5)"
    assert cells(page, "cascade")[2].startswith("50.0 [3")
    assert cells(page, "parabge")[1] == cells(page, "parabge")[6] == "–"
    assert cells(page, "clsr-soft − cascade")[1].startswith("+25.0 [+1")
    assert cells(page, "clsr-soft − cascade")[1].endswith("] *")
    assert cells(page, "clsr-soft − cascade")[2] == "+0.0 [+0.0, +0.0]"
    assert cells(page, "clsr-soft − parabge")[1].startswith("+2.5 [+0.0, ")
    assert not cells(page, "clsr-soft − parabge")[1].endswith("*")


def test_differences_need_both_rows_on_the_same_questions() -> None:
    assert differences(report(row("clsr-soft", 3), row("text", 4))) == []
    found = differences(report(row("clsr-soft", 20), row("cascade", 20, questions=30)))
    assert found == []
    found = differences(report(row("clsr-soft", 20), row("cascade", 0), row("parabge", 30)))
    assert [(d.b, d.significant) for d in found if (d.direction, d.metric) == ("q2c", "recall@1")] == (
        [("cascade", True), ("parabge", True)]
    )
    assert [d.interval.value for d in found if (d.direction, d.metric) == ("q2c", "mrr@10")] == [0.25, -0.125]


def test_set_without_questions_reports_word_errors_alone(tmp_path: Path) -> None:
    alone = report(ReportRow("clsr", measure_recognition(REFERENCES, HYPOTHESES), seconds=1.0, audio_seconds=2.0))
    alone.questions = 0
    write_report(alone, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["rows"][0]["q2c"], content["rows"][0]["c2q"], content["differences"]) == (None, None, [])
    page = (tmp_path / "report.md").read_text()
    assert cells(page, "clsr") == ["clsr", "20.0 (1/5)"]
    assert "no questions" in page
    assert (tmp_path / "rankings.jsonl").read_text() == ""
    assert read_report(tmp_path).rows[0].q2c is None
    assert "20.0 (1/5)" in compare([tmp_path, tmp_path])


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.txt").write_text("log")
    write_report(report(row("clsr", 20)), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert sorted(before) == ["log.txt", "rankings.jsonl", "report.json", "report.md", "transcripts.jsonl"]

    def disk_full(file: Path, content: str, encoding: str) -> int:
        if file.name == "report.md":
            raise OSError(28, "No space left on device")
        with file.open("w", encoding=encoding) as stream:
            return stream.write(content)

    monkeypatch.setattr(Path, "write_text", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_report(report(row("clsr", 10)), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_no_old_summary_stays_beside_new_rankings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(report(row("clsr", 20)), tmp_path)

    def killed(file: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_report(report(row("clsr", 10)), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rankings.jsonl", "report.md", "transcripts.jsonl"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"rows": [{"name": "clsr"}]}', "\xff"])
def test_what_is_no_report_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match="report.json: not a whole report"):
        read_report(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="report.json: No such file"):
        read_report(tmp_path)
    write_report(report(row("clsr", 20)), tmp_path)
    (tmp_path / "rankings.jsonl").write_text('{"row": "clsr"')
    with pytest.raises(InputError, match="not a whole report"):
        read_report(tmp_path)


def test_compare_marks_gains_over_the_first_run(tmp_path: Path) -> None:
    write_report(report(row("text", 38), row("clsr", 20)), tmp_path / "a")
    write_report(report(row("text", 38), row("clsr", 30), row("clsr-soft", 35)), tmp_path / "b")
    page = compare([tmp_path / "a", tmp_path / "b" / "report.json"])
    assert f"1. `{tmp_path / 'a'}`" in page
    table, contrast = page.split("## Differences from run 1")
    assert [line.split("|")[1:3] for line in table.splitlines() if "| clsr " in line] == [
        [" clsr      ", "   1 "],
        [" clsr      ", "   2 "],
    ]
    assert cells(table, "clsr-soft")[4].startswith("100.0")  # shown, though run 1 has no such row
    assert "clsr-soft" not in contrast
    assert cells(contrast, "clsr")[:2] == ["clsr", "2 − 1"]
    assert cells(contrast, "clsr")[2].startswith("+25.0 [+1")
    assert cells(contrast, "clsr")[2].endswith(" *")
    assert cells(contrast, "text")[2] == "+0.0 [+0.0, +0.0]"


def test_compare_claims_nothing_without_the_same_rankings(tmp_path: Path) -> None:
    write_report(report(row("clsr", 20)), tmp_path / "a")
    write_report(report(row("clsr", 20, questions=30)), tmp_path / "b")
    write_report(report(row("clsr", 20)), tmp_path / "c")
    (tmp_path / "c" / "rankings.jsonl").unlink()
    page = compare([tmp_path / name for name in "abc"])
    assert "- Run 2: its questions are not those of run 1, so no significance can be claimed." in page
    assert page.count("- Run 3: rankings.jsonl is missing on one side") == 1
    contrast = page.split("## Differences from run 1")[1]
    assert "*" not in contrast.split("leaves out 0.")[1]
    assert contrast.count("–") == 14


def test_chinese_errors_are_labelled_character_errors(tmp_path: Path):
    recognition = measure_recognition({"a": "設定 wi-fi 密碼"}, {"a": "设定wi-fi密碼"})
    assert recognition.total == WordErrors(1, 5) and recognition.unit == "character"
    info = ModelInfo("m", "f", 1)
    rows = [ReportRow("clsr", recognition, None, None, 1.0, 2.0)]
    write_report(Report("s", 0, 1, info, "clsr", "c", "h", 0, rows), tmp_path)
    assert "CER (errors/characters)" in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0]["wer"]["unit"] == "character"
    (row,) = read_report(tmp_path).rows
    assert row.wer is not None and row.wer.unit == "character"
    assert measure_recognition({"a": "the cat"}, {"a": "the hat"}).unit == "word"


def test_training_stands_in_the_report(tmp_path: Path) -> None:
    curve = [CurvePoint(100 * n, n / 100, 2.0 * n, 640 * n) for n in range(1, 31)]
    trained = TrainingRecord("nothing", Cost(1600, 60.0, 10_000), "dev/recall@1", "typed", True, curve)
    ours = [replace(row(name, 20), training=trained) for name in ("clsr", "clsr-soft")]
    released = replace(row("whisper-bge", 10), training=TrainingRecord("release"))
    write_report(report(row("text", 30), *ours, released), tmp_path)
    page = (tmp_path / "report.md").read_text().partition("## Training")[2]
    expected = ["clsr, clsr-soft", "nothing", "typed", "4,600", "120", "29,200", "it had stopped improving"]
    assert cells(page, "clsr, clsr-soft") == expected
    assert cells(page, "whisper-bge") == ["whisper-bge", "release", "–", "–", "–", "–", "–"]
    (line,) = [line for line in page.splitlines() if line.startswith("- ")]
    points = ", ".join(f"{100 * n}: {n:.1f}" for n in range(3, 31, 3))
    assert line == f"- clsr, clsr-soft, dev/recall@1 in % by step: {points} (best 30.0 at step 3000)"
    assert [one.training for one in read_report(tmp_path).rows] == [None, trained, trained, TrainingRecord("release")]
    write_report(report(row("text", 30), row("clsr", 20)), tmp_path)
    assert "Training" not in (tmp_path / "report.md").read_text()
