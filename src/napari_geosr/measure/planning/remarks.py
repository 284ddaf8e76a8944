"""Remarks on the limitations of a scan plan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from napari_geosr.core.units import shown_units
from napari_geosr.measure.number_text import number_text, percent_text
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.planning.cells import Cubes
from napari_geosr.measure.planning.config import PlanConfig
from napari_geosr.measure.planning.result import FEWEST, MANY, SizeRow
from napari_geosr.measure.planning.variation import Variation

#: Minimum edge of a spot in correlation lengths; smaller spots contain little more than
#: a single pore.
_FEW_LENGTHS = 5
#: Difference between two edges of a spot, in voxels, up to which they count as
#: equal.
_TOLERANCE = 1e-6


def size_remarks(
    phases: Phases, wanted: float, spot: float, config: PlanConfig
) -> Iterator[str]:
    """Yield a remark if the spots are smaller than requested; edges in voxels."""
    if config.is_relative or wanted - spot < _TOLERANCE:
        return
    requested, planned = (
        f"{number_text(edge * phases.edge)} "
        + shown_units(phases.unit, [edge * phases.edge], flat=phases.flat)
        for edge in (wanted, spot)
    )
    unit = "number of voxels of this scan"
    if phases.original is not None:
        unit = "multiple of the shortest voxel edge of this scan"
    yield (
        f"Spots of {requested} were requested; the plan uses {planned}, because the "
        f"width of a spot must be a whole {unit}."
    )


def plan_remarks(
    phases: Phases,
    spots: Cubes,
    variation: Variation,
    length: float | None,
    porosity: float,
    accepted: float,
    config: PlanConfig,
    own: SizeRow,
    rows: Sequence[SizeRow],
) -> Iterator[str]:
    """Yield remarks on the limitations of the plan for this scan.

    Parameters
    ----------
    spots : Cubes
        All spots of the scan.
    variation : Variation
    length : float or None
        Correlation length in voxels.
    porosity, accepted : float
        Porosity of the sample, and its accepted error.
    config : PlanConfig
    own : SizeRow
        Row of the requested spots.
    rows : sequence of SizeRow
        Rows of the other sizes.
    """
    n, edge = own.n_spots, own.voxels
    whole = config.scan == "whole"
    average = float(spots.porosity.mean()) if whole else porosity
    reached = abs(average - porosity) < accepted
    worthwhile = n < max(FEWEST + 1, MANY * len(spots)) if whole else True
    better = _better_size(phases, own, rows, accepted) if whole else ""
    if reached and not worthwhile:
        other = f" or spots of {better}" if better else ""
        yield (
            f"Spots of this size are not worthwhile: {n} of {len(spots)} possible "
            "spots would be needed. Scan the whole sample at high resolution, or "
            f"choose a lower precision{other}."
        )
    if not variation.is_measured(edge):
        most = variation.largest
        unit = shown_units(phases.unit, [phases.edge], flat=phases.flat)
        yield (
            "The scan has too few cubes of the spot's size: the differences between "
            f"spots were extrapolated from {len(most)} cubes of "
            f"{number_text(most.edge * phases.edge)} {unit} "
            "using the two-point statistics. A larger scan gives a more reliable plan."
        )
    if length is not None and edge < _FEW_LENGTHS * length:
        yield (
            f"A spot is only {edge / length:.1f} correlation lengths wide, so many "
            "spots are needed, and many pores are cut by the edges of the spots."
        )
    if whole:
        if abs(average - porosity) > accepted / 2:
            yield (
                "Whole spots fit into only "
                f"{percent_text(spots.sample / phases.scan.sample_voxels)} of the "
                "sample; "
                f"their mean porosity is {percent_text(average)} instead of "
                f"{percent_text(porosity)}. The interval includes this difference"
                + ("." if reached else f", so {_not_reached(better)}")
            )
        yield (
            "The interval reflects how much the spots differ in this scan. Pores that "
            "this scan does not resolve increase the differences: plan again after the "
            "first high-resolution scan."
        )
    elif length is None:
        yield (
            "The porosity is correlated over more than half of the scan, so the "
            "number of spots is underestimated. Use a larger scan."
        )


def _better_size(
    phases: Phases, own: SizeRow, rows: Sequence[SizeRow], accepted: float
) -> str:
    """Name the nearest size with which few spots reach the precision, if any."""
    good = [row for row in rows if row.is_worthwhile(accepted)]
    if not good:
        return ""
    row = min(good, key=lambda each: abs(math.log(each.voxels / own.voxels)))
    edge = row.voxels * phases.edge
    unit = shown_units(phases.unit, [edge], flat=phases.flat)
    share = "" if row.share is None else f", {percent_text(row.share)} of the sample"
    return f"{number_text(edge)} {unit} ({row.n_spots}{share})"


def _not_reached(better: str) -> str:
    """State that these spots do not reach the precision, and name a size that does."""
    if better:
        return f"the requested precision is not reached. Choose spots of {better}."
    return (
        "the requested precision is not reached. Spots of other sizes do not reach it "
        "either, or more than a third of them would be needed: scan the whole sample, "
        "or choose a lower precision."
    )
