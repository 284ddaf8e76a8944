"""The result of planning a scan."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from napari_geosr.core.text.figures import Figure, percentage
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import shown_unit, shown_units
from napari_geosr.measure.number_text import (
    POINTS,
    number_text,
    percent_range_text,
    percent_text,
    rough_percent,
)

#: Minimum number of spots: at least two are needed to estimate their variation.
FEWEST = 2
#: Fraction of all spots at and above which scanning the whole sample is recommended.
MANY = 1 / 3
#: Largest ratio of two widths of an interval that count as equal.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class SizeRow:
    """Number of spots of one size that are needed for the accepted error.

    Attributes
    ----------
    voxels : float
        Edge of a spot, in voxels.
    n_cubes : int
        Cubes of this size in the scan.
    sd : float
        Standard deviation of the porosity of these cubes.
    is_measured : bool
        Whether `sd` was measured; if not, it was extrapolated with two-point
        statistics.
    n_spots : int
    half_width : float
        Half-width of the interval of the porosity; see `ScanPlan`.
    share : float or None
        Fraction of the sample that is scanned; None if it is unknown.
    """

    voxels: float
    n_cubes: int
    sd: float
    is_measured: bool
    n_spots: int
    half_width: float
    share: float | None

    def is_worthwhile(self, accepted: float) -> bool:
        """Return whether less than a third of the spots reach the accepted error."""
        few = self.n_spots < max(FEWEST + 1, MANY * self.n_cubes)
        return few and self.half_width <= accepted * _ROUNDING


@dataclass(frozen=True)
class Spot:
    """One position to scan.

    Attributes
    ----------
    stratum : int
        Number of the group of cubes of similar porosity, from the lowest; one spot is
        drawn from each group.
    centre : tuple of 3 float
        Position (Z, Y, X) in the coordinate system and unit of the scan.
    porosity : float
        Porosity of the spot in the low-resolution scan.
    """

    stratum: int
    centre: tuple[float, float, float]
    porosity: float


@dataclass(frozen=True)
class Costs:
    """Scan time, energy and CO2eq of the planned spots.

    Attributes
    ----------
    hours : float
    hours_saved : float or None
        Hours saved compared with scanning all spots of the sample.
    kilowatts : float or None
    kilograms_per_kilowatt_hour : float
    """

    hours: float
    hours_saved: float | None
    kilowatts: float | None
    kilograms_per_kilowatt_hour: float

    def to_json_dict(self) -> AnyDict:
        """Return the hours, kilowatt-hours and kilograms of CO2eq."""
        found: AnyDict = {"hours": self.hours, "hours_saved": self.hours_saved}
        if self.kilowatts is not None:
            for suffix, hours in (("", self.hours), ("_saved", self.hours_saved)):
                energy = None if hours is None else hours * self.kilowatts
                found[f"kilowatt_hours{suffix}"] = energy
                found[f"kilograms_co2eq{suffix}"] = (
                    None
                    if energy is None
                    else energy * self.kilograms_per_kilowatt_hour
                )
        return found


@dataclass(frozen=True, eq=False)
class ScanPlan:
    """Plan of a scan: how many spots of the sample to scan, and where.

    Attributes
    ----------
    name, unit : str
        Name and unit of the scan; lengths are in `unit`.
    voxel_size : float
        Edge of a (cubic) voxel.
    flat : bool
        Whether the scan is an image.
    whole : bool
        Whether the scan covers the whole sample.
    threshold, porosity : float
    accepted_error : float
        Accepted error of the porosity.
    confidence : float
    spot_edge : float
        Edge of a spot. If the spots have positions, it is a whole number of voxels and
        not larger than requested.
    sd : float
        Standard deviation of the porosity between spots.
    n_spots : int
    n_possible : int or None
        Number of spots in the sample; None if only a part of it was scanned.
    covered, covered_porosity : float or None
        Fraction of the sample in these spots, and their mean porosity; None if only a
        part of the sample was scanned.
    half_width : float
        Half-width of the interval of the porosity from `n_spots` random spots. This
        half-width includes the difference between `covered_porosity` and `porosity`.
        The spots have not been scanned yet: this is the precision to expect.
    scan_interval : tuple of 2 float, or None
        Interval of the porosity of the material from this scan alone, if it shows one
        spot; None for a scan of the whole sample.
    correlation_length, representative_edge : float or None
        Lengths in `unit`; None if too large to be determined from the scan.
    sizes : tuple of SizeRow
        Numbers of spots for other spot sizes.
    spots : tuple of Spot
        Positions of the spots; empty if only a part of the sample was scanned.
    costs : Costs or None
    remarks : tuple of str
    settings : mapping

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> import warnings
    >>> warnings.simplefilter("ignore")
    >>> grey = np.random.default_rng(0).choice([50, 200], (96, 96), p=[0.3, 0.7])
    >>> plan = geosr.plan_scan(grey.astype("u1"), spot=16, precision="10%")
    >>> plan.n_spots, len(plan.spots)
    (3, 3)
    """

    name: str
    unit: str
    voxel_size: float
    flat: bool
    whole: bool
    threshold: float
    porosity: float
    accepted_error: float
    confidence: float
    spot_edge: float
    sd: float
    n_spots: int
    n_possible: int | None
    covered: float | None
    covered_porosity: float | None
    half_width: float
    scan_interval: tuple[float, float] | None
    correlation_length: float | None
    representative_edge: float | None
    sizes: tuple[SizeRow, ...]
    spots: tuple[Spot, ...]
    costs: Costs | None
    remarks: tuple[str, ...]
    settings: AnyMapping

    def to_json_dict(self) -> AnyDict:
        """Return all values in JSON-serialisable form."""
        values = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("sizes", "spots", "costs", "settings", "remarks")
        }
        return values | {
            "unit": self.shown_unit,
            "sizes": [
                {"edge": row.voxels * self.voxel_size, **asdict(row)}
                for row in self.sizes
            ],
            "spots": [asdict(spot) for spot in self.spots],
            "costs": None if self.costs is None else self.costs.to_json_dict(),
            "remarks": list(self.remarks),
            "settings": dict(self.settings),
        }

    def length_text(self, length: float | None) -> str:
        """Format a length with its unit."""
        return self._length("", length).text

    def _length(self, label: str, length: float | None, remark: str = "") -> Figure:
        if length is None:
            return Figure(label, "larger than this scan", remark=remark)
        unit = shown_units(self.unit, [self.voxel_size], flat=self.flat)
        return Figure(label, number_text(length), unit, remark)

    @property
    def shown_unit(self) -> str:
        """Unit of lengths; see `napari_geosr.core.units.shown_unit`."""
        return shown_unit(self.unit, [self.voxel_size], flat=self.flat)

    def _extrapolated(self) -> str:
        """Return a remark if no cubes of the representative size were measured."""
        edges = [row.voxels for row in self.sizes if row.is_measured]
        most = max(edges, default=0.0) * self.voxel_size
        edge = self.representative_edge
        return "extrapolated" if edge is not None and edge > most else ""

    def _coverage(self) -> list[Figure]:
        """Return the row on the fraction of the sample in whole spots, if below 1."""
        if self.covered is None or self.covered_porosity is None:
            return []
        share = percent_text(self.covered)
        if share == percent_text(1.0):
            return []
        mean = f"mean porosity {percent_text(self.covered_porosity)}"
        return [percentage("Sample covered by whole spots", share, mean)]

    def _alone(self, percent: str) -> list[Figure]:
        """Return the row on the interval from this scan alone, if it shows one spot."""
        if self.scan_interval is None:
            return []
        text = percent_range_text(self.scan_interval)
        return [percentage(f"{percent} interval from this spot alone", text)]

    def _number(self) -> Figure:
        """Return the row on the number of spots."""
        possible = "" if self.n_possible is None else f"of {self.n_possible} possible"
        remark = ""
        if self.n_possible and 2 < self.n_spots >= self.n_possible * MANY:
            others = any(row.is_worthwhile(self.accepted_error) for row in self.sizes)
            if others and self.half_width > self.accepted_error * _ROUNDING:
                remark = "precision not reached"
            elif not others:
                remark = "scan the whole sample instead"
        return Figure("Spots", str(self.n_spots), possible, remark)

    def figures(self) -> list[Figure]:
        """Return the values to display."""
        percent = f"{100 * self.confidence:g} %"
        shape = "square" if self.flat else "cube"
        half_width, sd = (
            rough_percent(n).removesuffix(" %") for n in (self.half_width, self.sd)
        )
        return [
            self._number(),
            self._length("Edge length of a spot", self.spot_edge),
            percentage("Porosity of this scan", percent_text(self.porosity)),
            *self._alone(percent),
            Figure(
                f"Expected {percent} interval from {self.n_spots} spots",
                f"± {half_width}",
                POINTS,
            ),
            *self._coverage(),
            Figure("Standard deviation between spots", sd, POINTS),
            self._length("Correlation length", self.correlation_length),
            self._length(
                f"Representative size (single {shape})",
                self.representative_edge,
                self._extrapolated(),
            ),
            *self._spent(),
        ]

    def _spent(self) -> list[Figure]:
        """Return the rows on scan time, energy and CO2eq, if known."""
        found = []
        costs = {} if self.costs is None else self.costs.to_json_dict()
        for key, value in costs.items():
            if value is not None:
                label, unit = _COSTS[key.removesuffix("_saved")]
                remark = ""
                if key.endswith("_saved"):
                    label += " saved"
                    remark = f"compared with all {self.n_possible} possible spots"
                found.append(Figure(label, number_text(value), unit, remark))
        return found

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of labels and values for display."""
        return [(figure.label, figure.text) for figure in self.figures()]

    def size_rows(self) -> list[tuple[str, str, str]]:
        """Return rows for other spot sizes: edge, number of spots, fraction scanned."""
        found = []
        for row in self.sizes:
            edge = self.length_text(row.voxels * self.voxel_size)
            if row.half_width > self.accepted_error * _ROUNDING:
                found.append((edge, "not reached", ""))
                continue
            share = "" if row.share is None else percent_text(row.share)
            found.append((edge, str(row.n_spots), share))
        return found

    @property
    def size_note(self) -> str:
        """Explains why a larger size needs more spots; empty if no larger size does."""
        numbers = [row.n_spots for row in self.sizes]
        if not self.whole or numbers == sorted(numbers, reverse=True):
            return ""
        return (
            "The number of spots does not decrease steadily with their size, because "
            "whole spots of each size fit into a different part of the sample."
        )


#: Titles of the columns of `ScanPlan.size_rows`.
SIZE_TITLES = ("Edge", "Spots", "Scanned")
#: Heading of the table of other spot sizes.
SIZES_HEADING = "Other spot sizes for the same precision:"
_COSTS = {
    "hours": ("Scan time", "h"),
    "kilowatt_hours": ("Energy", "kWh"),
    "kilograms_co2eq": ("CO2eq", "kg"),
}
