"""Local attribution: integrated gradients along a path from a blurred scan.

The map shows which regions of the scan cause a feature of the result (its grey value or
edges). A blurred copy of the scan is sharpened step by step. The derivatives along this
path, multiplied by the steps, add up approximately to the change in the feature (Gu and
Dong [1]_, after integrated gradients [2]_). The completeness error is the difference
between this sum and the actual change.

References
----------
.. [1] Gu, Dong. Interpreting super-resolution networks with local attribution maps.
   CVPR (2021). arXiv:2011.11036
.. [2] Sundararajan, Taly, Yan. Axiomatic attribution for deep networks. ICML (2017).
   arXiv:1703.01365
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.attribution import Attribution, AttributionRequest, AttributionResult
from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    import torch

TITLE = "Local attribution"
HELP = (
    "Details of the scan that give rise to a feature of the result (integrated "
    "gradients)."
)

#: Maximum difference between the sum of the attributions and the change to explain, as
#: a fraction of the change; above it, a note advises more steps.
_MAX_ERROR = 0.1


def explain(request: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Attribute a feature of the result to the voxels of the scan."""
    yield StageStarted(message="Integrating gradients")
    window, steps = request.window, request.steps
    total = np.zeros(window.network_input.shape)
    before = _blurred(request, 0.0)
    first = _value(request, before)
    for i in range(steps):
        middle = _blurred(request, (i + 0.5) / steps)
        after = _blurred(request, (i + 1) / steps)
        _, slope = window.gradient(lambda v: _feature(request, v), middle)
        total += slope * (after - before)
        before = after
        yield BlockDone(i + 1, steps)
    last = _value(request, window.network_input)
    change = last - first
    error = abs(float(total.sum()) - change)
    relative = error / abs(change) if change else 0.0
    std = request.scene.statistics.output_std
    figures = {
        "feature": request.feature,
        "change": change * std,
        "attributed": float(total.sum()) * std,
        "completeness_error": relative,
        "diffusion_index": _diffusion(total),
        "steps": steps,
        "blur": request.blur,
    }
    sentence = (
        f"Sharpening the scan changed the {_NAMES[request.feature]} by "
        f"{figures['change']:.4g}; the map explains this change to within "
        f"{100 * relative:.1f} % "
        f"(diffusion index {figures['diffusion_index']:.3g})."
    )
    if not total.any() and not change:
        sentence = (
            f"The {_NAMES[request.feature]} here does not depend on the scan: "
            "sharpening the scan did not change it, and no voxel contributes to it."
        )
    notes: tuple[str, ...] = ()
    if relative > _MAX_ERROR:
        notes = (
            "The sum of the attributions differs from the change by "
            f"{100 * relative:.0f} %: use more steps (--steps).",
        )
    overlay = Attribution(
        window.place,
        (total * std).astype(np.float32),
        "contribution to the change of the feature",
    )
    return AttributionResult(figures, sentence, overlay, notes)


_NAMES = {"grey": "mean grey value", "edge": "mean gradient"}


def _blurred(request: AttributionRequest, share: float) -> AnyArray:
    """Return a point on the path from the blurred (0) to the sharp scan (1)."""
    from scipy import ndimage

    network_input = request.window.network_input
    width = request.blur * (1 - share)
    if width == 0:
        return network_input
    widths = [width if n > 1 else 0.0 for n in network_input.shape]
    blurred: AnyArray = ndimage.gaussian_filter(network_input, widths, mode="nearest")
    return blurred


def _value(request: AttributionRequest, network_input: AnyArray) -> float:
    import torch

    return float(
        _feature(request, torch.from_numpy(request.window.values(network_input)))
    )


def _feature(request: AttributionRequest, values: torch.Tensor) -> torch.Tensor:
    """Return the chosen feature of the standardised region."""
    import torch

    mask = torch.from_numpy(request.mask)
    if request.feature == "grey":
        return values[mask].mean()
    square = torch.zeros_like(values)
    for axis, n in enumerate(values.shape):
        if n > 1:
            difference = values.diff(dim=axis)
            end = torch.zeros_like(values.narrow(axis, 0, 1))
            square = square + torch.cat([difference, end], axis).square()
    # The constant keeps the derivative of the square root finite at zero.
    return (square[mask] + 1e-12).sqrt().mean()


def _diffusion(values: AnyArray) -> float:
    """Return the diffusion index [1]_: 100 · (1 - Gini coefficient of the values)."""
    sizes = np.sort(np.abs(values).ravel())
    total, n = float(sizes.sum()), len(sizes)
    if not total > 0:
        return 0.0
    ranks = np.arange(1, n + 1)
    gini = float(((2 * ranks - n - 1) * sizes).sum()) / (n * total)
    return 100 * (1 - gini)
