"""Result of a comparison: metrics of each volume and its differences from the base."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from napari_geosr.core.noise import Noise
from napari_geosr.core.text.display import one_line
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.fourier import (
    FourierCorrelation,
    PowerSpectrum,
    fsc_summary,
)
from napari_geosr.measure.comparison.frame import Frame
from napari_geosr.measure.comparison.graphs import (
    agreement_numbers,
    agreement_rows,
    graph_numbers,
)
from napari_geosr.measure.comparison.grey import GreyFigures
from napari_geosr.measure.comparison.grids import PairGrid, each_once, porosity_texts
from napari_geosr.measure.comparison.pores import PoreMatch
from napari_geosr.measure.comparison.scan_check import ScanCheck, check_rows
from napari_geosr.measure.graph.agreement import GraphAgreement
from napari_geosr.measure.number_text import NOTHING, number_text, percent_text
from napari_geosr.measure.reports.report import PorosityReport

if TYPE_CHECKING:
    import pandas as pd

#: Numbers in a porosity report that are settings, not results.
_SETTINGS = {"min_voxels", "connectivity"}


@dataclass(frozen=True)
class Shift:
    """Shift of a volume relative to the base, found by correlating parts of both.

    Attributes
    ----------
    voxels : tuple of float
        Along (Z, Y, X) or (Y, X), in voxels of the comparison.
    distance : float
        Length of the shift in `unit`.
    parts : int
        Number of parts in which it was measured.
    """

    voxels: tuple[float, ...]
    distance: float
    unit: str
    parts: int

    @property
    def length(self) -> float:
        """Length of the shift, in voxels of the comparison."""
        return math.hypot(*self.voxels)

    def to_json_dict(self) -> AnyDict:
        """Return the shift as JSON-serialisable values."""
        return {
            "voxels": list(self.voxels),
            "length": self.length,
            "distance": self.distance,
            "unit": self.unit,
            "parts": self.parts,
        }


class QualityRow(NamedTuple):
    """A metric: its label, a displayed value per volume, and an explanation."""

    label: str
    texts: list[str]
    help: str


@dataclass(frozen=True, eq=False)
class QualityReport:
    """Differences between volumes of the same object.

    Volumes are identified by keys: ``"before"``, ``"after"`` and ``"reference"`` in
    Python; letters (A, B, …) and ``"reference"`` on the command line. All are compared
    with the base.

    Attributes
    ----------
    base : str
        Key of the reference or, if there is none, of the first volume.
    titles : mapping of str to str
        Name of each volume, as shown to the user.
    grids : mapping of PairGrid
        Grid on which each of the other volumes is compared with the base, with the
        number of known voxels and the settings of PSNR and SSIM. This grid does not
        depend on coarser volumes.
    figures : mapping of GreyFigures
    shifts : mapping of Shift
        Shift of each volume; None if the parts are hardly correlated.
    noise : mapping of Noise
        Noise on the grid; None if it was not measured. For the base, this is the noise
        on the finest grid.
    detail : mapping of float
        Period of the finest detail from decorrelation analysis, in the frame's unit.
    fourier : mapping of FourierCorrelation
        Correlations by the names of the compared volumes.
    spectra : mapping of PowerSpectrum
    porosity : mapping of PorosityReport
        Porosity of each volume at its own voxel size, within the region that it has in
        common with the base; may be empty. For the base, this is its porosity in the
        finest comparison.
    pores : mapping of PoreMatch
    graphs : mapping of GraphAgreement
        Agreement with the branches of the base, if graphs were traced; the graph of
        each volume is in its `porosity`.
    scan_checks : mapping of ScanCheck
        Consistency of each restored volume, if its scan is among the volumes.
    differences : mapping of Volume
        Volume minus base, in standard deviations of the noise of both.
    difference_units : mapping of str
        Unit of each difference.
    volumes : mapping of Volume
        Volumes on their own grids, cropped lazily to the common region.
    remarks : tuple of str
        How the volumes were processed for the comparison.
    base_porosity : mapping of PorosityReport
        The base as measured for each of the other volumes: in the same region and with
        the same minimum pore size.
    warnings : tuple of str
        Reasons why metrics may be misleading.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> true = np.full((16, 32, 32), 200.0)
    >>> true[4:10, 5:15, 5:15] = 100
    >>> noise = np.random.default_rng(0).normal(0, 10, (2, *true.shape))
    >>> report = geosr.compare(true + noise[0], true + noise[1] / 2, true)
    >>> {key: round(found.psnr) for key, found in report.figures.items()}
    {'before': 20, 'after': 26}
    >>> report.pores["after"].count("matched"), report.pores["after"].count("lost")
    (1, 0)
    """

    base: str
    titles: Mapping[str, str]
    grids: Mapping[str, PairGrid]
    figures: Mapping[str, GreyFigures]
    shifts: Mapping[str, Shift | None]
    noise: Mapping[str, Noise | None] = field(repr=False)
    detail: Mapping[str, float | None]
    fourier: Mapping[str, FourierCorrelation]
    spectra: Mapping[str, PowerSpectrum] = field(repr=False)
    porosity: Mapping[str, PorosityReport] = field(repr=False)
    pores: Mapping[str, PoreMatch] = field(repr=False)
    differences: Mapping[str, Volume] = field(repr=False)
    difference_units: Mapping[str, str] = field(repr=False)
    volumes: Mapping[str, Volume] = field(repr=False)
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    graphs: Mapping[str, GraphAgreement] = field(default_factory=dict)
    scan_checks: Mapping[str, ScanCheck] = field(default_factory=dict)
    base_porosity: Mapping[str, PorosityReport] = field(
        default_factory=dict, repr=False
    )

    @property
    def compared(self) -> tuple[str, ...]:
        """Keys of the volumes that were compared with the base."""
        return tuple(self.figures)

    @property
    def frame(self) -> Frame:
        """Grid of the last volume that was compared; all grids have the same unit."""
        return self.grids[self.compared[-1]].frame

    @property
    def voxels(self) -> int:
        """Number of known voxels of the last volume that was compared."""
        return self.grids[self.compared[-1]].voxels

    @property
    def data_range(self) -> float:
        """Range of grey values used for the last compared volume."""
        return self.grids[self.compared[-1]].data_range

    @property
    def ssim_window(self) -> str:
        """Description of the SSIM window used for the last compared volume."""
        return self.grids[self.compared[-1]].ssim_window

    @property
    def psnr(self) -> float:
        """PSNR of the last compared volume."""
        return self.figures[self.compared[-1]].psnr

    @property
    def ssim(self) -> float | None:
        """SSIM of the last compared volume."""
        return self.figures[self.compared[-1]].ssim

    @property
    def volume(self) -> PorosityReport:
        """Pores of the last compared volume or, without a reference, of the first."""
        with_reference = self.base != next(iter(self.titles))
        return self.porosity[self.compared[-1] if with_reference else self.base]

    @property
    def reference(self) -> PorosityReport:
        """Pores of the reference or, without one, of the last compared volume."""
        with_reference = self.base != next(iter(self.titles))
        return self.porosity[self.base if with_reference else self.compared[-1]]

    def rows(self) -> list[QualityRow]:
        """Return one row per metric, with one displayed value per volume."""
        return [row for row in self._rows() if any(t != NOTHING for t in row.texts)]

    def _rows(self) -> Iterator[QualityRow]:
        yield from self._grey_rows()
        for label, texts, help_ in check_rows(self.scan_checks):
            yield self._row(label, texts, help_)
        yield self._row(
            "Shift",
            {k: _shift_text(s) for k, s in self.shifts.items()},
            "Shift relative to the base, measured by correlating parts of both "
            "volumes.",
        )
        yield self._row(
            "Noise",
            {k: _noise_text(n) for k, n in self.noise.items()},
            "Noise level in grey values, at the voxel size of the comparison.",
        )
        yield self._row(
            "Finest detail",
            {
                k: NOTHING
                if v is None
                else f"{number_text(v)} {self.frame.length_unit}"
                for k, v in self.detail.items()
            },
            "Smallest period that exceeds the noise (decorrelation analysis of "
            "slices). It shows how fine the detail is, not whether it is real.",
        )
        for label, texts, help_ in porosity_texts(
            self.porosity, self.base_porosity, self.base
        ):
            yield self._row(label, texts, help_)
        yield from self._pore_rows()
        for label, texts, help_ in agreement_rows(
            self.graphs, self.frame.length_unit, self.titles
        ):
            yield self._row(label, texts, help_)

    def _grey_rows(self) -> Iterator[QualityRow]:
        found = self.figures
        ranges = {k: number_text(g.data_range) for k, g in self.grids.items()}
        own = {k: number_text(g.base_range) for k, g in self.grids.items()}
        windows = {k: g.ssim_window for k, g in self.grids.items() if g.ssim_window}
        yield self._row(
            "PSNR",
            {k: _decibels(f.psnr) for k, f in found.items()},
            "Peak signal-to-noise ratio for a range of grey values of "
            f"{each_once(ranges, self.titles)}.",
        )
        yield self._row(
            "PSNR, range-invariant",
            {k: _decibels(f.psnr_range_invariant) for k, f in found.items()},
            "PSNR after fitting gain and offset, for a range of "
            f"{each_once(own, self.titles)}.",
        )
        yield self._row(
            "SSIM",
            {k: _decimal(f.ssim) for k, f in found.items()},
            "Structural similarity, Gaussian window of "
            f"{each_once(windows, self.titles) if windows else 'no voxels'}.",
        )
        yield self._row(
            "MS-SSIM",
            {k: _decimal(f.ms_ssim) for k, f in found.items()},
            "Structural similarity at five scales.",
        )
        yield self._row(
            "NRMSE",
            {k: number_text(f.nrmse) for k, f in found.items()},
            "Root-mean-square difference in standard deviations of the base.",
        )
        yield self._row(
            "Correlation",
            {k: _decimal(f.correlation) for k, f in found.items()},
            "Correlation coefficient of grey values.",
        )
        fits = {
            k: f"× {f.gain:.4g} {f.offset:+.4g}".replace("-", "\N{MINUS SIGN}")
            for k, f in found.items()
            if (f.gain, f.offset) != (1.0, 0.0)
        }
        yield self._row(
            "Fitted gain and offset",
            fits,
            "Fit applied before computing PSNR, SSIM, MS-SSIM and NRMSE.",
        )
        yield self._row(
            "Compared on voxels of",
            {k: g.voxel_text for k, g in self.grids.items()},
            "Volumes with smaller voxels were averaged to this voxel size, which "
            "hides errors smaller than such a voxel. Values at different voxel sizes "
            "cannot "
            "be compared.",
        )

    def _pore_rows(self) -> Iterator[QualityRow]:
        for label, status, help_ in (
            ("Pores matched", "matched", "One pore in the base, one in the volume."),
            ("Pores lost", "lost", "Pores in the base only."),
            ("Pores invented", "invented", "Pores that are not in the base."),
            ("Pores split", "split", "One pore in the base, several in the volume."),
            ("Pores merged", "merged", "Several pores in the base, one in the volume."),
            (
                "Pores regrouped",
                "changed",
                ("Several pores in the base, several in the volume."),
            ),
        ):
            counts = {
                k: number_text(m.count(status))  # type: ignore[arg-type]
                for k, m in self.pores.items()
            }
            yield self._row(label, counts, help_)
        yield self._row(
            "Dice coefficient of the pores",
            {k: _decimal(m.dice) for k, m in self.pores.items()},
            "Overlap of pore voxels with those of the base; 1 if equal.",
        )
        agreements = {
            k: f"{_signed(found.bias)} ({_signed(found.low)} to {_signed(found.high)})"
            for k, m in self.pores.items()
            if (found := m.agreement) is not None
        }
        yield self._row(
            "Volume of matched pores",
            agreements,
            "Mean difference relative to the base, and limits of agreement (Bland and "
            "Altman).",
        )

    def _row(self, label: str, texts: Mapping[str, str], help_: str) -> QualityRow:
        return QualityRow(
            label, [texts.get(key, NOTHING) for key in self.titles], help_
        )

    def resolution_rows(self) -> list[tuple[str, str]]:
        """Return rows of (name of the comparison, resolution by each criterion)."""
        return fsc_summary(self.fourier)

    def to_dict(self) -> AnyDict:
        """Return all results in JSON-serialisable form; infinite values are None."""
        found = self.figures[self.compared[-1]].to_json_dict()
        values: AnyDict = {
            "base": self.base,
            "titles": dict(self.titles),
            "psnr": found["psnr"],
            "ssim": found["ssim"],
            "data_range": self.data_range,
            "ssim_window": self.ssim_window,
            "voxels": self.voxels,
            "frame": self.frame.to_json_dict(),
            "grids": {k: g.to_json_dict() for k, g in self.grids.items()},
            "figures": {k: f.to_json_dict() for k, f in self.figures.items()},
            "shifts": _dicts(self.shifts),
            "noise": _dicts(self.noise),
            "finest_detail": dict(self.detail),
            "fourier": {k: f.to_json_dict() for k, f in self.fourier.items()},
            "spectra": {k: s.to_json_dict() for k, s in self.spectra.items()},
            "porosity": {k: r.to_json_dict() for k, r in self.porosity.items()},
            "pores": {k: m.to_json_dict() for k, m in self.pores.items()},
            "graph_agreement": {k: a.to_json_dict() for k, a in self.graphs.items()},
            "consistency": {k: c.to_json_dict() for k, c in self.scan_checks.items()},
            "difference_units": dict(self.difference_units),
            "remarks": list(self.remarks),
            "warnings": list(self.warnings),
        }
        if {self.base, self.compared[-1]} <= set(self.porosity):
            values["volume"] = self.volume.to_json_dict()
            values["reference"] = self.reference.to_json_dict()
        return values

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per volume, one column per metric; unknown values are NaN."""
        import pandas as pd

        rows: dict[str, AnyDict] = {}
        for key in self.titles:
            row: AnyDict = {}
            if key in self.figures:
                row |= vars(self.figures[key])
                frame = self.grids[key].frame
                row["compared_voxel_size"] = max(frame.voxel_size)
                shift = self.shifts.get(key)
                row["shift_voxels"] = None if shift is None else shift.length
                row["shift"] = None if shift is None else shift.distance
            noise = self.noise.get(key)
            row["noise"] = None if noise is None else noise.level
            row["finest_detail"] = self.detail.get(key)
            if (check := self.scan_checks.get(key)) is not None:
                row["residual_in_noise"] = check.residual
                row["contrast_to_scan"] = check.contrast
            if key in self.porosity:
                row |= _single_numbers(self.porosity[key])
                if (graph := self.porosity[key].graph) is not None:
                    row |= graph_numbers(graph.in_unit(self.frame.unit))
            if key in self.graphs:
                row |= agreement_numbers(self.graphs[key])
            if key in self.pores:
                counts = self.pores[key].to_json_dict()
                agreement = counts.pop("bland_altman") or {}
                counts.pop("shape")
                row |= {
                    f"pores_{k}" if k != "dice" else k: v for k, v in counts.items()
                }
                row["volume_bias"] = agreement.get("bias")
            rows[key] = row
        return pd.DataFrame.from_dict(rows, orient="index").astype(float)

    def __repr__(self) -> str:
        facts = []
        for key, found in self.figures.items():
            ssim = "" if found.ssim is None else f", SSIM {found.ssim:.3f}"
            facts.append(f"{key}: PSNR {found.psnr:.4g} dB{ssim}")
        facts.append(f"base {self.base}")
        facts.append(f"warnings {len(self.warnings)}")
        return one_line("QualityReport", " / ".join(self.titles.values()), facts)

    def _repr_html_(self) -> str:
        """Return the table of rows, the resolution and the warnings, for notebooks."""
        head = "".join(f"<th>{escape(title)}</th>" for title in self.titles.values())
        body = "".join(
            f'<tr><th style="text-align: left" title="{escape(row.help)}">'
            f"{escape(row.label)}</th>"
            + "".join(f"<td>{escape(text)}</td>" for text in row.texts)
            + "</tr>"
            for row in self.rows()
        )
        resolution = "".join(
            f"<p>Resolution, {escape(name)}: {escape(text)}</p>"
            for name, text in self.resolution_rows()
        )
        warnings = "".join(f"<p>{escape(text)}</p>" for text in self.warnings)
        return (
            f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody>"
            f"</table>{resolution}{warnings}"
        )


def _dicts(found: Mapping[str, Shift | None] | Mapping[str, Noise | None]) -> AnyDict:
    return {k: None if v is None else v.to_json_dict() for k, v in found.items()}


def _single_numbers(report: PorosityReport) -> dict[str, float | None]:
    return {
        name: value
        for name, value in report.to_json_dict().items()
        if name not in _SETTINGS
        and (value is None or isinstance(value, int | float))
        and not name.endswith("unit")
    }


def _decibels(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else "equal"


def _decimal(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _signed(fraction: float) -> str:
    return ("+" if fraction > 0 else "") + percent_text(fraction).replace(
        "-", "\N{MINUS SIGN}"
    )


def _shift_text(shift: Shift | None) -> str:
    if shift is None:
        return NOTHING
    return f"{shift.length:.2f} voxels ({number_text(shift.distance)} {shift.unit})"


def _noise_text(noise: Noise | None) -> str:
    if noise is None:
        return NOTHING
    if noise.level == 0:
        return f"below {number_text(noise.interval[1])}" if noise.interval[1] else "0"
    return number_text(noise.level)
