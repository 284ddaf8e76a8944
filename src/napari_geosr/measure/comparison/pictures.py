"""Pictures of a comparison as PNG: slices side by side, curves, Bland–Altman."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_geosr.core.figure_png import as_label, as_png
from napari_geosr.core.types import AnyArray
from napari_geosr.measure.comparison.fourier import CRITERIA
from napari_geosr.measure.comparison.report import QualityReport
from napari_geosr.measure.reports.export import COLOURS, INK, PAPER, Theme

#: Line styles of the criteria.
_DASHES = {"half-bit": "--", "1-bit": ":", "1/7": "-."}
#: Limit of the colour scale of differences, in standard deviations of the noise.
_DIFFERENCE_LIMIT = 4.0


class _FigureSheet:
    """A figure with axes side by side, in the colours of a theme."""

    def __init__(self, columns: int, height: float, theme: Theme) -> None:
        from matplotlib.figure import Figure

        self.ink, paper = INK[theme], PAPER[theme]
        width = max(4.8, min(3.2 * columns, 12.8)) if columns > 1 else 7.2
        self._figure = Figure(
            figsize=(width, height), dpi=110, layout="constrained", facecolor=paper
        )
        self.axes: list[Any] = list(
            np.atleast_1d(
                np.asarray(
                    self._figure.subplots(1, columns, subplot_kw={"facecolor": paper})
                )
            )
        )

    def frame(self, axes: Any, x: str, y: str) -> None:
        axes.set_xlabel(x, color=self.ink)
        axes.set_ylabel(y, color=self.ink)
        axes.tick_params(which="both", colors=self.ink)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(self.ink)

    def legend(self, axes: Any) -> None:
        axes.legend(frameon=False, labelcolor=self.ink, fontsize=8)

    def png(self) -> bytes:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        return as_png(FigureCanvasAgg(self._figure))


def slices_png(
    planes: Mapping[str, AnyArray],
    differences: Mapping[str, AnyArray],
    *,
    theme: Theme = "light",
) -> bytes:
    """Draw the middle slices with the same contrast, and the differences next to them.

    Parameters
    ----------
    planes, differences : mapping of ndarray of shape (Y, X)
        Planes by title; voxels with NaN are left empty.
    """
    shown = [*planes.items(), *differences.items()]
    sheet = _FigureSheet(len(shown), 3.6, theme)
    # Convert to numbers, because numpy has no percentiles of booleans (one-bit images).
    values = np.concatenate(
        [p[np.isfinite(p)].ravel() for p in planes.values()], dtype=np.float64
    )
    low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 1.0)
    for i, (axes, (title, plane)) in enumerate(zip(sheet.axes, shown, strict=True)):
        if i < len(planes):
            axes.imshow(plane, cmap="gray", vmin=low, vmax=high)
        else:
            limit = _DIFFERENCE_LIMIT
            axes.imshow(plane, cmap="RdBu_r", vmin=-limit, vmax=limit)
            title = f"{title} (±{limit:g})"
        axes.set_title(_short(title), color=sheet.ink, fontsize=9)
        axes.set_axis_off()
    return sheet.png()


def fourier_png(report: QualityReport, *, theme: Theme = "light") -> bytes:
    """Plot Fourier correlation against frequency, with the criteria."""
    sheet = _FigureSheet(1, 3.8, theme)
    axes = sheet.axes[0]
    unit = ""
    for i, (name, curve) in enumerate(report.fourier.items()):
        unit = curve.unit
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(curve.frequency, curve.correlation, color=colour, label=_short(name))
        for criterion in CRITERIA:
            axes.plot(
                curve.frequency,
                curve.threshold(criterion),
                _DASHES[criterion],
                color=colour if len(report.fourier) > 1 else sheet.ink,
                linewidth=0.9,
                label=criterion if i == 0 else None,
            )
    axes.set_ylim(-0.15, 1.05)
    sheet.frame(axes, f"frequency (1/{unit})", "correlation")
    sheet.legend(axes)
    return sheet.png()


def spectra_png(report: QualityReport, *, theme: Theme = "light") -> bytes:
    """Plot the power spectra of the volumes and of the differences."""
    sheet = _FigureSheet(1, 3.8, theme)
    axes = sheet.axes[0]
    unit = ""
    for i, (name, spectrum) in enumerate(report.spectra.items()):
        unit = spectrum.unit
        line = "-" if name in report.titles else "--"
        axes.semilogy(
            spectrum.frequency,
            np.maximum(spectrum.power, 1e-30),
            line,
            color=COLOURS[i % len(COLOURS)],
            label=_short(report.titles.get(name, name)),
        )
    sheet.frame(axes, f"frequency in slices (1/{unit})", f"power (grey² {unit}²)")
    sheet.legend(axes)
    return sheet.png()


def bland_altman_png(report: QualityReport, *, theme: Theme = "light") -> bytes:
    """Plot the difference in volume of each matched pore against its mean volume."""
    sheet = _FigureSheet(1, 3.8, theme)
    axes = sheet.axes[0]
    unit = ""
    for i, (key, match) in enumerate(report.pores.items()):
        unit = match.unit
        means, differences = match.bland_altman()
        colour = COLOURS[i % len(COLOURS)]
        axes.semilogx(
            means,
            100 * differences,
            ".",
            color=colour,
            alpha=0.6,
            label=_short(report.titles[key]),
        )
        if (found := match.agreement) is not None:
            for level, line in (
                (found.bias, "-"),
                (found.low, "--"),
                (found.high, "--"),
            ):
                axes.axhline(100 * level, linestyle=line, color=colour, linewidth=0.9)
    sheet.frame(axes, f"mean volume ({unit})", "difference (%)")
    sheet.legend(axes)
    return sheet.png()


def _short(title: str, most: int = 34) -> str:
    return as_label(title if len(title) <= most else f"{title[: most - 1]}…")


def middle(array: Any, shape: Sequence[int]) -> AnyArray:
    """Return the middle slice of a volume; images are unchanged."""
    if len(shape) == 2:
        return np.asarray(array[:])
    return np.asarray(array[shape[0] // 2])
