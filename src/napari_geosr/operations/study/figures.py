"""Pictures of a study's report: curves over projections or exposure, and slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.figure_png import as_label, as_png
from napari_geosr.core.types import AnyMapping
from napari_geosr.operations.study.subset import (
    ScanSubset,
    is_over_exposure,
    share_text,
)

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

Theme = Literal["light", "dark"]
Picture = npt.NDArray[np.uint8]

_INK = {"light": "#222222", "dark": "#e6e6e6"}
_PAPER = {"light": "#ffffff", "dark": "#1b1d21"}
#: Colour-blind-safe palette of Okabe and Ito, plus two colours; each with a marker.
_COLOURS = (
    "#d55e00",
    "#0072b2",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c8c8c",
    "#9467bd",
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: Line styles of the exposures, longest exposure first.
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (1, 4)), (0, (6, 2, 1, 2, 1, 2)))
_LINE_WORDS = ("full", "dashed", "dash-dotted", "dotted", "loosely dotted")
#: Plotted metrics: key, title, factor, and whether only the magnitude matters.
_PANELS: tuple[tuple[str, str, float, bool], ...] = (
    ("porosity_error", "|porosity error| (%)", 100, True),
    ("pores_per_mm3_error", "|pores per mm³ error| (%)", 100, True),
    ("volume_histogram_distance", "pore-volume distance (decades)", 1, False),
    ("euler_error", "|Euler number error| (%)", 100, True),
    ("dice", "Dice coefficient of the pores", 1, False),
    ("psnr", "PSNR (dB)", 1, False),
    ("ssim", "SSIM", 1, False),
    ("seconds", "seconds, training included", 1, False),
)
#: Relative errors span decades, so the axis is linear below this value, in per cent,
#: and logarithmic above.
_LINEAR = 1.0


def curves_png(
    rows: Sequence[AnyMapping],
    names: Sequence[str],
    theme: Theme,
    tolerance: float,
) -> bytes:
    """Plot every metric against the number of projections, one line per algorithm.

    Each exposure has its own line style; with a single number of projections, metrics
    are plotted against the exposure. The range of correct porosities, within the
    relative `tolerance`, is shaded.

    Parameters
    ----------
    rows : sequence of mapping
        Finished cells of the study, with their values.
    names : sequence of str
        Algorithms, in the order of the legend.
    theme : {"light", "dark"}
    tolerance : float
        Maximum relative error at which a porosity counts as correct.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink, paper = _INK[theme], _PAPER[theme]
    figure = Figure(figsize=(11, 5.8), dpi=110, layout="constrained", facecolor=paper)
    canvas = FigureCanvasAgg(figure)
    panels: Any = figure.subplots(2, 4)
    lines, word = curves_over(rows, names)
    for axes, (key, title, factor, absolute) in zip(
        panels.ravel(), _PANELS, strict=True
    ):
        axes.set_facecolor(paper)
        named: set[str] = set()
        for (name, style), line in lines.items():
            points = _points(line, key, factor, absolute)
            if points:
                i = names.index(name)
                axes.plot(
                    *zip(*points, strict=True),
                    color=_COLOURS[i % len(_COLOURS)],
                    marker=_MARKERS[i % len(_MARKERS)],
                    linestyle=_LINES[style % len(_LINES)],
                    markersize=4.5,
                    linewidth=1.4,
                    label=None if name in named else as_label(line[0][1]["title"]),
                )
                named.add(name)
        axes.set_title(title, color=ink, fontsize=9.5)
        if key == "porosity_error":
            axes.axhspan(0, factor * tolerance, color=ink, alpha=0.12, linewidth=0)
        if absolute:
            axes.set_yscale("symlog", linthresh=_LINEAR)
            axes.set_ylim(bottom=0)
        elif key == "seconds" and axes.lines:
            axes.set_yscale("log")
        _frame(axes, ink)
    figure.supxlabel(word, color=ink, fontsize=10)
    return _finished(figure, canvas, panels[0, 0], ink)


def curves_over(
    rows: Sequence[AnyMapping], names: Sequence[str]
) -> tuple[dict[tuple[str, int], list[tuple[float, AnyMapping]]], str]:
    """Group rows into curves: pairs of x value and row, sorted by x.

    Returns
    -------
    curves : dict
        Curves by algorithm and index of the exposure (0: the longest); the index is 0
        if the exposure is the horizontal axis.
    word : str
        Name of the horizontal axis.
    """
    mine = [row for row in rows if row["algorithm"] in names]
    exposures = sorted({ScanSubset.of(row).exposure for row in mine}, reverse=True)
    over_exposure = is_over_exposure(mine)
    curves: dict[tuple[str, int], list[tuple[float, AnyMapping]]] = {}
    for name in names:
        for row in (r for r in mine if r["algorithm"] == name):
            subset = ScanSubset.of(row)
            if over_exposure:
                key, x = (name, 0), 100 * subset.exposure
            else:
                key, x = (name, exposures.index(subset.exposure)), subset.projections
            curves.setdefault(key, []).append((x, row))
    ordered = {
        key: sorted(line, key=lambda point: point[0])
        for key, line in sorted(
            curves.items(), key=lambda kv: (names.index(kv[0][0]), kv[0][1])
        )
    }
    if over_exposure:
        return ordered, f"exposure (%), {mine[0]['projections']} projections"
    if len(exposures) > 1:
        words = (*_LINE_WORDS, *["dash-dot-dotted"] * len(exposures))
        said = [
            f"{share_text(e)} {word}" for e, word in zip(exposures, words, strict=False)
        ]
        return ordered, f"projections (exposure: {', '.join(said)} lines)"
    return ordered, "projections"


def volumes_png(
    rows: Sequence[AnyMapping],
    names: Sequence[str],
    true: Sequence[int],
    per_decade: int,
    theme: Theme,
) -> bytes:
    """Draw histograms of pore volumes, one panel per subset of the scan.

    Parameters
    ----------
    rows : sequence of mapping
        Rows with ``pore_volume_counts``: number of pores per bin; the first bin starts
        at one voxel.
    true : sequence of int
        Number of pores of the reference per bin, drawn in grey.
    per_decade : int
        Bins per decade.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink, paper = _INK[theme], _PAPER[theme]
    shown = [row for row in rows if row["algorithm"] in names]
    subsets = list(dict.fromkeys(map(ScanSubset.of, shown)))
    across = min(3, len(subsets))
    down = -(-len(subsets) // across)
    figure = Figure(
        figsize=(11, 0.6 + 2.6 * down), dpi=110, layout="constrained", facecolor=paper
    )
    canvas = FigureCanvasAgg(figure)
    panels: Any = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for axes in panels.ravel()[len(subsets) :]:
        axes.set_visible(False)
    for axes, subset in zip(panels.ravel(), subsets, strict=False):
        axes.set_facecolor(paper)
        axes.stairs(
            true, _edges(len(true), per_decade), fill=True, color=ink, alpha=0.2
        )
        for i, name in enumerate(names):
            for row in shown:
                if (ScanSubset.of(row), row["algorithm"]) != (subset, name):
                    continue
                values = row["pore_volume_counts"]
                axes.stairs(
                    values,
                    _edges(len(values), per_decade),
                    color=_COLOURS[i % len(_COLOURS)],
                    linewidth=1.4,
                    label=as_label(str(row["title"])),
                )
        axes.set_xscale("log")
        axes.set_title(as_label(subset.title), color=ink, fontsize=9.5)
        _frame(axes, ink)
    if true:
        panels[0, 0].set_ylim(top=2 * max(true))
    figure.supxlabel("volume of a pore (voxels)", color=ink, fontsize=10)
    figure.supylabel("pores", color=ink, fontsize=10)
    return _finished(figure, canvas, panels[0, 0], ink)


def _frame(axes: Any, ink: str) -> None:
    """Draw only the left and bottom edges of the axes, in the text colour."""
    axes.tick_params(which="both", colors=ink, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)


def _finished(figure: Any, canvas: FigureCanvasAgg, axes: Any, ink: str) -> bytes:
    """Return the picture as PNG, with the legend of `axes` at the top."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=min(8, len(handles)),
            frameon=False,
            labelcolor=ink,
            fontsize=9,
        )
    return as_png(canvas)


def _edges(n: int, per_decade: int) -> npt.NDArray[np.float64]:
    return np.power(10.0, np.arange(n + 1) / per_decade)


def _points(
    line: Sequence[tuple[float, AnyMapping]],
    key: str,
    factor: float,
    absolute: bool,
) -> list[tuple[float, float]]:
    points = []
    for x, row in line:
        value = row.get(key)
        if value is None:
            continue
        if key == "seconds":
            value = max(1e-3, value + row.get("training_seconds", 0.0))
        points.append((x, factor * (abs(value) if absolute else value)))
    return points


def table_png(cells: Sequence[Sequence[tuple[str, Picture | None]]]) -> bytes:
    """Arrange labelled pictures in rows and columns of one greyscale picture.

    Parameters
    ----------
    cells : sequence of rows of (word, picture or None)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = len(cells), max(len(row) for row in cells)
    figure = Figure(
        figsize=(1.75 * width, 1.95 * height),
        dpi=110,
        layout="constrained",
        facecolor="#111111",
    )
    canvas = FigureCanvasAgg(figure)
    panels: Any = figure.subplots(height, width, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    for line, row in zip(panels, cells, strict=True):
        for axes, (word, picture) in zip(line, row, strict=False):
            axes.set_title(as_label(word), color="#eeeeee", fontsize=8)
            if picture is not None:
                axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
    return as_png(canvas)
