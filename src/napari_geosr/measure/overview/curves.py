"""Curves of a report as pictures: profile, thickness, sub-volumes, slices of bone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.figure_png import as_label, as_png
from napari_geosr.core.units import PIXEL, convert_length, shown_unit, shown_units
from napari_geosr.measure.number_text import unit_text

if TYPE_CHECKING:
    from pathlib import Path

    from napari_geosr.measure.reports.report import PorosityReport

Floats = npt.NDArray[np.float64]

#: Colours of Okabe and Ito, and a grey, all visible on light and dark backgrounds.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_INK = "#8a8f98"
#: Quantity of cortical bone that may be measured in only some of the slices.
_SPARSE = "Ct.Th"
#: Half-width of the band around a profile, in standard errors (95 %).
BAND = 1.96


@dataclass(frozen=True)
class _SlicePicture:
    """Two quantities of cortical bone in one plot: a solid line and a dashed line."""

    caption: str
    quantities: tuple[str, ...]
    #: Label of the axis, in which ``{unit}`` is replaced.
    label: str
    #: Power of the unit of length.
    power: int = 0
    factor: float = 1.0


_SLICE_PICTURES = (
    _SlicePicture(
        "Areas of every slice along Z: inside the periosteal contour (Tt.Ar, line) and "
        "of the cortex (Ct.Ar, dashed).",
        ("Tt.Ar", "Ct.Ar"),
        "area ({unit})",
        power=2,
    ),
    _SlicePicture(
        "Mean thickness of the cortex (Ct.Th, line) and mean diameter of its pores "
        "(Ct.Po.Dm, dashed) in every slice along Z.",
        ("Ct.Th", "Ct.Po.Dm"),
        "length ({unit})",
        power=1,
    ),
    _SlicePicture(
        "Cortical porosity (Ct.Po) of every slice along Z.",
        ("Ct.Po",),
        "porosity (%)",
        factor=100.0,
    ),
    _SlicePicture(
        "Number of pores in the cortex (Po.N) of every slice along Z.",
        ("Po.N",),
        "pores",
    ),
)


def profile_of(report: PorosityReport) -> tuple[Floats, Floats, Floats] | None:
    """Return height, porosity and standard error per slice; None if not measured.

    Returns
    -------
    tuple of ndarray of shape (n,), or None
        Heights above the first slice, in the unit of the report.
    """
    found = report.morphometry.get("profile")
    curve = None if found is None else found.curves.get("profile")
    if curve is None or len(curve["distance"]) < 2:
        return None
    z, porosity, error = (
        np.array(curve[key], float)
        for key in ("distance", "porosity", "standard_error")
    )
    return z, porosity, error


def curve_pictures(reports: Mapping[str, PorosityReport]) -> dict[str, bytes | Path]:
    """Plot the measured curves, and return the pictures by caption.

    Parameters
    ----------
    reports : mapping of PorosityReport
        Reports by their name in the legend. The reports share the plots, which use the
        unit of the first report.

    Returns
    -------
    dict of bytes
        PNG with a transparent background.
    """
    drawn = (
        (
            "Porosity of every slice along Z. The band is the 95 % interval, computed "
            "from the standard error of each slice's porosity.",
            _profiles(reports),
        ),
        (
            "Distribution of the local thickness by volume: of the solid (Tb.Th, line) "
            "and of the pores (Tb.Sp, dashed).",
            _thicknesses(reports),
        ),
        (
            "Standard deviation of the porosity between sub-volumes. Once a "
            "curve remains below the dotted line, the porosity of 95 % of the "
            "sub-volumes is within ± 5 % of that of the volume.",
            _subvolumes(reports),
        ),
        (
            "Solid line: probability S2 that both ends of a segment lie in pores. "
            "Dashed: probability that the whole segment lies in pores (lineal path). "
            "Dotted: squared porosity.",
            _two_point(reports),
        ),
        *((one.caption, _of_slices(one, reports)) for one in _SLICE_PICTURES),
    )
    return {caption: picture for caption, picture in drawn if picture is not None}


def _profiles(reports: Mapping[str, PorosityReport]) -> bytes | None:
    found = {n: p for n, r in reports.items() if (p := profile_of(r)) is not None}
    if not found:
        return None
    plot = _Plot(reports)
    for name, (z, porosity, error) in found.items():
        z = z * plot.scale(name)
        low, high = (100 * (porosity + sign * BAND * error) for sign in (-1, 1))
        colour = plot.colour(name)
        plot.axes.fill_between(
            z, np.maximum(low, 0), np.minimum(high, 100), color=colour, alpha=0.2, lw=0
        )
        plot.axes.plot(z, 100 * porosity, color=colour, label=as_label(name), lw=1.5)
    return plot.finish(f"Z ({plot.unit})", "porosity (%)")


def _thicknesses(reports: Mapping[str, PorosityReport]) -> bytes | None:
    found = {
        name: report.morphometry["thickness"].histograms
        for name, report in reports.items()
        if "thickness" in report.morphometry
    }
    plot = None
    for name, histograms in found.items():
        for key, style in (("Tb.Th", "-"), ("Tb.Sp", "--")):
            counts = np.array(histograms[key]["counts"], float)
            if not counts.sum():
                continue
            plot = plot or _Plot(reports)
            edges = np.array(histograms[key]["edges"]) * plot.scale(name)
            plot.axes.stairs(
                100 * counts / counts.sum() / np.diff(edges),
                edges,
                color=plot.colour(name),
                linestyle=style,
                label=as_label(name) if style == "-" else None,
                lw=1.5,
            )
    if plot is None:
        return None
    plot.axes.set_ylim(bottom=0)
    return plot.finish(f"thickness ({plot.unit})", f"% of the phase per {plot.step}")


def _subvolumes(reports: Mapping[str, PorosityReport]) -> bytes | None:
    found = _curves(reports, "subvolumes")
    found = {name: c for name, c in found.items() if len(c["distance"]) > 1}
    if not found:
        return None
    plot = _Plot(reports)
    for name, curve in found.items():
        edges = np.array(curve["distance"]) * plot.scale(name)
        colour = plot.colour(name)
        plot.axes.plot(
            edges,
            100 * np.array(curve["SD"]),
            color=colour,
            label=as_label(name),
            marker="o",
            markersize=4,
        )
        accepted = 100 * 0.05 * reports[name].porosity / BAND
        plot.axes.axhline(accepted, color=colour, linestyle=":", linewidth=1)
    plot.axes.set_ylim(bottom=0)
    return plot.finish(f"edge of a sub-volume ({plot.unit})", "SD of porosity (%)")


def _two_point(reports: Mapping[str, PorosityReport]) -> bytes | None:
    found = _curves(reports, "two_point")
    if not found:
        return None
    plot = _Plot(reports)
    for name, curve in found.items():
        distance = np.array(curve["distance"]) * plot.scale(name)
        colour = plot.colour(name)
        plot.axes.plot(
            distance, curve["S2"], color=colour, label=as_label(name), lw=1.5
        )
        plot.axes.plot(distance, curve["lineal_path"], "--", color=colour, lw=1)
        squared = reports[name].porosity ** 2
        plot.axes.axhline(squared, color=colour, linestyle=":", linewidth=1)
    plot.axes.set_ylim(bottom=0)
    return plot.finish(f"distance ({plot.unit})", "probability")


def _of_slices(
    picture: _SlicePicture, reports: Mapping[str, PorosityReport]
) -> bytes | None:
    """Plot values of every slice; None if they were not measured."""
    found = _curves(reports, "cortical", "slices")
    plot = None
    for name, curve in found.items():
        # Reports of earlier releases contain only some of the values.
        for key, style in zip(picture.quantities, ("-", "--"), strict=False):
            values = np.array(curve.get(key, ()), float)
            known = np.isfinite(values)
            if len(values) < 2 or not known.any():
                continue
            plot = plot or _Plot(reports)
            z, scale = np.array(curve["distance"], float), plot.scale(name)
            if key == _SPARSE:
                z, values = z[known], values[known]
            plot.axes.plot(
                z * scale,
                values * picture.factor * scale**picture.power,
                style,
                color=plot.colour(name),
                label=as_label(name) if style == "-" else None,
                lw=1.5,
            )
    if plot is None:
        return None
    plot.axes.set_ylim(bottom=0)
    unit = unit_text(plot.unit, picture.power) if picture.power else ""
    label = picture.label.format(unit=unit)
    return plot.finish(f"Z ({plot.unit})", label)


def _curves(
    reports: Mapping[str, PorosityReport], name: str, curve: str = ""
) -> dict[str, Mapping[str, Any]]:
    """Return the curve of each report that contains one.

    Parameters
    ----------
    reports : mapping
    name : str
        Name of the statistic.
    curve : str
        Name of its curve; by default that of the statistic.
    """
    curve = curve or name
    return {
        key: report.morphometry[name].curves[curve]
        for key, report in reports.items()
        if name in report.morphometry and curve in report.morphometry[name].curves
    }


class _Plot:
    """Axes in the unit of the first report."""

    def __init__(self, reports: Mapping[str, PorosityReport]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._reports = reports
        first = next(iter(reports.values()))
        self._unit = first.unit
        self._shown = shown_units(first.unit, first.voxel_size, flat=first.is_flat)
        figure = Figure(figsize=(7.2, 3.2), dpi=110)
        figure.patch.set_alpha(0)
        figure.subplots_adjust(left=0.12, right=0.98, bottom=0.17, top=0.96)
        self._canvas = FigureCanvasAgg(figure)
        self.axes: Any = figure.add_subplot()
        self.axes.patch.set_alpha(0)

    @property
    def unit(self) -> str:
        """Name of the unit of length in the plural, for the axes."""
        return self._shown

    @property
    def step(self) -> str:
        """Name of the unit of length in the singular."""
        first = next(iter(self._reports.values()))
        return shown_unit(first.unit, first.voxel_size, flat=first.is_flat)

    def colour(self, name: str) -> str:
        """Return the colour of a report, the same in all plots."""
        return _COLOURS[list(self._reports).index(name) % len(_COLOURS)]

    def scale(self, name: str) -> float:
        """Return the factor from the unit of a report to that of the plot."""
        unit = self._reports[name].unit
        if PIXEL in (unit, self._unit):
            return 1.0
        return convert_length(1.0, unit, self._unit)

    def finish(self, x: str, y: str) -> bytes:
        """Label the axes, and return the picture as PNG."""
        axes = self.axes
        axes.set_xlabel(x, color=_INK)
        axes.set_ylabel(y, color=_INK)
        axes.tick_params(which="both", colors=_INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_INK)
        if len(self._reports) > 1:
            axes.legend(frameon=False, labelcolor=_INK)
        return as_png(self._canvas)
