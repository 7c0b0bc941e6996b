import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clsr.cli.main import main
from clsr.errors import InputError
from clsr.evaluation.typeset import Table
from clsr.paper.config import TABLE_NAMES
from clsr.paper.tables import _TABLES, SYSTEMS, make_tables

Write = Callable[..., Path]

MINI = {"dataset": "mini", "split": "test", "seed": "0"}


def make(folder: Path, name: str) -> Table:
    (table,) = make_tables([folder], [name])
    return table


def cells(table: Table, model: str, block: int = 0) -> list[str]:
    """The row of a block whose model is this one."""
    at = [column.title for column in table.columns].index("Model")
    (row,) = [row for row in table.blocks[block] if row[at] == model]
    return row


def test_table_2_has_the_papers_layout(tmp_path: Path, write_result: Write) -> None:
    systems = ("clsr", "whisper-bge", "speechdpr", "clap", "text")
    write_result(tmp_path, MINI, dict.fromkeys(systems, 0.75) | {"clsr": 0.5})
    table = make(tmp_path, "2")
    header = "Dataset Model Paradigm Question Context WER Q-C R@1 Q-C R@5 Q-C R@10 C-Q R@1 C-Q R@5 C-Q R@10"
    assert " ".join(column.name for column in table.columns) == header
    ((first, *_),) = table.blocks
    assert first[:6] == ["mini (test)", "text encoder, oracle (text)", "E2E", "Text", "Text", "0"]
    assert cells(table, "CLSR, hard codes (clsr)") == [
        "", "CLSR, hard codes (clsr)", "E2E", "Text", "Speech", "10.0",
        "50.0 [45.0, 55.0]", "60.0 [55.0, 65.0]", "70.0 [65.0, 75.0]",
        "40.0 [35.0, 45.0]", "50.0 [45.0, 55.0]", "60.0 [55.0, 65.0]",
    ]  # fmt: skip
    order = [row[1] for row in table.blocks[0]]
    paper = [
        "text encoder, oracle (text)",
        "CLAP (clap)",
        "SpeechDPR (speechdpr)",
        "Whisper + text encoder (whisper-bge)",
        "CLSR, hard codes (clsr)",
    ]
    assert order == paper


def test_training_stands_beside_the_recalls(tmp_path: Path, write_result: Write) -> None:
    released = {"start": "release", "before": {"steps": 0, "seconds": 0.0, "examples": 0}, "metric": "",
                "questions": "", "converged": False, "curve": []}  # fmt: skip
    for seed, steps in (("0", 100), ("1", 300)):
        file = write_result(tmp_path / seed, MINI | {"seed": seed}, {"parabge": 0.5, "whisper-bge": 0.5, "clsr": 0.5})
        content = json.loads(file.read_text())
        point = {"step": steps, "value": 0.5, "seconds": steps / 10, "examples": 32 * steps}
        trained = {"start": "nothing", "before": {"steps": 1000, "seconds": 60.0, "examples": 5000}, "curve": [point],
                   "metric": "dev/recall@1", "questions": "typed", "converged": seed == "0"}  # fmt: skip
        content["rows"][0]["training"], content["rows"][1]["training"] = trained, released
        file.write_text(json.dumps(content))
    table = make(tmp_path, "4")
    header = ["Training Start", "Training Steps", "Training Seconds", "Training Examples"]
    assert [column.name for column in table.columns][-4:] == header
    # means of both seeds, of which one ended at its limit of steps
    assert cells(table, "ParaBGE (parabge)")[-4:] == ["nothing", "1,200 †", "80", "11,400"]
    assert cells(table, "CLSR, hard codes (clsr)")[-4:] == ["–"] * 4
    assert cells(make(tmp_path, "7"), "Whisper + text encoder (whisper-bge)")[-4:] == ["release", "–", "–", "–"]


def test_what_was_not_run_is_named_below(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path, MINI, {"clsr": 0.5})
    table = make(tmp_path, "2")
    assert [row[1] for row in table.blocks[0]] == ["CLSR, hard codes (clsr)"]
    missing = ("text", "clap", "speechdpr", "whisper-bge", "funasr-bge", "cascade", "cascade-8best", "clsr-soft")
    names = ", ".join(f"{SYSTEMS[name].label} ({name})" for name in missing)
    assert (
        f"Not run: {names} on any set of this table; the paper's Spoken-SQuAD*, LibriSQA, SLUE-SQA-5, DRCD*."
        in table.notes
    )
    for name in ("3", "5", "noise", "gains"):
        assert (make(tmp_path, name).blocks, make(tmp_path, name).notes) == ([], [])


def test_systems_of_some_sets_are_named_with_them(tmp_path: Path, write_result: Write) -> None:
    for dataset, systems in {"a": ("clsr", "parabge"), "b": ("clsr",), "c": ("clsr", "clsr-soft", "parabge")}.items():
        write_result(tmp_path / dataset, {"dataset": dataset}, dict.fromkeys(systems, 0.5))
    missing = (
        "ParaBGE (parabge) on b; CLSR, soft codes (clsr-soft) on any set of this table but c; the paper's Spoken-SQuAD,"
    )
    assert any(note.startswith(f"Not run: {missing}") for note in make(tmp_path, "4").notes)


def test_seeds_are_a_mean_with_lowest_and_highest(tmp_path: Path, write_result: Write) -> None:
    for seed, recall, errors in (("0", 0.5, 100), ("1", 0.6, 130), ("2", 0.4, 100)):
        write_result(tmp_path / seed, MINI | {"seed": seed}, {"clsr": recall}, errors)
    write_result(tmp_path / "whisper", MINI, {"whisper-bge": 0.7})
    table = make(tmp_path, "2")
    assert cells(table, "CLSR, hard codes (clsr)")[5:7] == ["11.0 [10.0, 13.0]", "50.0 [40.0, 60.0]"]
    assert cells(table, "Whisper + text encoder (whisper-bge)")[6] == "70.0 [65.0, 75.0]"  # one seed: its interval
    assert "Seeds of mini (test): 0, 1, 2; whisper-bge: 0." in table.notes


def test_the_papers_rows_follow_ours(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path, {"dataset": "slue_sqa5", "split": "test"}, {"clsr": 0.5})
    table = make(tmp_path, "2")
    rows = table.blocks[0]
    at = [row[1] for row in rows].index("CLSR, hard codes (clsr)")
    assert rows[at][:6] == ["", "CLSR, hard codes (clsr)", "E2E", "Speech", "Speech", "10.0"]
    printed = "16.69 30.65 62.19 74.43 29.89 62.18 73.05".split()
    assert rows[at + 1] == ["", "paper: CLSR", "E2E", "Speech", "Speech", *printed]
    assert not any(row[1] == "CLAP (clap)" for row in rows)
    assert cells(table, "paper: CLAP")[3:7] == ["Text", "Speech", "–", "11.17"]  # as it is printed
    assert cells(table, "paper: SpeechDPR")[5:] == ["–", "–", "–", "19.94*", "–", "–", "–"]


def test_main_tables_leave_out_noise_ablation_checkpoints(tmp_path: Path, write_result: Write) -> None:
    for number, tag in enumerate(({}, {"snr_db": "10"}, {"step": "400"}, {"training": "no-vq"})):
        write_result(tmp_path / str(number), MINI | tag, {"clsr": number / 4, "parabge": 0.1})
    for name in ("2", "4", "6", "7"):
        assert len(make(tmp_path, name).blocks) == 1


def test_table_3_has_the_papers_settings_below_ours(tmp_path: Path, write_result: Write) -> None:
    tags = dict(zip(("pretrain_asr", "pretrain_text", "vq", "sampler", "post"), ("no", "no", "yes", "no", "no")))
    write_result(tmp_path / "a", {"dataset": "spoken_squad"} | tags, {"clsr": 0.5, "clsr-soft": 0.6})
    table = make(tmp_path, "3")
    (block,) = table.blocks
    assert len(block) == 2 + 8  # both codes of the one that was run
    assert block[0][:8] == ["✗", "✗", "✗", "✗", "✗", "paper: CLSR", "Spoken-SQuAD", "16.13"]
    write_result(tmp_path / "no-vq", {"dataset": "spoken_squad"} | tags | {"vq": "no"}, {"clsr-unquantised": 0.4})
    ((unquantised, *_),) = make(tmp_path, "3").blocks
    assert unquantised[2] == "✗" and unquantised[5] == "CLSR, all rows mixed (clsr-unquantised)"
    assert [row[5] for row in block[1:4]] == ["CLSR, hard codes (clsr)", "CLSR, soft codes (clsr-soft)", "paper: CLSR"]
    assert block[1][7:9] == ["10.0", "50.0 [45.0, 55.0]"]
    assert block[3][:5] == ["✗", "✗", "✓", "✗", "✗"]
    assert block[3][7:9] == ["17.00", "42.52"]
    missing = "✗✗✗✗✗, ✗✗✓✗✓, ✗✓✓✗✗, ✗✓✓✗✓, ✓✓✓✗✗, ✓✓✓✓✗, ✓✓✓✓✓"
    assert f"Not run: {missing} on Spoken-SQuAD." in table.notes
    write_result(tmp_path / "b", MINI | {"vq": "yes"}, {"clsr": 0.5})
    with pytest.raises(InputError, match="b/report.json: its tags have pretrain_asr=nothing, .* yes or no"):
        make(tmp_path, "3")


def test_the_papers_drcd_is_what_people_read(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path / "dev", {"dataset": "drcd_dev", "split": "test"}, {"clsr": 0.5})
    table = make(tmp_path, "2")
    assert [row[:5] for row in table.blocks[0]] == [
        ["drcd_dev (test)", "CLSR, hard codes (clsr)", "E2E", "Speech", "Speech"]
    ]
    write_result(tmp_path / "people", {"dataset": "drcd", "split": "odsqa"}, {"clsr": 0.5})
    assert "paper: CLSR" in [row[1] for row in make(tmp_path, "2").blocks[0]]


def test_figures_without_a_column_stand_below(tmp_path: Path, write_result: Write) -> None:
    written = write_result(tmp_path, MINI, {"clsr": 0.5, "whisper-bge": 0.4})
    assert not any("success" in note or "normaliser" in note for note in make(tmp_path, "2").notes)
    content = json.loads(written.read_text())
    content["rows"][0]["wer"]["english"] = {"value": 0.08, "errors": 80, "words": 1000}
    content["rows"][0]["c2q"]["success@1"] = {"value": 0.7, "low": 0.6, "high": 0.8}
    written.write_text(json.dumps(content))
    english, meaning, success = make(tmp_path, "2").notes[-3:]
    assert english == "WER by Whisper's English normaliser: mini (test): clsr 8.0."
    assert meaning.startswith("Where a passage answers several questions") and "suggests recall" in meaning
    assert success == "C-Q success@1: mini (test): clsr 70.0."


def test_table_4_and_7_compare_with_their_baselines(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path, {"dataset": "librisqa"}, {"parabge": 0.25, "clsr": 0.5, "whisper-bge-noisy": 0.5})
    assert [row[1] for row in make(tmp_path, "4").blocks[0]] == [
        "ParaBGE (parabge)", "paper: ParaBGE", "CLSR, hard codes (clsr)", "paper: CLSR",
    ]  # fmt: skip
    assert cells(make(tmp_path, "4"), "ParaBGE (parabge)")[3:5] == ["–", "25.0 [20.0, 30.0]"]
    assert cells(make(tmp_path, "7"), "paper: Whisper+BGE*")[2:4] == ["4.32", "84.54"]
    assert cells(make(tmp_path, "7"), "Whisper + fine-tuned text encoder (whisper-bge-noisy)")[3] == "50.0 [45.0, 55.0]"


def test_table_5_has_no_answers_without_an_answerer(tmp_path: Path, write_longform: Write) -> None:
    write_longform(tmp_path, {"dataset": "slue_sqa5"}, answerer=None)
    table = make(tmp_path, "5")
    (block,) = table.blocks
    assert {len(row) for row in block} == {len(table.columns)}
    whole, top = block[:2]
    assert whole[:7] == ["SLUE-SQA-5", "✗", "whole recording", "not run", "not run", "not run", "–"]
    assert whole[7:] == ["1800.0", "75.0 [70.0, 80.0]", "–"]
    assert top[3:7] == ["25.0 [20.0, 30.0]", "50.0 [45.0, 55.0]", "12.5", "–"]  # nothing to be faster than
    assert [row[1:7] for row in block[2:]] == [
        ["✗", "paper: whole recording", "18.00", "23.55", "7935.00", "1.00X"],
        ["✓", "paper: top 1 window of 40 s", "27.60", "35.10", "783.00", "10.13X"],
    ]


def test_table_5_has_speeds_beside_the_whole_recording(tmp_path: Path, write_longform: Write) -> None:
    write_longform(tmp_path, {"dataset": "mini"}, answerer="reader")
    ((whole, top),) = make(tmp_path, "5").blocks
    assert whole[3:7] == ["12.5 [7.5, 17.5]", "25.0 [20.0, 30.0]", "100.0", "1.00X"]
    assert top[:3] == ["", "✓", "clsr-soft top 1, all"]
    assert top[5:] == ["12.5", "8.00X", "40.0", "50.0 [45.0, 55.0]", "12.5 [7.5, 17.5]"]


def test_table_6_has_speeds_beside_whisper(tmp_path: Path, write_result: Write) -> None:
    tags = {"dataset": "librisqa"}
    write_result(tmp_path / "a", tags, {"clsr": 0.5}, seconds=10)
    assert cells(make(tmp_path, "6"), "CLSR, hard codes (clsr)")[5:] == ["10.0", "–"]
    write_result(tmp_path / "b", tags, {"whisper-bge": 0.5}, seconds=75)
    assert cells(make(tmp_path, "6"), "CLSR, hard codes (clsr)")[5:] == ["10.0", "7.50X"]
    assert cells(make(tmp_path, "6"), "Whisper + text encoder (whisper-bge)")[5:] == ["75.0", "1.00X"]
    assert cells(make(tmp_path, "6"), "paper: CLSR")[2:] == ["4.09", "85.04", "85.53", "186.00", "7.91X"]


def test_mixed_hardware_is_refused_in_table_6(tmp_path: Path, write_result: Write) -> None:
    tags = {"dataset": "librisqa"}
    write_result(tmp_path / "a", tags, {"clsr": 0.5})
    write_result(tmp_path / "b", tags, {"whisper-bge": 0.5}, hardware="4 cores")
    write_result(tmp_path / "c", tags, {"text": 0.5}, hardware="8 cores")
    with pytest.raises(InputError, match=r"table 6: its systems were timed on different hardware \(2 cores; 4 cores"):
        make(tmp_path, "6")
    assert make(tmp_path, "2").blocks
    (table,) = [table for table in make_tables([tmp_path]) if table.name == "6"]
    assert not table.blocks and table.notes[0].startswith("Not shown: timed on different hardware (2 cores; 4 cores")
    shutil.rmtree(tmp_path / "b")
    assert make(tmp_path, "6").blocks


def test_mixed_hardware_is_refused_in_table_5(tmp_path: Path, write_longform: Write) -> None:
    for seed in ("0", "1"):
        write_longform(tmp_path / seed, {"dataset": "mini", "seed": seed}, "reader", hardware=f"machine {seed}")
    with pytest.raises(InputError, match="table 5: its systems were timed on different hardware"):
        make(tmp_path, "5")


def test_gains_count_the_seeds_above_0(tmp_path: Path, write_result: Write) -> None:
    where = {"a": "clsr-soft", "b": "cascade", "direction": "q2c", "metric": "recall@1"}
    for seed, value, low, high in (("0", 0.05, 0.01, 0.09), ("1", 0.02, -0.01, 0.05)):
        systems = {"clsr-soft": 0.6, "cascade": 0.5}
        interval = {"value": value, "low": low, "high": high}
        tags = MINI | {"seed": seed, "snr_db": "10"}
        write_result(tmp_path / seed, tags, systems, differences=[where | interval])
    ((line,),) = make(tmp_path, "gains").blocks
    assert line[:3] == ["mini (test) noise 10 dB", "clsr-soft − cascade", "+3.5 [+2.0, +5.0]"]
    assert line[3:] == ["[+1.0, +9.0], [-1.0, +5.0]", "1 of 2"]


def test_summary_has_a_line_a_set(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path / "clean", MINI, {"text": 0.9, "cascade": 0.5, "clsr-soft": 0.6, "clsr": 0.5})
    write_result(tmp_path / "noise", MINI | {"snr_db": "10"}, {"cascade": 0.3, "clsr-soft": 0.4, "parabge": 0.1})
    write_result(tmp_path / "early", MINI | {"step": "150"}, {"clsr-soft": 0.2})
    table = make(tmp_path, "summary")
    titles = ["Dataset", "WER", "R@1: no recogniser", "R@1: transcript", "R@1: 8 transcripts", "R@1: CLSR, soft codes"]
    assert [column.name for column in table.columns] == [*titles, "R@1: oracle"]
    assert [[cell.split(" [")[0] for cell in row] for block in table.blocks for row in block] == [
        ["mini", "10.0", "–", "50.0", "–", "60.0", "90.0"],
        ["mini, noise 10 dB", "10.0", "10.0", "30.0", "–", "40.0", "–"],
    ]
    assert table.notes == [
        "In percent. Several seeds: mean [lowest, highest]. A single report: value [95 % bootstrap interval]."
    ]


def test_summary_says_seeds_characters_and_unnamed_sets(tmp_path: Path, write_result: Write) -> None:
    for seed in ("0", "1"):
        tags = {"dataset": "drcd_selection", "split": "dev", "seed": seed}
        write_result(tmp_path / seed, tags, {"clsr-soft": 0.5}, unit="character")
    table = make(tmp_path, "summary")
    assert table.blocks[0][0][0] == "drcd_selection (dev)"
    assert table.notes == [
        "In percent; mean of 2 seeds [lowest, highest].",
        "The WER of Chinese sets is a character error rate.",
    ]


def test_noise_goes_from_loud_to_clean(tmp_path: Path, write_result: Write) -> None:
    for ratio, recall, errors in (("clean", 0.75, 50), ("10", 0.5, 200), ("0", 0.25, 600)):
        systems = {"clsr": recall} if ratio == "0" else {"clsr": recall, "parabge": 0.05}
        write_result(tmp_path / ratio, MINI | {"snr_db": ratio}, systems, errors)
    table = make(tmp_path, "noise")
    assert [column.title for column in table.columns[4:]] == ["0 dB", "10 dB", "clean"]
    parabge, recall, wer = table.blocks[0]
    assert recall[2:] == [
        "CLSR, hard codes (clsr)",
        "Q-C R@1",
        "25.0 [20.0, 30.0]",
        "50.0 [45.0, 55.0]",
        "75.0 [70.0, 80.0]",
    ]
    assert wer[2:] == ["CLSR, hard codes (clsr)", "WER", "60.0", "20.0", "5.0"]
    assert parabge[2:5] == ["ParaBGE (parabge)", "Q-C R@1", "not run"]


def test_chinese_rates_are_said_to_be_of_characters(tmp_path: Path, write_result: Write) -> None:
    write_result(tmp_path / "a", {"dataset": "drcd"}, {"clsr": 0.5}, unit="character")
    write_result(tmp_path / "b", {"dataset": "mine"}, {"clsr": 0.5}, unit="character")
    write_result(tmp_path / "c", MINI, {"clsr": 0.5})
    assert "The WER of DRCD* and mine is a character error rate." in make(tmp_path, "2").notes
    assert not any("character" in note for note in make(tmp_path / "c", "2").notes)


def test_nothing_to_make_tables_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report.json at or below it"):
        make_tables([tmp_path])


def test_every_table_has_a_name_for_the_command() -> None:
    assert {*_TABLES, "5"} == set(TABLE_NAMES)


def test_the_command_prints_writes_and_inserts(
    tmp_path: Path, write_result: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "exp", MINI, {"parabge": 0.25, "clsr": 0.5})
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: begin -->\n<!-- results: end -->\n")
    arguments = ["tables", str(tmp_path / "exp"), "--only", "5", "4", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--into", str(readme)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "### Table 4. A traditional end-to-end contrastive model and CLSR"
    assert printed.strip() in readme.read_text()
    names = [f"table-{number}.{suffix}" for number in "45" for suffix in ("csv", "md", "tex")]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    readme.write_text("no markers")
    assert main([*arguments[:2], "--into", str(readme), "--output", str(tmp_path / "never")]) == 2
    assert capsys.readouterr().err.startswith(f"clsr: {readme}: needs the lines")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("kind", ["learning", "recall", "wer-recall", "noise", "alignment"])
def test_unknown_figure_suffixes_are_refused_first(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", "absent", "--set", "absent", "--question", "q"] if kind == "alignment" else ["absent"]
    assert main(["plot", kind, *given, "--output", str(tmp_path / "figure.jpeg")]) == 2
    assert capsys.readouterr().err == (
        f"clsr: {tmp_path / 'figure.jpeg'}: figures are written as .png or .svg: name such a file\n"
    )
