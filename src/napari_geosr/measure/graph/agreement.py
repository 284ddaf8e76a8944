"""Agreement between the branches of two graphs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyDict
from napari_geosr.measure.graph import NetworkGraph, segment_lengths

Array = npt.NDArray[np.float64]

#: Minimum fraction of a branch that must lie near the other graph for the branch to
#: count as found.
COVERED = 0.8


@dataclass(frozen=True)
class GraphAgreement:
    """Agreement between the branches of two graphs.

    Attributes
    ----------
    distance : float
        Points closer than this to the lines of the other graph count as found.
    length_precision, length_recall : float
        Fraction of the measured length near true lines, and of the true length near
        measured lines.
    branch_precision, branch_recall : float
        The same fractions for the number of branches; a branch counts as found if at
        least 80 % of it lies near the other graph.
    """

    distance: float
    length_precision: float
    length_recall: float
    branch_precision: float
    branch_recall: float

    def to_json_dict(self) -> AnyDict:
        """Return the results in JSON-serialisable form."""
        return dict(vars(self))


def graph_agreement(
    found: NetworkGraph, true: NetworkGraph, distance: float
) -> GraphAgreement:
    """Compare the branches of two graphs within the region that both volumes cover.

    The voxels of the two volumes may differ in size and position; units must be the
    same. For a graph without branches, the fractions are 1 if the other graph has no
    branches either, and 0 otherwise.

    Parameters
    ----------
    distance : float
        Maximum distance, in the unit of the graphs.
    """
    precision = _shares(found, true, distance)
    recall = _shares(true, found, distance)
    return GraphAgreement(distance, precision[0], recall[0], precision[1], recall[1])


def _shares(
    lines: NetworkGraph, other: NetworkGraph, distance: float
) -> tuple[float, float]:
    """Return the fractions of length and of branches near the branches of `other`."""
    from scipy.spatial import cKDTree

    edges = *other.voxel_size, *lines.voxel_size
    # Paths run from voxel to voxel: points less than 1/20 voxel apart add nothing.
    spacing = max(min(distance, *edges) / 2, min(edges) / 20)
    points = _inside([_resample(path, spacing) for path in other.paths], lines.box)
    parts = _inside([_resample(path, spacing) for path in lines.paths], other.box)
    if not parts:
        return float(not points), float(not points)
    if not points:
        return 0.0, 0.0
    tree = cKDTree(np.concatenate(points))
    near = [
        tree.query(part, distance_upper_bound=distance)[0] < np.inf for part in parts
    ]
    of_length = np.concatenate(near).mean()
    of_branches = np.mean([part.mean() >= COVERED for part in near])
    return float(of_length), float(of_branches)


def _inside(parts: list[Array], box: Array) -> list[Array]:
    """Restrict paths to their points within a box; drop paths without such points."""
    kept = [part[((part >= box[0]) & (part <= box[1])).all(axis=1)] for part in parts]
    return [part for part in kept if len(part)]


def _resample(path: Array, spacing: float) -> Array:
    """Return evenly spaced points along a path, each representing the same length."""
    along = np.concatenate([[0.0], np.cumsum(segment_lengths(path))])
    n = max(1, math.ceil(along[-1] / spacing))
    at = (np.arange(n) + 0.5) * along[-1] / n
    return np.stack([np.interp(at, along, path[:, i]) for i in range(3)], axis=1)
