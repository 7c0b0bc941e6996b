"""Tests of clsr/evaluation/longform.py: a system with known hits, and spans worked out by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.cli.main import main
from clsr.corpora.long_recordings import LongQuestion, read_long_form
from clsr.errors import InputError
from clsr.evaluation import longform
from clsr.evaluation.config import LongFormConfig
from clsr.evaluation.longform import measure, measure_hits, middle_inside, span_inside, time_iou
from clsr.evaluation.longform_report import FoundWindow, read_longform
from clsr.evaluation.window_search import EncodedWindows, WindowSearch, read_words, windows_of_words
from clsr.index.ranking import merge
from clsr.paper.results import collect_longform
from clsr.paper.tables import make_tables

LEVELS = 8  # words of a language in which each lasts two seconds and differs from others in loudness
WORDS = "zero one two three four five six seven".split()


class ToneCounter:
    """Recognises how much of each word a window has; words are axes."""

    rows = ("text", "clsr-soft")

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        levels = [np.rint(waveform * LEVELS).astype(int) for waveform in waveforms]
        return [np.bincount(level, minlength=LEVELS) / len(level) for level in levels]

    def transcribe(self, recognised: Sequence[np.ndarray]) -> list[str]:
        return [" ".join(WORDS[at] for at in np.flatnonzero(item) if at) for item in recognised]

    def encode(self, recognised: Sequence[np.ndarray], row: str, side: str) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor(np.array(recognised), dtype=torch.float32), dim=1)

    def encode_text(self, texts: Sequence[str], side: str) -> torch.Tensor:
        return torch.tensor([[float(word in text.split()) for word in WORDS] for text in texts])


class Reader:
    """Answers with the loudest word of the first window; breaks down at the question it is told to."""

    def __init__(self, fails_at: int = 1000) -> None:
        self.calls: list[tuple[Any, list[int]]] = []
        self.fails_at = fails_at

    def answer(self, question: Any, windows: Sequence[np.ndarray]) -> str:
        if len(self.calls) == self.fails_at:
            raise InputError("the server is gone")
        self.calls.append((question, [len(window) for window in windows]))
        return f"The {WORDS[round(float(windows[0].max()) * LEVELS)]}."


@pytest.fixture
def long_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings of 12 s, zero being silence: 0 1 0 2 5 0 and 3 0 2 4 0 4."""
    monkeypatch.setattr(longform, "load_system", lambda reference: ToneCounter())
    folder = tmp_path / "long"
    (folder / "recordings").mkdir(parents=True)
    for name, levels in (("r000", [0, 1, 0, 2, 5, 0]), ("r001", [3, 0, 2, 4, 0, 4])):
        waveform = np.repeat(np.array(levels, np.float32) / LEVELS, 2 * SAMPLE_RATE)
        write_waveform(folder / "recordings" / f"{name}.wav", waveform)
    questions = [("q1", "one", "r000", 2.0), ("q2", "two", "r000", 6.0), ("q3", "four", "r001", 6.0)]
    rows = [
        {
            "id": id_, "question": f"where is {word}", "question_audio": None, "recording": f"recordings/{name}.wav",
            "passage": word, "start_s": start_s, "end_s": start_s + 2, "answer": word if id_ != "q3" else None,
            "answer_start_s": start_s + 0.5 if id_ != "q3" else None,
            "answer_end_s": start_s + 1.5 if id_ != "q3" else None,
        }
        for id_, word, name, start_s in questions
    ]  # fmt: skip
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def question(answer: tuple[float, float] | None = (12.0, 13.0)) -> LongQuestion:
    return LongQuestion("q", "who?", None, Path("a.wav"), "p", (10.0, 15.0), "x", answer)


def test_an_answer_lies_inside_one_window_or_none() -> None:
    assert span_inside(question(), [FoundWindow("a.wav", 0.0, 8.0), FoundWindow("a.wav", 12.0, 13.0)])
    assert not span_inside(
        question(), [FoundWindow("a.wav", 4.0, 12.5), FoundWindow("a.wav", 12.5, 20.0)]
    )  # cut in two
    assert not span_inside(question(), [FoundWindow("b.wav", 4.0, 20.0)])
    assert not span_inside(question(None), [FoundWindow("a.wav", 11.0, 20.0)])  # the passage counts
    assert span_inside(question(None), [FoundWindow("a.wav", 10.0, 15.0)])
    assert not span_inside(question(), [])


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ([("a.wav", 10.0, 15.0)], 1.0),
        ([("a.wav", 8.0, 18.0)], 5 / 10),
        ([("a.wav", 5.0, 12.0)], 2 / 10),  # 5 to 15 s in either
        ([("a.wav", 5.0, 12.0), ("a.wav", 11.0, 20.0)], 5 / 15),  # what both have counts once
        ([("a.wav", 10.0, 15.0), ("b.wav", 10.0, 15.0)], 5 / 10),  # another recording is missed
        ([("a.wav", 20.0, 25.0)], 0.0),
        ([], 0.0),
    ],
)
def test_time_iou(returned: list[tuple[str, float, float]], expected: float) -> None:
    assert time_iou(question(), [FoundWindow(*window) for window in returned]) == pytest.approx(expected)


def test_known_hits_give_known_rows() -> None:
    hits = {"q": [FoundWindow("a.wav", 20.0, 28.0, 0.9), FoundWindow("a.wav", 8.0, 16.0, 0.8)]}
    one, two = (measure_hits(f"top {k}", "recording", [question()], hits, k) for k in (1, 2))
    assert (one.span_inside.tolist(), one.time_iou.tolist(), one.returned_s) == ([0.0], [0.0], 8.0)
    assert (two.span_inside.tolist(), two.returned_s) == ([1.0], 16.0)
    assert two.time_iou.tolist() == pytest.approx([5 / 16])


def test_the_ranking_starts_with_the_best_merged_windows() -> None:
    """Against the merging of all windows."""
    places = [FoundWindow(name, *span) for name in "ab" for span in longform.windows(100.0, 8.0, 3.0)]
    for seed in range(5):
        scores = np.convolve(np.random.default_rng(seed).random(len(places) + 5), np.ones(6) / 6, "valid")
        vectors = np.stack([scores, np.sqrt(1 - scores**2)], 1).astype(np.float32)
        search = WindowSearch(EncodedWindows(places, vectors, None))
        for recording in ("a", "b", None):
            all_of_it = [p._replace(score=float(s)) for p, s in zip(places, scores) if recording in (None, p.recording)]
            found = search.search(np.array([1, 0], np.float32), "", "dense", recording, 4)
            best = merge(all_of_it)[:4]
            assert [window[:3] for window in found] == [window[:3] for window in best]
            assert [window.score for window in found] == pytest.approx([window.score for window in best])


def test_words_rank_windows_too() -> None:
    places = [FoundWindow("a", start_s, start_s + 2) for start_s in (0.0, 2.0, 4.0)]
    vectors = np.eye(3, dtype=np.float32)
    search = WindowSearch(EncodedWindows(places, vectors, ["a red fox", "a brown dog", "the red barn door"]))
    first, second, third = ([window.start_s for window in search.search(vectors[1], "red fox", mode, None, 3)]
                            for mode in ("dense", "bm25", "hybrid"))  # fmt: skip
    assert first[0] == 2.0
    assert second == [0.0, 4.0]  # the dog shares no word
    assert third[0] == 0.0  # second by vectors, first by words


def test_words_need_transcripts() -> None:
    search = WindowSearch(EncodedWindows([FoundWindow("a", 0.0, 2.0)], np.eye(1, 2, dtype=np.float32), None))
    with pytest.raises(InputError, match="mode bm25: needs transcripts"):
        search.search(np.array([1, 0], np.float32), "red", "bm25", None, 1)


def test_windows_are_cut_out_of_words(tmp_path: Path) -> None:
    line = {"audio": str(tmp_path / "a.wav"), "words": [["A", 0.0, 0.9], ["red,", 0.9, 1.3], ["fox.", 2.1, 3.0]]}
    (tmp_path / "words.jsonl").write_text(json.dumps(line) + "\n")
    places = [FoundWindow(str(tmp_path / "a.wav"), start_s, start_s + 1) for start_s in (0.0, 1.0, 2.0, 3.0)]
    texts = windows_of_words(read_words(tmp_path / "words.jsonl"), places)
    assert list(texts.values()) == ["a", "red", "fox"] and list(texts) == places[:3]
    with pytest.raises(InputError, match="b.wav: is not among the words"):
        windows_of_words(read_words(tmp_path / "words.jsonl"), [FoundWindow("b.wav", 0.0, 1.0)])
    (tmp_path / "words.jsonl").write_text('{"audio": "a.wav"}\n')
    with pytest.raises(InputError, match=r"words.jsonl:1: is no transcript with words"):
        read_words(tmp_path / "words.jsonl")


def test_other_recordings_are_searched_with_all(long_set: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    write_waveform(tmp_path / "others" / "o.wav", np.full(2 * SAMPLE_RATE, 1 / LEVELS, np.float32))
    config = LongFormConfig(window_s=2.0, hop_s=2.0, top_k=(1, 2), others=(str(tmp_path / "others"),))
    rows = {(row.name, row.scope): row for row in measure("model", long_set, tmp_path / "out", config)}
    inside, found = rows["clsr-soft top 2", "recording"].returned["q1"], rows["clsr-soft top 2", "all"].returned["q1"]
    assert not any(window.recording.endswith("o.wav") for window in inside)
    assert [Path(window.recording).name for window in found] == ["r000.wav", "o.wav"]  # both say "one" alone
    content = json.loads((tmp_path / "out" / "longform.json").read_text())
    assert (content["recordings"], content["other_recordings"], content["other_seconds"]) == (2, 1, 2)


def test_success_is_the_middle_of_the_passage() -> None:
    assert middle_inside(question(), [FoundWindow("a.wav", 12.0, 13.0)])  # of 10 to 15 s
    assert not middle_inside(question(), [FoundWindow("a.wav", 8.0, 12.0), FoundWindow("b.wav", 12.0, 13.0)])


def test_windows_are_found_in_each_scope(long_set: Path, tmp_path: Path) -> None:
    config = LongFormConfig(window_s=2.0, hop_s=2.0, top_k=(1, 2), tags={"dataset": "mini", "seed": "0"})
    rows = {(row.name, row.scope): row for row in measure("model", long_set, tmp_path / "out", config)}
    one, everywhere = rows["clsr-soft top 1", "recording"], rows["clsr-soft top 1", "all"]
    assert one.span_inside.tolist() == [1, 1, 1] and one.time_iou.tolist() == [1, 1, 1]
    assert one.returned["q3"] == [FoundWindow(str(long_set / "recordings" / "r001.wav"), 6.0, 8.0, 1.0)]
    assert everywhere.span_inside.tolist() == [1, 1, 1]  # of the two places of "two" the first
    assert rows["clsr-soft top 2", "recording"].time_iou.tolist() == [0.5, 0.5, 0.5]
    assert rows["clsr-soft top 2", "recording"].returned_s == 4.0
    found = [w for row in rows.values() for windows in row.returned.values() for w in windows]
    assert {w.start_s for w in found if w.recording.endswith("r000.wav")} <= {2.0, 6.0, 8.0}  # silence is no hit
    content = json.loads((tmp_path / "out" / "longform.json").read_text())
    assert (content["questions"], content["answers"], content["recordings"], content["audio_seconds"]) == (3, 2, 2, 24)
    lines = (tmp_path / "out" / "hits.jsonl").read_text().splitlines()
    assert len(lines) == 4 * 3 and json.loads(lines[0])["windows"] == [["r000.wav", 2.0, 4.0, 1.0]]


def test_silence_alone_finds_nothing(long_set: Path, tmp_path: Path) -> None:
    for recording in (long_set / "recordings").iterdir():
        write_waveform(recording, np.zeros(12 * SAMPLE_RATE))
    reader = Reader()
    one = measure("model", long_set, tmp_path / "out", LongFormConfig(top_k=(1,)), "reader", reader)[0]
    assert (one.returned_s, one.span_inside.tolist(), one.time_iou.tolist()) == (0.0, [0, 0, 0], [0, 0, 0])
    assert one.f1 is not None and one.f1.tolist() == [0, 0] and not reader.calls


def test_the_report_is_what_table_5_reads(long_set: Path, tmp_path: Path) -> None:
    config = LongFormConfig(window_s=2.0, hop_s=2.0, top_k=(1,), whole=True, tags={"dataset": "slue_sqa5"})
    measure("model", long_set, tmp_path / "out", config, "local:reader", Reader())
    ((_, (rows, _)),) = collect_longform([tmp_path / "out"]).items()
    assert list(rows) == ["clsr-soft top 1, recording", "clsr-soft top 1, all", "whole recording"]
    whole = rows["whole recording"][0]
    assert whole.returned_s == 12 and whole.time_iou is not None and whole.time_iou.value == pytest.approx(2 / 12)
    (table,) = make_tables([tmp_path / "out"], ["5"])
    cells = {row[2]: row for row in table.blocks[0]}
    assert cells["clsr-soft top 1, recording"][3] == "100.0 [100.0, 100.0]"
    assert cells["clsr-soft top 1, all"][3] == "not run"
    assert cells["whole recording"][3] == "0.0 [0.0, 0.0]"  # the loudest word is five
    assert "local:reader" in (tmp_path / "out" / "longform.json").read_text()
    page = (tmp_path / "out" / "longform.md").read_text()
    assert "| clsr-soft top 1 | recording | 100.0 [100.0, 100.0] | 2.0 |" in page
    titles, _, *body = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    cells = {row[0]: dict(zip(titles, row, strict=True)) for row in body}["whole recording"]
    assert (cells["Returned (s)"], cells["Success"], cells["F1"]) == ("12.0", "–", "0.0 [0.0, 0.0]")
    assert cells["Time IoU"].startswith("16.7")  # 2 s of 12


def test_rows_are_read_as_they_were_written(long_set: Path, tmp_path: Path) -> None:
    config = LongFormConfig(window_s=2.0, hop_s=2.0, top_k=(1, 2), whole=True, tags={"seed": "3"})
    measured = measure("model", long_set, tmp_path / "out", config, "reader", Reader())
    tags, rows, _ = read_longform(tmp_path / "out" / "longform.json")
    assert (tags, rows) == ({"seed": "3"}, [m.row(config.seed) for m in measured])


@pytest.mark.slow
def test_an_interrupted_run_resumes_and_ends_the_same(long_set: Path, tmp_path: Path) -> None:
    config = LongFormConfig(window_s=2.0, hop_s=2.0, top_k=(1, 2), whole=True)

    def run(name: str, reader: Reader) -> list[dict[str, Any]]:
        measure("model", long_set, tmp_path / name, config, "reader", reader)
        rows = json.loads((tmp_path / name / "longform.json").read_text())["rows"]
        return [{key: value for key, value in row.items() if not key.endswith("seconds")} for row in rows]

    whole = Reader()
    undisturbed = run("a", whole)
    assert len(whole.calls) == 2 * 3  # two known answers, three rows that are answered
    with pytest.raises(InputError, match="the server is gone"):
        run("b", Reader(fails_at=4))
    assert not (tmp_path / "b" / "longform.json").exists()
    log = tmp_path / "b" / "answers.jsonl"
    log.write_bytes(log.read_bytes()[:-20])  # the last line was cut off too
    rest = Reader()
    assert run("b", rest) == undisturbed and len(rest.calls) == 3
    assert [row["answer"] for row in read_lines(log)] == [
        row["answer"] for row in read_lines(tmp_path / "a" / log.name)
    ]
    again = Reader()
    assert run("b", again) == undisturbed and not again.calls
    measure("model", long_set, tmp_path / "b", config, "another reader", again)
    assert len(again.calls) == 6  # its answers are not those of the first
    log.write_text("{}\n")
    with pytest.raises(InputError, match=r"answers.jsonl:1: is no answer"):
        run("b", Reader())


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_questions_are_spoken_unless_typed_ones_are_wanted(long_set: Path, tmp_path: Path) -> None:
    (long_set / "questions").mkdir()
    rows = read_lines(long_set / "questions.jsonl")
    for row, level in zip(rows, (2, 1, 4)):  # the first two are spoken wrongly
        row["question_audio"] = f"questions/{row['id']}.wav"
        write_waveform(long_set / row["question_audio"], np.full(SAMPLE_RATE, level / LEVELS))
    (long_set / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for typed in (False, True):
        config, reader = LongFormConfig(window_s=2.0, hop_s=2.0, top_k=(1,), typed=typed), Reader()
        found[typed] = measure("model", long_set, tmp_path / str(typed), config, "reader", reader)[0]
        assert all(isinstance(given, str) == typed for given, _ in reader.calls)
    assert found[False].span_inside.tolist() == [0, 0, 1] and found[True].span_inside.tolist() == [1, 1, 1]
    assert found[False].f1 is not None and found[False].f1.tolist() == [0, 0]


@pytest.mark.slow
def test_the_command_measures_a_tone_model(
    tone_model: Path, tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, minutes = str(tone_corpus / "dev"), ["--minutes", "0.05"]
    assert main(["data", "lengthen", "--set", source, "--output", str(tmp_path / "l"), *minutes]) == 0
    assert "6 questions about" in capsys.readouterr().out
    command = ["longform", "--model", str(tone_model), "--set", str(tmp_path / "l"), "--output", str(tmp_path / "out")]
    assert main([*command, "--window-s", "1.2", "--hop-s", "0.3", "--top-k", "1", "20", "--tag", "dataset=tones"]) == 0
    rows = json.loads((tmp_path / "out" / "longform.json").read_text())["rows"]
    first, many = rows[:2]
    assert (first["name"], many["span_in_top_k"].keys()) == ("clsr-soft top 1", {"20"})
    assert first["returned_s"] == pytest.approx(1.2, abs=0.01) and first["encoding_seconds"] > 0
    assert main(["tables", str(tmp_path / "out"), "--only", "5"]) == 0
    capsys.readouterr()
    faults = {
        "no question has a known answer": ["--answerer", "http://localhost:9/v1#m"],
        "names no answerer": ["--answerer", "gpt"],
        "give 0 < hop_s <= window_s": ["--hop-s", "50"],
        "give numbers of 1 or more": ["--top-k", "0"],
        "row text: ": ["--row", "text"],
    }
    for message, options in faults.items():
        assert main([*command, *options]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error


def test_questions_are_read_as_they_were_written(long_set: Path) -> None:
    assert [q.answer_span for q in read_long_form(long_set)] == [(2.5, 3.5), (6.5, 7.5), None]
