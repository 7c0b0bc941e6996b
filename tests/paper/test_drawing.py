from pathlib import Path

import pytest

from clsr.errors import InputError
from clsr.paper.drawing import new_figure, save_figure


def draw(output: Path) -> bytes:
    figure = new_figure(2, 1)
    figure.subplots().plot([0, 1], [1, 0])
    save_figure(figure, output)
    return output.read_bytes()


def test_the_suffix_says_what_is_written(tmp_path: Path) -> None:
    assert draw(tmp_path / "new" / "a.png").startswith(b"\x89PNG")
    assert b"<svg" in draw(tmp_path / "a.SVG")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_figure_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    first = draw(tmp_path / f"a.{suffix}")
    assert first == draw(tmp_path / f"b.{suffix}")
    assert b"dc:date" not in first


@pytest.mark.parametrize("name", ["a.gif", "a", "a.pdf"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: figures are written as .png or .svg"):
        draw(tmp_path / name)
    assert not list(tmp_path.iterdir())
