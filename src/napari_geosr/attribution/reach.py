"""Find the distances within which given fractions of the attribution lie.

The absolute derivatives of the result with respect to the voxels of the scan are summed
by distance (effective receptive field [1]_). The theoretical receptive field is the
halo of the network, beyond which no voxel can have an effect.

References
----------
.. [1] Luo, Li, Urtasun, Zemel. Understanding the effective receptive field in deep
   convolutional neural networks. NeurIPS (2016). arXiv:1701.04128
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from napari_geosr.attribution import Attribution, AttributionRequest, AttributionResult
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.core.types import AnyArray

TITLE = "Reach"
HELP = "Distances within which 50, 90 and 99 % of the sensitivity to the scan lie."

#: Fractions of the total attribution; for each, the radius that contains it is given.
SHARES = (0.5, 0.9, 0.99)


def explain(request: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Find the distances within which the fractions `SHARES` of the attribution lie."""
    yield StageStarted(message="Computing the reach")
    window = request.window
    _, slope = request.mean_gradient()
    weights = np.abs(slope).astype(np.float64)
    distances = request.distances()
    radii = dict(zip(SHARES, _radii(weights, distances), strict=True))
    layout = window.layout
    halo = [h * v for h, v in zip(_halo(request), request.voxel_size, strict=True)]
    figures = {
        "radius": {f"{share:.0%}": radius for share, radius in radii.items()},
        "receptive_field": dict(zip("zyx", halo, strict=True)),
        "unit": request.unit,
    }
    limit = max(halo[1:]) if layout.ndim == 2 else max(halo)
    field = f"the receptive field of the model reaches {limit:.3g} {request.unit}."
    if request.is_independent:
        sentence = f"The result here does not depend on the scan, although {field}"
    else:
        sentence = (
            "90 % of the dependence of the result on the scan lies within "
            f"{radii[0.9]:.3g} {request.unit} (99 %: {radii[0.99]:.3g} "
            f"{request.unit}); {field}"
        )
    overlay = Attribution(
        window.place, weights.astype(np.float32), "absolute derivative of the result"
    )
    return AttributionResult(figures, sentence, overlay)


def _halo(request: AttributionRequest) -> tuple[int, int, int]:
    """Return the radius of the receptive field along Z, Y and X, in scan voxels."""
    layout = request.scene.layout
    z, y, x = layout.halo
    return z + layout.context, y, x


def _radii(weights: AnyArray, distances: AnyArray) -> Sequence[float | None]:
    """Return the distances within which the fractions `SHARES` of the total lie.

    The distances are None if no voxel has an effect.
    """
    order = np.argsort(distances, axis=None, kind="stable")
    held = np.cumsum(weights.ravel()[order])
    if not held[-1] > 0:
        return [None] * len(SHARES)
    sorted_distances = distances.ravel()[order]
    found: list[float] = []
    for share in SHARES:
        at = int(np.searchsorted(held, share * held[-1] * (1 - 1e-9)))
        found.append(float(sorted_distances[min(at, len(sorted_distances) - 1)]))
    return found
