"""A table of recordings becomes retrieval sets: nothing leaks, and every fault is named by its line."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.cli.main import main
from clsr.corpora.config import TableConfig
from clsr.corpora.table import Passage, read_passages, split, write_sets
from clsr.data.kaldi import Utterance, read_data_dir, refuse
from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set
from clsr.errors import InputError

HEADER = "id,audio,start_s,end_s,transcript,question,speaker\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Folder of two recordings, a.wav of 2 s and 'b b.wav' of 4 s."""
    for name, seconds in (("a", 2), ("b b", 4)):
        write_waveform(tmp_path / f"{name}.wav", np.full(seconds * SAMPLE_RATE, 0.25))
    return tmp_path


def table(folder: Path, content: str, name: str = "table.csv") -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def faults(path: Path) -> list[str]:
    found: list[str] = []
    read_passages(path, found.append)
    return found


def test_rows_of_a_csv(corpus: Path):
    rows = 'r1,a.wav,,,"Red, dogs!",Which dogs?,ann\nr2,b b.wav,0.5,1.5,two,,\nr3,b b.wav,1.5,,three,,\n'
    first, second, third = read_passages(table(corpus, "\ufeff" + HEADER + rows), refuse)  # as a spreadsheet saves it
    assert first == Passage(Utterance("r1", corpus / "a.wav", 0.0, 2.0, "red dogs", "ann"), 2, {"r1": "Which dogs?"})
    assert second == Passage(Utterance("r2", corpus / "b b.wav", 0.5, 1.5, "two", "r2"), 3)
    assert third.utterance == Utterance("r3", corpus / "b b.wav", 1.5, 4.0, "three", "r3")


def test_the_same_rows_in_other_clothes(corpus: Path):
    tsv = table(corpus, "audio\tid\ttranscript\tquestion\nb b.wav\tr\tfour words, no more\tHow many?\n", "t.tsv")
    row = {"id": "r", "audio": "b b.wav", "transcript": "Four words, no more", "question": "How  many?", "end_s": None}
    jsonl = table(corpus, json.dumps(row) + "\n" + json.dumps(row | {"id": 7, "start_s": 1, "end_s": 2.5}), "t.jsonl")
    (of_tsv,), (of_jsonl, other) = read_passages(tsv, refuse), read_passages(jsonl, refuse)
    assert of_tsv.utterance == of_jsonl.utterance and of_tsv.questions == of_jsonl.questions == {"r": "How many?"}
    assert (other.utterance.id, other.utterance.start_s, other.utterance.end_s) == ("7", 1.0, 2.5)


def test_cells_may_be_longer_than_csv_allows(corpus: Path):
    words = "word " * 40_000  # 200 kB; by default a cell has at most 128 KiB
    (passage,) = read_passages(table(corpus, HEADER + f'r1,a.wav,,,"{words}",,\n'), refuse)
    assert passage.utterance.text == words.strip()


def test_transcripts_of_every_script_stay_whole(corpus: Path):
    rows = "r1,a.wav,0,1,हिन्दी में स्वागत है,,\nr2,a.wav,1,2,がっこう パン,,\nr3,b b.wav,,,co\u00adoperate,,\n"
    passages = read_passages(table(corpus, HEADER + rows), refuse)
    assert [p.utterance.text for p in passages] == ["हिन्दी में स्वागत है", "がっこう パン", "cooperate"]


def test_rows_of_one_span_are_one_passage(corpus: Path):
    rows = "r1,a.wav,0,2,red dogs,Which?,\nr2,a.wav,,,Red dogs.,What colour?,\nr3,a.wav,1,2,dogs,,\n"
    one, other = read_passages(table(corpus, HEADER + rows), refuse)
    assert (one.utterance.id, one.questions) == ("r1", {"r1": "Which?", "r2": "What colour?"})
    assert (other.utterance.id, other.questions) == ("r3", {})


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("r 2,a.wav,,,two,,", "'r 2' cannot be an id; give one word"),
        (",a.wav,,,two,,", "'' cannot be an id"),
        ("r1,a.wav,,,two,,", "r1: is there twice, first on line 2"),
        ("r2,,,,two,,", "r2: audio is missing"),
        ("r2,c.wav,,,two,,", "c.wav: no such audio file"),
        ("r2,table.csv,,,two,,", "table.csv: cannot be read as audio"),
        ("r2,a.wav,,, !? ,,", "r2: transcript is missing or has no words"),
        ("r2,a.wav,one,2,two,,", "r2: 'one' to '2' are no times"),
        ("r2,a.wav,1,1,two,,", "r2: 1.0 to 1.0 s is not a span of time"),
        ("r2,a.wav,nan,1,two,,", "r2: nan to 1.0 s is not a span of time"),
        ("r2,a.wav,1,3,two,,", "r2: ends at 3.0 s, its recording at 2.000 s"),
        ("r2,a.wav,0,2,other,,", "r2: line 2 has the same span and another transcript"),
        ("r2,a.wav,,,two,what, who,", "has another number of cells than the header"),
        ("r2,a.wav,,,two", "has another number of cells than the header"),
    ],
)
def test_a_fault_is_named_by_its_line(corpus: Path, row: str, fault: str):
    path = table(corpus, f"{HEADER}r1,a.wav,,,one,,\n{row}\nr9,b b.wav,,,nine,,\n")
    (found,) = faults(path)
    assert found.startswith(f"{path}:3: ") and fault in found


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "id;audio;transcript\n", "t.csv:1: has no column id; name id, audio, transcript, found id;audio"),
        ("t.csv", "id,audio\nr,a.wav\n", "t.csv:1: has no column transcript"),
        ("t.csv", "", "t.csv:1: has no column id"),
        ("t.csv", HEADER, "t.csv: holds no row"),
        ("t.csv", HEADER + 'r,a.wav,,,"one,,\n', "t.csv:2: is no row"),
        ("t.csv", "id,audio,transcript,transcript\n", "t.csv:1: column transcript is there twice"),
        ("t.xlsx", "PK", "t.xlsx: is not .csv, .tsv or .jsonl"),
    ],
)
def test_what_is_no_table(corpus: Path, name: str, content: str, message: str):
    with pytest.raises(InputError, match=message):
        read_passages(table(corpus, content, name), refuse)
    with pytest.raises(InputError, match=r"none.csv: no such file"):
        read_passages(corpus / "none.csv", refuse)


def test_another_encoding_is_named(corpus: Path):
    (corpus / "t.csv").write_bytes((HEADER + "r,a.wav,,,one,,\nq,a.wav,,,caf\xe9,,\n").encode("latin-1"))
    with pytest.raises(InputError, match=r"t.csv:3: is not UTF-8"):
        read_passages(corpus / "t.csv", refuse)


def test_lines_of_a_jsonl_that_are_no_rows(corpus: Path):
    path = table(corpus, '{"id": "r", "audio": "a.wav", "transcript": "x"}\nid\n[1]\n{"id": ["r"]}\n', "t.jsonl")
    assert [fault.partition(": ")[0] for fault in faults(path)] == [f"{path}:{line}" for line in (2, 3, 4)]
    row = '{"id": "%s", "audio": "a.wav", "transcript": "x"%s}\n'
    twice = faults(table(corpus, row % ("r", "") + row % ("q", ', "transcript": "y"'), "w.jsonl"))[0]
    assert twice.endswith(
        "w.jsonl:2: is not JSON (transcript is there twice: keep one of them); write one object a line"
    )
    assert "transcript is missing" in faults(table(corpus, '{"id": "r", "audio": "a.wav"}', "u.jsonl"))[0]
    half = faults(table(corpus, row % ("r", "") + row % ("q", ', "question": "\\ud800?"'), "h.jsonl"))
    assert half[0].endswith("h.jsonl:2: has half a character (surrogates not allowed); write it whole")


def test_columns_that_are_not_used_are_said(corpus: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "clsr"):
        read_passages(table(corpus, "id,audio,transcript,questoin\nr,a.wav,one,Which?\n"), refuse)
    assert "columns that are not used: questoin" in caplog.text


@pytest.fixture
def passages() -> list[Passage]:
    """100 passages of 20 recordings and 4 speakers, each with a question."""
    return [
        Passage(
            Utterance(f"p{n:03}", Path(f"r{n // 5}.wav"), n % 5, n % 5 + 1, "word", f"s{n // 5 % 4}"),
            n,
            {f"p{n:03}": "?"},
        )
        for n in range(100)
    ]


@pytest.mark.parametrize("split_by", ["recording", "speaker"])
def test_nothing_is_in_two_splits(passages: list[Passage], split_by):
    splits = split(passages, TableConfig(0.1, 0.2, split_by))
    ids = [passage.utterance.id for chosen in splits.values() for passage in chosen]
    assert sorted(ids) == [passage.utterance.id for passage in passages]
    keys = [{getattr(passage.utterance, split_by) for passage in chosen} for chosen in splits.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))
    if split_by == "recording":
        assert {name: len(chosen) for name, chosen in splits.items()} == {"train": 70, "dev": 10, "test": 20}


def test_a_split_depends_on_the_seed_alone(passages: list[Passage]):
    def ids(seed: int, folder: str = "") -> list[str]:
        moved = [
            Passage(
                Utterance(p.utterance.id, Path(folder) / p.utterance.recording, *list(vars(p.utterance).values())[2:]),
                1,
            )
            for p in passages
        ]
        return [passage.utterance.id for passage in split(moved, TableConfig(seed=seed))["test"]]

    assert ids(0) == ids(0, "/elsewhere") != ids(1)


def test_a_recording_that_holds_most_is_trained_on(passages: list[Passage]):
    longest = [Passage(Utterance(f"q{n}", Path("long.wav"), n, n + 1, "word", "s"), n) for n in range(300)]
    for seed in range(5):
        splits = split([*passages[:15], *longest], TableConfig(seed=seed))
        assert {p.utterance.id for p in longest} <= {p.utterance.id for p in splits["train"]}
        assert len(splits["dev"]) + len(splits["test"]) in {10, 15}


def test_too_little_to_split(passages: list[Passage]):
    with pytest.raises(InputError, match=r"2 recordings cannot be dealt out to train, dev, test: .* split by speaker"):
        split(passages[:10], TableConfig())
    for shares in ((0.0, 0.1), (0.5, 0.5), (-1.0, 0.1)):
        with pytest.raises(InputError, match="shares: dev .* give two above 0, together below 1"):
            TableConfig(*shares)


@pytest.fixture
def make_table(tmp_path: Path, say_in_tones: Callable[[str], np.ndarray]) -> Callable[[bool], Path]:
    """Write a corpus of ten recordings in the language of tones; every other one has a question, or none has."""

    def make(with_questions: bool) -> Path:
        lines = []
        for number in range(10):
            write_waveform(tmp_path / f"{number}.wav", say_in_tones("red dog"))
            lines.append(f"r{number},{number}.wav,,,Red dog,{'Which dog?' if with_questions else ''},\n")
        return table(tmp_path, HEADER + "".join(lines))

    return make


def test_the_command_writes_sound_sets(make_table, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["data", "make", str(make_table(True)), str(tmp_path / "sets"), "--test-share", "0.3"]
    assert main(arguments) == 0
    assert "test: 3 passages of 3 recordings, 0.0 min, 3 questions" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["dev", "test", "train"]
    for name, count in (("train", 6), ("dev", 1), ("test", 3)):
        assert check_retrieval_set(tmp_path / "sets" / name) == []
        whole = read_retrieval_set(tmp_path / "sets" / name)
        assert len(whole.passages) == len(whole.questions) == count
        assert whole.relevance == {passage.id: {passage.id: 1} for passage in whole.passages}
    assert main(arguments) == 2
    assert "sets/train: is there already; delete it or name another folder" in capsys.readouterr().err


def test_speech_that_nobody_asks_about_becomes_data_directories(make_table, tmp_path: Path):
    assert main(["data", "make", str(make_table(False)), str(tmp_path / "sets")]) == 0
    assert [utterance.text for utterance in read_data_dir(tmp_path / "sets" / "test")] == ["red dog"]
    assert not (tmp_path / "sets" / "test" / "qrels").exists()


def test_a_split_without_questions_is_refused(make_table, tmp_path: Path, passages):
    splits = {"train": passages[:5], "dev": [Passage(passages[5].utterance, 1)], "test": passages[6:8]}
    with pytest.raises(InputError, match="dev: none of its 1 passages has a question"):
        write_sets(splits, tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_faults_leave_nothing_behind(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = table(corpus, HEADER + "r1,a.wav,,,,,\nr2,none.wav,,,two,,\nr3,none.wav,,,three,,\n")
    assert main(["data", "make", str(path), str(tmp_path / "sets")]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2  # the missing recording is named once
    assert lines[0].startswith(f"{path}:2: r1: transcript is missing") and lines[1].startswith(f"{path}:3: r2: ")
    assert not (tmp_path / "sets").exists()
