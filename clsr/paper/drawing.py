"""What all figures share: a canvas without a display, axes in one style, files that are whole or absent."""

from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 150
_FORMATS = (".png", ".svg")


def image_format(output: Path) -> str:
    """Return ``png`` or ``svg``, by the suffix of a file.

    Raises:
        InputError: it is another.
    """
    if output.suffix.lower() not in _FORMATS:
        raise InputError(f"{output}: figures are written as {' or '.join(_FORMATS)}: name such a file")
    return output.suffix.lower()[1:]


def new_figure(width_inches: float, height_inches: float) -> "Figure":
    """Return an empty figure drawn by Agg, apart from pyplot and its global state.

    Raises:
        InputError: matplotlib is not installed.
    """
    require("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish_axes(axes: "Axes", legend: bool = True) -> None:
    """Put a light grid behind, take off the box, and name what there is to name beside the panel."""
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)


def save_figure(figure: "Figure", output: Path) -> None:
    """Write a PNG or SVG file under a temporary name, then rename it; the same figure gives the same bytes.

    Raises:
        InputError: the suffix is neither.
    """
    from matplotlib import rc_context

    kind = image_format(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(output.name + ".tmp")
    try:
        with rc_context({"svg.hashsalt": "clsr"}):  # ids within an SVG are random without
            dated = {"Date": None} if kind == "svg" else {}
            figure.savefig(unfinished, dpi=_DOTS_PER_INCH, format=kind, metadata=dated)
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
