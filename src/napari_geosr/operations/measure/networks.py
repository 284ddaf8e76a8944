"""Compare the graphs of two measured volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.measure.config import PorosityConfig as MeasureConfig
from napari_geosr.measure.graph.agreement import GraphAgreement as GraphAgreement
from napari_geosr.measure.graph.agreement import graph_agreement
from napari_geosr.measure.number_text import number_text, percent_text

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport

#: Default matching distance for branches, in voxels of the coarser volume.
MATCHING_VOXELS = 2.0


def check_distance(
    distance: float | None, *, reference: bool, config: MeasureConfig
) -> None:
    """Refuse an invalid matching distance before anything is measured.

    Raises
    ------
    ConfigError
        If there is no reference or no graph, or the distance is not positive.
    """
    if distance is None:
        return
    if not (reference and config.graph):
        raise ConfigError("--graph-distance requires --graph and --reference.")
    if not 0 < distance < math.inf:
        raise ConfigError(
            "The distance set with --graph-distance must be above zero, not "
            f"{distance:g}."
        )


def agreement_of(
    reports: Mapping[str, PorosityReport], distance: float | None = None
) -> GraphAgreement | None:
    """Return the agreement of the branches of both volumes, if they were traced.

    Parameters
    ----------
    distance : float, optional
        Matching distance for branches, in the unit of the first volume; by default, two
        voxels of the coarser volume.
    """
    graphs = [r.graph for r in reports.values() if r.graph is not None]
    if len(graphs) < 2:
        return None
    found, true = graphs[:2]
    if found.unit != true.unit and {found.unit, true.unit} <= MILLIMETRES.keys():
        true = true.in_unit(found.unit)
    if distance is None:
        distance = MATCHING_VOXELS * max(*found.voxel_size, *true.voxel_size)
    return graph_agreement(found, true, distance)


def agreement_lines(agreement: GraphAgreement, unit: str) -> list[str]:
    """Return lines that summarise the agreement for the user."""
    within = f"within {number_text(agreement.distance)} {unit}"
    found, of_length, true, true_length = (
        percent_text(part)
        for part in (
            agreement.branch_recall,
            agreement.length_recall,
            agreement.branch_precision,
            agreement.length_precision,
        )
    )
    return [
        f"Branches of the reference that were found: {found} ({of_length} of the "
        f"length), {within}",
        f"Found branches that are in the reference: {true} ({true_length} of the "
        "length)",
    ]
