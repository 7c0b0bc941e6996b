from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from clsr.errors import InputError
from clsr.metrics.recall import Interval
from clsr.paper import trends
from clsr.paper.trends import Point, describe_trend, noise_curves, read_points, rises, wer_recall

Write = Callable[..., Path]

MINI = {"dataset": "mini", "split": "test"}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn, in order."""
    drawn: list[Figure] = []

    def keep(*size: float) -> Figure:
        drawn.append(make(*size))
        return drawn[-1]

    make = trends.new_figure
    monkeypatch.setattr(trends, "new_figure", keep)
    return drawn


def point(wer: float, value: float, row: str = "clsr-soft", width: float = 0.05) -> Point:
    interval = Interval(value, value - width, value + width)
    return Point(row, "noise", (), wer, dict.fromkeys(("recall@1", "recall@5", "recall@10"), interval))


def test_falling_and_uncertain_curves_do_not_rise() -> None:
    assert rises([point(0.1, 0.9), point(0.2, 0.7), point(0.3, 0.5)], "recall@1") == []
    assert rises([point(0.1, 0.5), point(0.2, 0.59)], "recall@1") == []  # 0.45 to 0.55 and 0.54 to 0.64 overlap
    assert rises([point(0.1, 0.5), point(0.1, 0.9)], "recall@1") == []  # no more errors
    assert rises([point(0.1, 0.5)], "recall@1") == []


def test_rises_are_found_between_distant_points() -> None:
    low, between, high = point(0.1, 0.5), point(0.2, 0.58), point(0.3, 0.66)
    assert rises([high, low, between], "recall@1") == [(low, high)]


def test_the_trend_is_said_of_each_row() -> None:
    points = [point(0.016, 0.9), point(0.1, 0.8), point(0.1, 0.5, "cascade"), point(0.2, 0.7, "cascade")]
    lines = describe_trend(points)
    assert lines[0] == "clsr-soft recall@1, 2 points, WER 1.6 to 10.0 %: monotone within its intervals"
    assert lines[3] == (
        "cascade recall@1, 2 points, WER 10.0 to 20.0 %: not monotone, 1 pairs rise significantly "
        "(WER 10.0 %: 50.0 [45.0, 55.0] and WER 20.0 %: 70.0 [65.0, 75.0]), 1 of them of one kind"
    )
    assert len(lines) == 6
    early = points[3]._replace(varied="earlier checkpoint")
    assert describe_trend([points[2], early])[0].endswith("75.0]), none of them of one kind of variation")


def test_points_say_what_was_varied(tmp_path: Path, write_result: Write) -> None:
    systems = {"clsr-soft": 0.5, "cascade": 0.4, "text": 0.9, "clsr": 0.4}
    kinds = [MINI, MINI | {"snr_db": "5"}, MINI | {"step": "400"}, {"dataset": "mini", "split": "test_unseen"},
             MINI | {"question_snr_db": "5"}]  # fmt: skip
    folders = [write_result(tmp_path / str(n), tags, systems, 100 * (n + 1)).parent for n, tags in enumerate(kinds)]
    points = read_points(folders)
    assert [(p.row, p.varied, p.wer) for p in points if p.row == "cascade"] == [
        ("cascade", "as trained", 0.1),
        ("cascade", "noise", 0.2),
        ("cascade", "earlier checkpoint", 0.3),
        ("cascade", "unseen voice", 0.4),
    ]
    assert len(points) == 8


def test_wer_recall_draws_points_intervals_and_seeds(
    tmp_path: Path, figures: list[Figure], write_result: Write
) -> None:
    alone = write_result(tmp_path / "a", MINI, {"clsr-soft": 0.5}, 100)
    seeds = [
        write_result(tmp_path / seed, MINI | {"snr_db": "5", "seed": seed}, {"clsr-soft": recall}, errors)
        for seed, recall, errors in (("0", 0.3, 200), ("1", 0.36, 300))
    ]
    lines = wer_recall([alone, *seeds], tmp_path / "figure.svg")
    assert lines[0] == "clsr-soft recall@1, 3 points, WER 10.0 to 30.0 %: monotone within its intervals"
    panel = figures[0].axes[0]
    bars = [bar for bar in panel.containers if isinstance(bar, ErrorbarContainer)]
    assert [bar.lines[0].get_xydata()[0].tolist() for bar in bars] == [[10, 50], [20, 30], [30, 36]]
    assert [bar.lines[0].get_alpha() for bar in bars] == [1, 0.35, 0.35]
    whisker = np.asarray(bars[0].lines[2][0].get_segments()[0])
    assert whisker[:, 1].tolist() == pytest.approx([45, 55])
    of_bars = [part for bar in bars for part in (bar.lines[0], *bar.lines[1])]
    mean, curve = [line for line in panel.lines if line not in of_bars]
    assert np.allclose(mean.get_xydata(), [[25, 33]]) and np.allclose(curve.get_xydata(), [[10, 50], [25, 33]])
    assert [panel.get_title() for panel in figures[0].axes] == ["Q-C recall@1", "Q-C recall@5", "Q-C recall@10"]
    legend = figures[0].axes[-1].get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["clsr-soft", "as trained", "noise"]


def test_noise_curves_go_up_to_clean_speech(tmp_path: Path, figures: list[Figure], write_result: Write) -> None:
    for ratio, recall in (("clean", 0.75), ("0", 0.25), ("10", 0.5)):
        write_result(tmp_path / ratio, MINI | {"snr_db": ratio}, {"clsr": recall})
        write_result(tmp_path / f"q{ratio}", MINI | {"question_snr_db": ratio}, {"clsr": recall + 0.1, "text": 0.9})
    noise_curves([tmp_path], tmp_path / "figure.png")
    passages, questions = figures[0].axes
    assert passages.get_title() == "mini (test): noise in passages"
    assert questions.get_title() == "mini (test) spoken questions: noise in questions"
    assert [label.get_text() for label in passages.get_xticklabels()] == ["0", "10", "clean"]
    (bar,) = passages.containers
    assert isinstance(bar, ErrorbarContainer)
    assert bar.lines[0].get_xydata().tolist() == [[0, 25], [1, 50], [2, 75]]
    assert np.asarray(bar.lines[2][0].get_segments()[1])[:, 1].tolist() == pytest.approx([45, 55])
    assert len(questions.containers) == 2
    legend = questions.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["text", "clsr"]


def test_seeds_of_a_ratio_show_mean_and_range(tmp_path: Path, figures: list[Figure], write_result: Write) -> None:
    for seed, recall in (("0", 0.3), ("1", 0.5), ("2", 0.7)):
        write_result(tmp_path / seed, MINI | {"snr_db": "5", "seed": seed}, {"clsr": recall, "text": 0.9})
    noise_curves([tmp_path], tmp_path / "figure.png")
    text, clsr = figures[0].axes[0].containers
    assert isinstance(clsr, ErrorbarContainer) and isinstance(text, ErrorbarContainer)
    assert clsr.lines[0].get_ydata().tolist() == pytest.approx([50])
    assert np.asarray(clsr.lines[2][0].get_segments()[0])[:, 1].tolist() == pytest.approx([30, 70])


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, write_result: Write) -> None:
    file = write_result(tmp_path / "run", MINI, {"text": 0.5})
    with pytest.raises(InputError, match="no row clsr-soft or cascade with word errors and recall"):
        wer_recall([file], tmp_path / "figure.png")
    with pytest.raises(InputError, match="no report with a tag snr_db or question_snr_db"):
        noise_curves([file], tmp_path / "figure.png")
    for draw in (wer_recall, noise_curves):
        with pytest.raises(InputError, match="figure.jpg: figures are written as .png or .svg"):
            draw([file], tmp_path / "figure.jpg")
