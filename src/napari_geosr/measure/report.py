"""What a porosity measurement found: figures, table, labels and histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.units import MILLIMETRES, PIXEL
from napari_geosr.measure.band import Band
from napari_geosr.measure.blocks import RawTable
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.reliability.noise_check import NoiseCheck
from napari_geosr.measure.rows import summary_rows
from napari_geosr.measure.table import Geometry, Table, pore_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Histogram",
    "PorosityReport",
    "build_report",
    "size_histogram",
    "summary_rows",
]

_GREY_BINS = 256


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; `unit` of the edges (empty for grey values)."""

    counts: np.ndarray
    edges: np.ndarray
    unit: str = ""

    def to_json_dict(self) -> dict[str, Any]:
        """The histogram as what JSON can hold."""
        return {
            "counts": [int(n) for n in self.counts],
            "edges": [float(e) for e in self.edges],
            "unit": self.unit,
        }


@dataclass(frozen=True, eq=False)
class PorosityReport:
    """Porosity statistics of one volume or image.

    Fractions are 0–1. Physical values are None where the voxel size is unknown
    (`unit` ``"pixel"``); values of the other dimension are None, too (surfaces in an
    image, perimeters in a volume).

    Attributes
    ----------
    porosity : float
        Pore voxels ÷ sample voxels, pores of every size.
    porosity_low, porosity_high : float
        Porosity with the threshold moved by ±5 % of the distance between the mean
        grey values of the two phases: how much it depends on the threshold. Not an
        uncertainty of the measurement; noise and artefacts are not in it.
    counted_porosity : float
        The same from pores of at least `min_voxels` only.
    pore_count : int
        Pores of at least `min_voxels`.
    small_pore_count, small_pore_voxels : int
        Pores below `min_voxels`, and their voxels.
    open_porosity, closed_porosity : float
        Pores with, and without, a face at the border of volume or sample; every size;
        they add up to `porosity`.
    surface_area, specific_surface_area : float or None
        Of all pores without cut faces, in `unit`²; per sample volume in 1/`unit`.
    euler_number : int
        Of all pores, every size; nothing lies around the volume.
    sample_size, pore_size : float or None
        Volume (image: area) in `unit`³ (`unit`²).
    threshold : float
        Dark pores: at or below; bright pores: above.
    table : dict of ndarray
        One row per counted pore; row ``i`` is label ``i + 1``.
    units : dict of str
        Unit of each column of `table`.
    labels : array or None
        Label of every voxel, shape of the volume; numpy or what was given to fill.
    histogram : Histogram
        Number of counted pores over volume (image: area) in logarithmic bins.
    grey_histogram : Histogram
        Number of voxels over grey value.
    band : Band or None
        What the porosity may be, where the deviations of a restoration are known.
    noise : NoiseCheck or None
        Noise of the scan and the share of voxels it is expected to misclassify; None
        where it could not be measured.
    """

    name: str
    porosity: float
    porosity_low: float
    porosity_high: float
    counted_porosity: float
    pore_count: int
    small_pore_count: int
    pores_per_mm3: float | None
    pores_per_mm2: float | None
    unit: str
    voxel_size: tuple[float, ...]
    shape: tuple[int, ...]
    threshold: float
    threshold_rule: str
    phase: str
    min_voxels: int
    connectivity: int
    sample_voxels: int
    pore_voxels: int
    small_pore_voxels: int
    nonfinite_voxels: int
    open_porosity: float
    closed_porosity: float
    sample_size: float | None
    pore_size: float | None
    surface_area: float | None
    specific_surface_area: float | None
    perimeter: float | None
    specific_perimeter: float | None
    euler_number: int
    table: Table = field(repr=False)
    units: dict[str, str] = field(repr=False)
    labels: Any = field(repr=False)
    histogram: Histogram = field(repr=False)
    grey_histogram: Histogram = field(repr=False)
    warnings: tuple[str, ...] = ()
    band: Band | None = None
    noise: NoiseCheck | None = None

    @property
    def is_flat(self) -> bool:
        """Whether an image was measured: areas and perimeters."""
        return "area" in self.table

    @property
    def size_column(self) -> str:
        """Column of the table with the pores' sizes: ``"volume"`` or ``"area"``."""
        return "area" if self.is_flat else "volume"

    @property
    def has_physical_size(self) -> bool:
        """Whether the voxel size is known in a unit of length."""
        return self.unit != PIXEL

    @property
    def threshold_sensitivity(self) -> float:
        """Half of what the porosity changes when the threshold moves."""
        return (self.porosity_high - self.porosity_low) / 2

    @property
    def porosity_uncertainty(self) -> float:
        """Earlier name of `threshold_sensitivity`; it is not an uncertainty."""
        return self.threshold_sensitivity

    @property
    def density_band(self) -> tuple[float, float] | None:
        """Fewest and most pores per mm³ (image: mm²) of the band."""
        band, size = self.band, self.sample_size
        if band is None or band.pore_count is None or size is None:
            return None
        size *= MILLIMETRES[self.unit] ** (2 if self.is_flat else 3)
        low, high = band.pore_count
        return low / size, high / size

    def summary_lines(self) -> list[str]:
        """Lines ``label: value unit`` for people."""
        return [f"{label}: {text}" for label, text in summary_rows(self)]

    def to_dataframe(self) -> pd.DataFrame:
        """The table of the counted pores as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One row per pore, indexed by its label; ``attrs["units"]`` has the unit of
            each column.

        Examples
        --------
        >>> import numpy as np
        >>> import napari_geosr as geosr
        >>> image = np.full((16, 16, 16), 200, "u1")
        >>> image[4:8, 4:8, 4:8] = 50
        >>> table = geosr.measure_porosity(image).to_dataframe()
        >>> table["voxels"].to_dict()
        {1: 64}
        """
        import pandas as pd

        table = pd.DataFrame(self.table)
        table.index = pd.RangeIndex(1, len(table) + 1, name="label")
        table.attrs["units"] = dict(self.units)
        return table

    def _repr_html_(self) -> str:
        """What notebooks show: the summary as a table, and the warnings."""
        rows = "".join(
            f'<tr><th style="text-align: left">{escape(label)}</th>'
            f"<td>{escape(text)}</td></tr>"
            for label, text in summary_rows(self)
        )
        warnings = "".join(f"<p>{escape(text)}</p>" for text in self.warnings)
        return f"<table><caption>{escape(self.name)}</caption>{rows}</table>{warnings}"

    def quantiles(self, name: str) -> dict[str, float | None]:
        """Mean, 10th, 50th and 90th percentile and maximum of a column of the table."""
        values = self.table[name].astype(np.float64)
        if not len(values):
            return dict.fromkeys(("mean", "p10", "median", "p90", "max"))
        p10, median, p90 = np.percentile(values, [10, 50, 90])
        return {
            "mean": float(values.mean()),
            "p10": float(p10),
            "median": float(median),
            "p90": float(p90),
            "max": float(values.max()),
        }

    def to_json_dict(self) -> dict[str, Any]:
        """Figures without table and labels, JSON-serialisable; never NaN."""
        power = {1: "", 2: "²", 3: "³"}
        length = self.unit if self.has_physical_size else None

        def unit(exponent: int) -> str | None:
            """The unit of length to a power; None when it is unknown."""
            return None if length is None else f"{length}{power[exponent]}"

        def physical(name: str) -> dict[str, float | None]:
            """Quantiles of a column, or None for each when the unit is unknown."""
            values = self.quantiles(name)
            return values if length is not None else dict.fromkeys(values)

        size = self.size_column
        return {
            "name": self.name,
            "porosity": self.porosity,
            "porosity_low": self.porosity_low,
            "porosity_high": self.porosity_high,
            "threshold_sensitivity": self.threshold_sensitivity,
            # The name that reports had before, for whom reads them by it.
            "porosity_uncertainty": self.threshold_sensitivity,
            **self._band_to_json(),
            "counted_porosity": self.counted_porosity,
            "open_porosity": self.open_porosity,
            "closed_porosity": self.closed_porosity,
            "pore_count": self.pore_count,
            "small_pore_count": self.small_pore_count,
            "pores_per_mm3": self.pores_per_mm3,
            "pores_per_mm2": self.pores_per_mm2,
            "unit": self.unit,
            "voxel_size": list(self.voxel_size),
            "shape": list(self.shape),
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "phase": self.phase,
            "min_voxels": self.min_voxels,
            "connectivity": self.connectivity,
            "sample_voxels": self.sample_voxels,
            "pore_voxels": self.pore_voxels,
            "small_pore_voxels": self.small_pore_voxels,
            "nonfinite_voxels": self.nonfinite_voxels,
            f"sample_{size}": self.sample_size,
            f"pore_{size}": self.pore_size,
            f"{size}_unit": unit(2 if self.is_flat else 3),
            "surface_area": self.surface_area,
            "surface_area_unit": None if self.is_flat else unit(2),
            "specific_surface_area": self.specific_surface_area,
            "perimeter": self.perimeter,
            "specific_perimeter": self.specific_perimeter,
            "specific_unit": None if length is None else f"1/{length}",
            "euler_number": self.euler_number,
            "pore_size_voxels": self.quantiles("voxels"),
            f"pore_{size}_quantiles": physical(size),
            f"mean_{size}": physical(size)["mean"],
            f"median_{size}": physical(size)["median"],
            "equivalent_diameter": physical("equivalent_diameter"),
            "histogram": self.histogram.to_json_dict(),
            "noise": None if self.noise is None else self.noise.to_json_dict(),
            "warnings": list(self.warnings),
        }

    def _band_to_json(self) -> dict[str, Any]:
        band, density = self.band, self.density_band
        ends = None if band is None else band.porosity
        pores = None if density is None else list(density)
        return {
            "porosity_band": None if ends is None else list(ends),
            "porosity_band_nominal": None if band is None else band.nominal,
            "porosity_band_factor": None if band is None else band.factor,
            "porosity_spread": None if band is None else band.spread,
            f"pores_per_mm{2 if self.is_flat else 3}_band": pores,
        }


def size_histogram(values: np.ndarray, unit: str, n_bins: int) -> Histogram:
    """Counts in `n_bins` logarithmic bins over the values' own range."""
    if not len(values):
        return Histogram(np.zeros(0, np.int64), np.zeros(0), unit)
    low, high = float(values.min()), float(values.max())
    if high <= low * (1 + 1e-9):
        low, high = low / 2, high * 2
    # A hair wider, so that rounding leaves no pore out.
    edges = np.geomspace(low * (1 - 1e-9), high * (1 + 1e-9), n_bins + 1)
    counts, _ = np.histogram(values, bins=edges)
    return Histogram(counts.astype(np.int64), edges, unit)


def build_report(
    raw: RawTable,
    keep: np.ndarray,
    geometry: Geometry,
    config: PorosityConfig,
    *,
    counts: Mapping[str, int],
    threshold: float,
    grey: GreyHistogram,
    shape: tuple[int, ...],
    name: str,
    labels: Any,
    warnings: tuple[str, ...],
    band: Band | None = None,
    noise: NoiseCheck | None = None,
) -> PorosityReport:
    """Put the figures together.

    Parameters
    ----------
    raw : RawTable
        Pores of every size.
    keep : ndarray of bool
        Which of them count.
    counts : mapping
        ``sample``, ``pores``, ``at_low`` and ``at_high``: voxels.
    """
    table, units = pore_table(raw, keep, geometry)
    size = "area" if geometry.flat else "volume"
    voxels = raw.rows[:, column.COUNT]
    n_sample, n_pores = counts["sample"], counts["pores"]
    n_small = int(voxels[~keep].sum())
    n_open = int(voxels[raw.rows[:, column.TOUCHES] != 0].sum())
    known = geometry.unit != PIXEL
    sample_size = n_sample * geometry.voxel_volume if known else None
    surface = float(math.fsum(raw.surface)) if known else None
    density = None
    if sample_size is not None:
        millimetre = MILLIMETRES[geometry.unit] ** (2 if geometry.flat else 3)
        density = int(keep.sum()) / (sample_size * millimetre)
    per_size = None
    if surface is not None and sample_size is not None:
        per_size = surface / sample_size
    moved = sorted((counts["at_low"], counts["at_high"], n_pores))
    grey_counts, grey_edges = grey.rebinned(_GREY_BINS)
    flat, solid = geometry.flat, not geometry.flat
    return PorosityReport(
        name=name,
        porosity=n_pores / n_sample,
        porosity_low=moved[0] / n_sample,
        porosity_high=moved[2] / n_sample,
        counted_porosity=(n_pores - n_small) / n_sample,
        pore_count=int(keep.sum()),
        small_pore_count=int((~keep).sum()),
        pores_per_mm3=density if solid else None,
        pores_per_mm2=density if flat else None,
        unit=geometry.unit,
        voxel_size=geometry.voxel_size[-len(shape) :],
        shape=shape,
        threshold=threshold,
        threshold_rule=(
            config.threshold if isinstance(config.threshold, str) else "manual"
        ),
        phase=config.phase,
        min_voxels=config.min_voxels,
        connectivity=config.connectivity,
        sample_voxels=n_sample,
        pore_voxels=n_pores,
        small_pore_voxels=n_small,
        nonfinite_voxels=grey.n_nonfinite,
        open_porosity=n_open / n_sample,
        closed_porosity=(n_pores - n_open) / n_sample,
        sample_size=sample_size,
        pore_size=n_pores * geometry.voxel_volume if known else None,
        surface_area=surface if solid else None,
        specific_surface_area=per_size if solid else None,
        perimeter=surface if flat else None,
        specific_perimeter=per_size if flat else None,
        euler_number=int(raw.euler_number.sum()),
        table=table,
        units=units,
        labels=labels,
        histogram=size_histogram(table[size], units[size], config.histogram_bins),
        grey_histogram=Histogram(grey_counts, grey_edges),
        warnings=warnings,
        band=band,
        noise=noise,
    )
