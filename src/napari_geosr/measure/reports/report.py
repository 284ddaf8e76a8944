"""Result of a porosity measurement: values, table, labels and histograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from napari_geosr.core.text.display import one_line
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL, shown_unit
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.graph import NetworkGraph
from napari_geosr.measure.groups import GroupSummary, check_name
from napari_geosr.measure.groups.kept import with_kept
from napari_geosr.measure.groups.missing import evaluated, kept_column
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.interval import PorosityInterval
from napari_geosr.measure.methods import methods_text
from napari_geosr.measure.number_text import unit_text
from napari_geosr.measure.overview import Overview
from napari_geosr.measure.phases.findings import Morphometry, figure_units
from napari_geosr.measure.reliability.noise_check import NoiseCheck
from napari_geosr.measure.reports.rows import summary_rows
from napari_geosr.measure.reports.table import IN_GROUP, column_units, measured_columns
from napari_geosr.measure.statistic import SETTINGS_ORDER, VolumeStatistic
from napari_geosr.measure.statistics import volume_statistics
from napari_geosr.measure.sums import SweepTotals, Table, quantiles_of

if TYPE_CHECKING:
    import pandas as pd

_GREY_BINS = 256
Value = TypeVar("Value")


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; `unit` is the unit of the edges (empty for grey values)."""

    counts: np.ndarray
    edges: np.ndarray
    unit: str = ""

    def to_json_dict(self) -> AnyDict:
        """Return the histogram as JSON-serialisable values."""
        return {
            "counts": [int(n) for n in self.counts],
            "edges": [float(e) for e in self.edges],
            "unit": self.unit,
        }


class FigureAttribute(Generic[Value]):
    """A typed attribute of a report that returns the entry of `figures` by its name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, report: None, owner: type) -> FigureAttribute[Value]: ...
    @overload
    def __get__(self, report: PorosityReport, owner: type) -> Value: ...
    def __get__(
        self, report: PorosityReport | None, owner: type
    ) -> FigureAttribute[Value] | Value:
        if report is None:
            return self
        value: Value = report.figures[self._name]
        return value


@dataclass(frozen=True, eq=False)
class PorosityReport:
    """Porosity statistics of one volume or image.

    Fractions are 0–1. Physical values are None if the voxel size is unknown (`unit`
    ``"pixel"``), and so are values that are not defined for the number of dimensions
    (surfaces in an image, perimeters in a volume).

    Attributes
    ----------
    figures : mapping
        All values of the volume by the name of their statistic, in the order of the
        JSON file. The common ones are also attributes:
    porosity : float
        Pore voxels ÷ sample voxels, including pores of every size.
    porosity_low, porosity_high : float
        Porosity with the threshold shifted by ±5 % of the distance between the mean
        grey values of the two phases. This is not an uncertainty of the measurement.
    counted_porosity : float
        Porosity from pores of at least `min_voxels` voxels only.
    pore_count : int
        Number of pores of at least `min_voxels` voxels.
    small_pore_count, small_pore_voxels : int
        Number of smaller pores, and total number of their voxels.
    open_porosity, closed_porosity : float
        Porosity from pores of any size with, and without, a face at the border of the
        volume or the sample; they add up to `porosity`.
    surface_area, specific_surface_area : float or None
        Surface of all pores, excluding faces on the border, in `unit`²; the same per
        sample volume in 1/`unit`.
    euler_number : int
        Euler number of all pores, whatever their size; the space outside the volume
        does not count as pore.
    sample_size, pore_size : float or None
        Volume (image: area) of the sample and of all pores, in `unit`³ (`unit`²).
    threshold : float
        Dark pores have grey values at or below the threshold, bright pores above it.
    table : dict of ndarray
        One row per counted pore; row ``i`` is label ``i + 1``.
    units : dict of str
        Unit of each column of `table`, and of each morphometric value in `figures`.
    labels : array or None
        Label of every voxel; a numpy array or the given target.
    histogram : Histogram
        Number of counted pores by volume (image: area) in logarithmic bins.
    grey_histogram : Histogram
        Number of voxels by grey value.
    interval : PorosityInterval or None
        Interval of the porosity, if the deviations of a restoration are known.
    noise : NoiseCheck or None
        Noise and expected fraction of misclassified voxels; None if not measurable.
    graph : NetworkGraph or None
        Graph of the pores as a network of tubes, if requested.
    sample_mask : ndarray of bool or None
        The automatic sample mask, if one was made and labels are kept.
    morphometry : mapping of Morphometry
        Requested statistics of both phases by name; `figures` also contains their
        values.
    group : GroupSummary or None
        Number and share of the pores in the requested group. The column ``in_group``
        is 1 for these pores, 0 for pores outside the group, and NaN if unknown.
    groups : mapping of GroupSummary
        Groups that were kept later, by the name of their column (1, 0 or NaN).
    settings : mapping
        Settings of the measurement, as in a settings file, and arguments of
        `napari_geosr.read`.
    overview : Overview or None
        Phases on a coarse grid, for the picture in the report; None for an image.
    threshold_scope : str
        Voxels from which the threshold was determined: ``"volume"``, ``"mask"``
        (a given one), ``"sample"`` (the one found), ``"inner"`` (below its blurred
        surface); empty if unknown.
    """

    name: str
    unit: str
    voxel_size: tuple[float, ...]
    shape: tuple[int, ...]
    threshold: float
    threshold_rule: str
    phase: str
    min_voxels: int
    connectivity: int
    figures: AnyMapping
    table: Table = field(repr=False)
    units: dict[str, str] = field(repr=False)
    labels: Any = field(repr=False)
    histogram: Histogram = field(repr=False)
    grey_histogram: Histogram = field(repr=False)
    warnings: tuple[str, ...] = ()
    interval: PorosityInterval | None = None
    noise: NoiseCheck | None = None
    graph: NetworkGraph | None = field(default=None, repr=False)
    sample_mask: AnyArray | None = field(default=None, repr=False)
    morphometry: Mapping[str, Morphometry] = field(default_factory=dict, repr=False)
    group: GroupSummary | None = None
    groups: Mapping[str, GroupSummary] = field(default_factory=dict)
    settings: AnyMapping = field(default_factory=dict, repr=False)
    overview: Overview | None = field(default=None, repr=False)
    threshold_scope: str = ""

    porosity = FigureAttribute[float]()
    porosity_low = FigureAttribute[float]()
    porosity_high = FigureAttribute[float]()
    #: Half the change in porosity if the threshold is shifted by ±5 % of the contrast.
    threshold_sensitivity = FigureAttribute[float]()
    #: Earlier name of `threshold_sensitivity`; it is not an uncertainty.
    porosity_uncertainty = FigureAttribute[float]()
    counted_porosity = FigureAttribute[float]()
    open_porosity = FigureAttribute[float]()
    closed_porosity = FigureAttribute[float]()
    pore_count = FigureAttribute[int]()
    small_pore_count = FigureAttribute[int]()
    pores_per_mm3 = FigureAttribute[float | None]()
    pores_per_mm2 = FigureAttribute[float | None]()
    sample_voxels = FigureAttribute[int]()
    pore_voxels = FigureAttribute[int]()
    small_pore_voxels = FigureAttribute[int]()
    nonfinite_voxels = FigureAttribute[int]()
    surface_area = FigureAttribute[float | None]()
    specific_surface_area = FigureAttribute[float | None]()
    perimeter = FigureAttribute[float | None]()
    specific_perimeter = FigureAttribute[float | None]()
    euler_number = FigureAttribute[int]()

    @property
    def is_flat(self) -> bool:
        """Whether an image was measured, so that sizes are areas."""
        return all(n == 1 for n in self.shape[:-2])

    @property
    def size_column(self) -> str:
        """Column of the table with the pores' sizes: ``"volume"`` or ``"area"``."""
        return "area" if self.is_flat else "volume"

    @property
    def sample_size(self) -> float | None:
        """Volume (image: area) of the sample; None if the voxel size is unknown."""
        size: float | None = self.figures[f"sample_{self.size_column}"]
        return size

    @property
    def pore_size(self) -> float | None:
        """Volume (image: area) of all pores; None if the voxel size is unknown."""
        size: float | None = self.figures[f"pore_{self.size_column}"]
        return size

    @property
    def has_physical_size(self) -> bool:
        """Whether the voxel size is known in a unit of length."""
        return self.unit != PIXEL

    @property
    def density_interval(self) -> tuple[float, float] | None:
        """Minimum and maximum number of pores per mm³ (image: mm²) in the interval."""
        ends = self.figures[f"pores_per_mm{2 if self.is_flat else 3}_interval"]
        return None if ends is None else (ends[0], ends[1])

    def with_group(
        self, name: str, inside: AnyArray, selection: str | GroupSummary = ""
    ) -> PorosityReport:
        """Return a copy with a group of pores as a further column of the table.

        Parameters
        ----------
        name : str
            Name of the column. An earlier group of this name is replaced.
        inside : ndarray of shape (n,)
            True or 1 for the pores of the group.
        selection : str or GroupSummary
            The filter that selects these pores, if any, to be quoted in the methods
            section; or the summary of these pores in another report.

        Raises
        ------
        ConfigError
            If the name belongs to a column that is not such a group, is reserved, or
            has another meaning in filters; or if the filter does not fit the table.
        """
        check_name(name, self.table, tuple(self.groups))
        before, groups = self.groups.get(name), self.groups
        known = groups if self.group is None else {IN_GROUP: self.group, **groups}
        columns = self.table, self.units, self.size_column
        column, kept = kept_column(selection, inside, *columns, known)
        is_same = before is not None and before.text == kept.text
        if not is_same or not np.array_equal(self.table[name], column, equal_nan=True):
            groups = with_kept(groups, name, kept)
        table, units = {**self.table, name: column}, {**self.units, name: ""}
        return replace(self, table=table, units=units, groups=groups)

    @property
    def measured_columns(self) -> set[str]:
        """Columns of the pore table that results from a measurement's settings."""
        return measured_columns(
            self.settings.get("statistics", ()),
            flat=self.is_flat,
            has_group=self.group is not None,
        )

    @property
    def neighbourhood(self) -> AnyDict:
        """Settings that make the threshold depend on the neighbourhood of a voxel."""
        names = ("local_window", "hysteresis")
        return {n: self.settings[n] for n in names if self.settings.get(n) is not None}

    @property
    def has_methods(self) -> bool:
        """Whether all settings are known.

        Reports stored by older releases do not contain all settings.
        """
        return "threshold" in self.settings

    def summary_lines(self) -> list[str]:
        """Return lines of the form ``label: value unit``."""
        return [f"{label}: {text}" for label, text in summary_rows(self)]

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table of the counted pores as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One row per pore, with its number in ``labels`` in the column ``label``;
            ``attrs["units"]`` contains the unit of each column.

        Examples
        --------
        >>> import numpy as np
        >>> import napari_geosr as geosr
        >>> image = np.full((16, 16, 16), 200, "u1")
        >>> image[4:8, 4:8, 4:8] = 50
        >>> table = geosr.measure_porosity(image).to_dataframe()
        >>> table[["label", "voxels"]].to_dict("records")
        [{'label': 1, 'voxels': 64}]
        """
        import pandas as pd

        table = pd.DataFrame(self.table)
        table.attrs["units"] = {k: u for k, u in self.units.items() if k in table}
        return table

    def __repr__(self) -> str:
        return one_line(
            "PorosityReport",
            self.name,
            (
                f"porosity {self.porosity:.4g}",
                f"pores {self.pore_count}",
                f"threshold {self.threshold:.4g} ({self.phase} pores)",
                f"warnings {len(self.warnings)}",
            ),
        )

    def _repr_html_(self) -> str:
        """Return the summary as a table, and the warnings, for notebooks."""
        rows = "".join(
            f'<tr><th style="text-align: left">{escape(label)}</th>'
            f"<td>{escape(text)}</td></tr>"
            for label, text in summary_rows(self)
        )
        warnings = "".join(f"<p>{escape(text)}</p>" for text in self.warnings)
        return f"<table><caption>{escape(self.name)}</caption>{rows}</table>{warnings}"

    def quantiles(self, name: str) -> dict[str, float | None]:
        """Return mean, 10th, 50th and 90th percentiles, and maximum of a column."""
        return quantiles_of(self.table[name])

    def to_json_dict(self) -> AnyDict:
        """Return JSON-serialisable values without the table and labels; never NaN."""
        statistics = [s for s in volume_statistics(flat=self.is_flat) if s.in_json]
        before = [s for s in statistics if s.order < SETTINGS_ORDER]
        return {
            "name": self.name,
            **self._figures_to_json(before),
            "unit": self.unit,
            "voxel_size": list(self.voxel_size),
            "shape": list(self.shape),
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "threshold_scope": self.threshold_scope,
            "phase": self.phase,
            "min_voxels": self.min_voxels,
            "connectivity": self.connectivity,
            **self.neighbourhood,
            **self._figures_to_json(statistics[len(before) :]),
            "histogram": self.histogram.to_json_dict(),
            "noise": None if self.noise is None else self.noise.to_json_dict(),
            "warnings": list(self.warnings),
            **self._morphometry_to_json(),
        }

    def _morphometry_to_json(self) -> AnyDict:
        values: AnyDict = {}
        if self.morphometry:
            shown = shown_unit(self.unit, self.voxel_size, flat=self.is_flat)
            values["morphometry"] = {
                name: one.to_json_dict(shown) for name, one in self.morphometry.items()
            }
        if self.group is not None:
            values["group"] = self.group.to_json_dict()
        if self.groups:
            values["groups"] = {k: g.to_json_dict() for k, g in self.groups.items()}
        if self.has_methods:
            values["methods"] = methods_text(self)
        return values

    def _figures_to_json(self, statistics: list[VolumeStatistic]) -> AnyDict:
        values: AnyDict = {}
        for statistic in statistics:
            value = self.figures[statistic.name]
            if statistic.power and not self.has_physical_size:
                value = dict.fromkeys(value) if isinstance(value, dict) else None
            values[statistic.name] = value
            if statistic.unit_key:  # the unit follows the last figure that uses it
                unit = values.pop(statistic.unit_key, None)
                if value is not None:
                    unit = unit_text(self.unit, statistic.power)
                values[statistic.unit_key] = unit
        return values


def size_histogram(values: np.ndarray, unit: str, n_bins: int) -> Histogram:
    """Return the counts in `n_bins` logarithmic bins over the range of the values.

    Parameters
    ----------
    values : ndarray
        Sizes of the pores, greater than zero.
    unit : str
    n_bins : int
    """
    if not len(values):
        return Histogram(np.zeros(0, np.int64), np.zeros(0), unit)
    low, high = float(values.min()), float(values.max())
    if high <= low * (1 + 1e-9):
        low, high = low / 2, high * 2
    # Make the range slightly wider, so that rounding does not exclude a pore.
    edges = np.geomspace(low * (1 - 1e-9), high * (1 + 1e-9), n_bins + 1)
    counts, _ = np.histogram(values, bins=edges)
    return Histogram(counts.astype(np.int64), edges, unit)


def build_report(
    totals: SweepTotals,
    config: PorosityConfig,
    *,
    name: str,
    shape: tuple[int, ...],
    grey: GreyHistogram,
    labels: object,
    warnings: tuple[str, ...],
    noise: NoiseCheck | None = None,
    morphometry: Mapping[str, Morphometry] | None = None,
    overview: Overview | None = None,
    reading: AnyMapping | None = None,
) -> PorosityReport:
    """Build a report by evaluating every statistic from the accumulated sums.

    Parameters
    ----------
    totals : SweepTotals
    config : PorosityConfig
    name : str
        Name of the volume.
    shape : tuple of int
        Shape of the volume along its spatial axes.
    grey : GreyHistogram
    labels : array-like or None
        Labels of the pores.
    warnings : tuple of str
    noise : NoiseCheck, optional
        Noise and misclassification; None if it could not be measured.
    morphometry : mapping of Morphometry, optional
        Further statistics by name.
    overview : Overview, optional
        Phases on a coarse grid.
    reading : mapping, optional
        How the volume was read: arguments of `napari_geosr.read`.

    Raises
    ------
    ConfigError
        If a statistic of another package cannot be used.
    """
    geometry, table = totals.geometry, totals.table
    units = column_units(geometry, config.statistics)
    morphometry = dict(morphometry or {})
    size = "area" if geometry.flat else "volume"
    group = None
    if config.group is not None:
        table[IN_GROUP], group = evaluated(config.group, table, units, size)
    grey_counts, grey_edges = grey.rebinned(_GREY_BINS)
    rule = config.threshold
    voxel_size = geometry.voxel_size[-len(shape) :]
    grain = {"voxel_size": list(voxel_size), "unit": geometry.unit}
    return PorosityReport(
        name=name,
        unit=geometry.unit,
        voxel_size=voxel_size,
        shape=shape,
        threshold=totals.threshold,
        threshold_rule=rule if isinstance(rule, str) else "manual",
        phase=config.phase,
        min_voxels=config.min_voxels,
        connectivity=config.connectivity,
        figures={
            statistic.name: statistic.function(totals)
            for statistic in volume_statistics(flat=geometry.flat)
        }
        | {k: v for found in morphometry.values() for k, v in found.values.items()},
        table=table,
        units=figure_units(morphometry, units["equivalent_diameter"]) | units,
        labels=labels,
        histogram=size_histogram(table[size], units[size], config.histogram_bins),
        grey_histogram=Histogram(grey_counts, grey_edges),
        warnings=warnings,
        interval=totals.interval,
        noise=noise,
        graph=totals.graph,
        morphometry=morphometry,
        group=group,
        settings={**config.model_dump(mode="json"), **grain, **(reading or {})},
        overview=overview,
    )
