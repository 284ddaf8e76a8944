"""Grey values of a whole scan, to compare scans with those that a model was trained on.

A sample of planes is read, so that little of a large scan is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyArray
from napari_geosr.models.card import QUANTILE_LEVELS

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume

#: Maximum number of planes that are read, and of voxels that are used in each.
_MAX_PLANES = 32
_MAX_IN_PLANE = 2**12
#: Bytes for each voxel that is used: its grey value in float64, and a sorted copy.
_SAMPLE_BYTES = 16


@dataclass(frozen=True)
class ScanGreyValues:
    """Grey values of a whole scan.

    Attributes
    ----------
    mean, sd : float
        Mean and standard deviation of the finite grey values.
    quantiles : tuple of float
        Percentiles at `QUANTILE_LEVELS`.
    """

    mean: float
    sd: float
    quantiles: tuple[float, ...]


def scan_values_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Return the memory that `scan_values_steps` needs, in bytes."""
    plane = shape[1] * shape[2]
    sample = min(shape[0], _MAX_PLANES) * min(plane, _MAX_IN_PLANE)
    return plane * itemsize + sample * _SAMPLE_BYTES


def scan_values_steps(
    volume: Volume, should_stop: ShouldStop
) -> Generator[Step, None, ScanGreyValues | None]:
    """Return the grey values of a whole scan; None if they do not vary.

    Parameters
    ----------
    volume : Volume
        Grey values (Z, Y, X). NaN and infinite values are ignored.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` returns True.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_geosr.core.steps import never_stop, run_to_end
    >>> from napari_geosr.core.volume import Volume
    >>> scan = Volume(np.array([[[1.0, 3.0, 1.0, 3.0]]]), "ZYX")
    >>> found = run_to_end(scan_values_steps(scan, never_stop))
    >>> found.mean, found.sd
    (2.0, 1.0)
    """
    yield StageStarted(message=f"Reading {volume.title}")
    depth, *plane = volume.shape
    n_planes = min(depth, _MAX_PLANES)
    # If step and width have no common factor, voxels of all columns are used.
    step = -(-math.prod(plane) // _MAX_IN_PLANE)
    while math.gcd(step, plane[1]) > 1:
        step += 1
    parts: list[AnyArray] = []
    for i in range(n_planes):
        if should_stop():
            raise Cancelled("Stopped while reading; no file was written.")
        z = (2 * i + 1) * depth // (2 * n_planes)
        # A copy, because a view would keep the whole plane in memory.
        used = np.asarray(volume.data[z : z + 1]).ravel()[::step].astype(np.float64)
        parts.append(used[np.isfinite(used)])
        yield BlockDone(i + 1, n_planes)
    sample = np.concatenate(parts)
    if not sample.size or not (sd := float(sample.std())) > 0:
        return None
    quantiles = tuple(map(float, np.percentile(sample, QUANTILE_LEVELS)))
    return ScanGreyValues(float(sample.mean()), sd, quantiles)
