import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clsr.errors import InputError
from clsr.evaluation.report import write_report
from clsr.evaluation.scores import ModelInfo, Report, ReportRow, Retrieval
from clsr.metrics.recall import Interval
from clsr.paper import plots
from clsr.paper.plots import _run_names, learning_curve, recall_bars


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, in order."""
    drawn: list[Figure] = []

    def keep(*size: float) -> Figure:
        drawn.append(make(*size))
        return drawn[-1]

    make = plots.new_figure
    monkeypatch.setattr(plots, "new_figure", keep)
    return drawn


def write_metrics(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def write_bars(folder: Path, *rows: ReportRow) -> Path:
    model = ModelInfo("exp/joint", "0123456789abcdef", 1_600_000)
    write_report(Report("data/test", 4, 4, model, "clsr evaluate", "abc1234", "2 cores", 0, list(rows)), folder)
    return folder


def bars(name: str, value: float) -> ReportRow:
    interval = Interval(value, value - 0.1, value + 0.05)
    return ReportRow(name, q2c=Retrieval(dict.fromkeys(("recall@1", "recall@5", "recall@10", "mrr@10"), interval), []))


def test_learning_curve_draws_the_logged_values(tmp_path: Path, figures: list[Figure]) -> None:
    file = write_metrics(
        tmp_path / "asr" / "metrics.csv",
        "dev/wer,epoch,learning_rate,step,train/loss",
        ",0,0.001,10,3.5",
        "0.5,0,,20,",
        ",1,0.001,30,2.5",
        "0.25,1,,40,",
    )
    learning_curve([file], tmp_path / "new" / "curve.png")
    rates, losses = figures[0].axes
    assert [line.get_label() for line in rates.lines + losses.lines] == ["dev/wer", "train/loss"]
    assert np.array_equal(rates.lines[0].get_xydata(), [[20, 50], [40, 25]])
    assert np.array_equal(losses.lines[0].get_xydata(), [[10, 3.5], [30, 2.5]])
    assert (rates.get_ylabel(), losses.get_xlabel()) == ("word error rate (%)", "training step")
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["curve.png"]


def test_learning_curves_name_runs_by_their_differences(tmp_path: Path, figures: list[Figure]) -> None:
    files = [write_metrics(tmp_path / run / "metrics.csv", "step,loss", "1,2.0") for run in ("asr", "joint/v1.5")]
    learning_curve(files, tmp_path / "curve.png")
    (losses,) = figures[0].axes  # no panel for a word error rate that nobody logged
    assert [line.get_label() for line in losses.lines] == ["asr loss", "joint/v1.5 loss"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["step,learning_rate", "1,0.1"], "no column with a word error rate, a recall or a loss"),
        (["epoch,loss", "1,0.1"], "not a table of numbers with a step column"),
        (["step,loss", "1,abc"], "not a table of numbers with a step column"),
    ],
)
def test_learning_curve_refuses_a_file_by_name(tmp_path: Path, lines: list[str], message: str) -> None:
    file = write_metrics(tmp_path / "run" / "metrics.csv", *lines)
    with pytest.raises(InputError, match=f"metrics.csv: {message}"):
        learning_curve([file], tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


def test_learning_curve_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent.csv: No such file"):
        learning_curve([tmp_path / "absent.csv"], tmp_path / "curve.png")


def test_bars_show_recall_and_whiskers_its_interval(tmp_path: Path, figures: list[Figure]) -> None:
    folder = write_bars(tmp_path / "run", bars("text", 0.9), ReportRow("whisper-bge"), bars("clsr", 0.625))
    recall_bars([folder], tmp_path / "bars.png")
    (panel,) = figures[0].axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["text", "clsr"]  # no bar for the unmeasured
    heights = [bar.get_height() for bar in panel.patches if isinstance(bar, Rectangle)]
    assert heights == pytest.approx([90, 62.5] * 3)
    assert [text.get_text() for text in panel.texts] == ["90.0", "62.5"] * 3
    whisker = panel.collections[0].get_paths()[1]
    assert np.asarray(whisker.vertices)[:, 1].tolist() == pytest.approx([52.5, 67.5])
    assert panel.get_legend_handles_labels()[1] == ["recall@1", "recall@5", "recall@10"]
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_recall_bars_have_a_panel_for_each_report(tmp_path: Path, figures: list[Figure]) -> None:
    folders = [write_bars(tmp_path / run, bars("clsr", 0.5)) for run in ("first", "second")]
    recall_bars([folders[0], folders[1] / "report.json"], tmp_path / "bars.png")
    assert [panel.get_title("left") for panel in figures[0].axes] == ["first: data/test", "second: data/test"]


def test_recall_bars_refuse_a_report_without_recall(tmp_path: Path) -> None:
    folder = write_bars(tmp_path / "run", ReportRow("clsr"))
    with pytest.raises(InputError, match="run: no row was measured on questions"):
        recall_bars([folder], tmp_path / "bars.png")


def test_matplotlib_waits_until_something_is_drawn() -> None:
    code = "import sys, clsr.paper.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_runs_are_named_by_what_tells_them_apart(tmp_path: Path):
    def names(*paths: str) -> list[str]:
        return _run_names([tmp_path / path for path in paths])

    assert names("exp/asr/logs/csv/metrics.csv", "exp/joint/logs/csv/metrics.csv") == ["asr", "joint"]
    assert names("a/logs/metrics.csv", "b/c/metrics.csv") == ["a/logs", "b/c"]
    assert names("x/one.csv", "x/two.csv") == ["one.csv", "two.csv"]
    assert names("x/one.csv", "x/one.csv") == [".", "."]
    assert names("x/one.csv") == [""]
