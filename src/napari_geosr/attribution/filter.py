"""Find the filter that the network applies at a voxel (a row of its Jacobian).

A network of convolutions and rectifiers is piecewise linear: near a given input, it
*is* a linear filter plus a constant, ``y = Σ k x + b`` [1]_ [2]_. Whether this is the
case is checked rather than inferred from a list of layers: by Euler's theorem, ``b``
must equal the contribution of the network's biases. For other networks (those with a
smooth noise bound, for example), the same row is the linearisation, which describes
only the effect of small changes.

References
----------
.. [1] Mohan, Kadkhodaie, Simoncelli, Fernandez-Granda. Robust and interpretable blind
   image denoising via bias-free convolutional neural networks. ICLR (2020).
   arXiv:1906.05478
.. [2] Srinivas, Fleuret. Full-gradient representation for neural network visualization.
   NeurIPS (2019). arXiv:1905.00780
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from napari_geosr.attribution import Attribution, AttributionRequest, AttributionResult
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.physics.correlated_noise import noise_of_scan

TITLE = "Filter"
HELP = "The linear filter that the network applies at this position, and its width."

#: Tolerance for rounding errors in Euler's identity, as a fraction of the sum of the
#: absolute values of its terms.
_EXACT = 1e-4
#: Net bias, as a fraction of the output, below which it is not distinguished from zero.
_ROUNDING = 1e-6


def explain(request: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Find the filter at a voxel, or the mean filter of several voxels."""
    yield StageStarted(message="Computing the filter")
    window = request.window
    value, slope = request.mean_gradient()
    exact = window.is_differentiable
    response = float((slope.astype(np.float64) * window.network_input).sum())
    size = float(np.abs(slope.astype(np.float64) * window.network_input).sum())
    mismatch: float | None = None
    if exact:
        bias, bias_size = window.bias_part(request.weights)
        mismatch = abs(value - response - bias) / max(size + bias_size, 1e-30)
        exact = mismatch <= _EXACT
    error = _linearity(request, value, slope)
    statistics = request.scene.statistics
    kernel = slope.astype(np.float64) * window.gain
    output = float(window.grey(np.asarray(value)))
    greys = window.network_input.astype(np.float64) * statistics.input_std
    part = float((kernel * (greys + statistics.input_mean)).sum())
    widths = _widths(request, kernel)
    kind = "exact" if exact else "linearisation"
    if not window.is_differentiable:
        kind = "finite differences"
    figures = {
        "kind": kind,
        "output": output,
        "filter_times_input": part,
        "net_bias": output - part,
        "sum": float(kernel.sum()),
        "identity_error": mismatch,
        "noise_linearity_error": error,
        "noise_gain": _noise_gain(request, kernel),
        "width": dict(zip("zyx", widths, strict=True)),
        **_blur_figures(request),
        "unit": request.unit,
    }
    overlay = Attribution(
        window.place,
        kernel.astype(np.float32),
        "grey value of the result per grey value of the scan",
    )
    return AttributionResult(
        figures, _sentence(request, figures), overlay, _notes(figures)
    )


def _linearity(
    request: AttributionRequest, value: float, slope: AnyArray
) -> float | None:
    """Return the relative error of the filter for changes as large as the noise."""
    window, noise = request.window, request.noise()
    level = noise.level / request.scene.statistics.input_std
    if level == 0:
        return None
    rng = np.random.default_rng(request.seed)
    wrong, changes = [], []
    for _ in range(max(2, request.draws // 2)):
        change = level * noise_of_scan(noise, window.network_input.shape, rng)
        found = float(
            (window.values(window.network_input + change) * request.weights).sum()
        )
        changes.append(found - value)
        wrong.append(found - value - float((slope * change).sum()))
    scale = float(np.sqrt(np.mean(np.square(changes))))
    return float(np.sqrt(np.mean(np.square(wrong)))) / scale if scale > 0 else None


def _noise_gain(request: AttributionRequest, kernel: AnyArray) -> float:
    """Return the output's standard deviation per unit of independent noise."""
    return float(np.sqrt(np.square(kernel).sum()))


def _widths(request: AttributionRequest, kernel: AnyArray) -> list[float]:
    """Return the FWHM, along each axis, of a Gaussian with the same spread.

    The spread is the second moment of the absolute weights about their centre.
    """
    weights = np.abs(kernel)
    total = float(weights.sum())
    found = []
    for axis in range(3):
        along = weights.sum(axis=tuple(a for a in range(3) if a != axis))
        places = np.arange(len(along)) * request.voxel_size[axis]
        if not total > 0:
            found.append(0.0)
            continue
        middle = float((along * places).sum()) / total
        spread = float((along * (places - middle) ** 2).sum()) / total
        found.append(2 * np.sqrt(2 * np.log(2)) * float(np.sqrt(spread)))
    return found


def _sentence(request: AttributionRequest, figures: AnyDict) -> str:
    if request.is_independent:
        return (
            "The result here does not depend on the scan: the model outputs "
            f"{figures['output']:.4g}, regardless of small changes in the scan."
        )
    widths = figures["width"]
    assert isinstance(widths, dict)
    flat = request.scene.layout.ndim == 2
    axes = "yx" if flat else "zyx"
    shown = " × ".join(f"{widths[axis]:.3g}" for axis in axes)
    start = {
        "exact": "Here the network is exactly a linear filter",
        "linearisation": "For small changes, the network acts here like a linear "
        "filter",
        "finite differences": "For small changes (by finite differences), the model "
        "acts here like a linear filter",
    }[str(figures["kind"])]
    blur = _blur_text(figures, axes, request.unit)
    return (
        f"{start} {shown} {request.unit} wide (full width at half maximum, "
        f"{'Y × X' if flat else 'Z × Y × X'}{blur}): {figures['output']:.4g} = "
        f"{figures['filter_times_input']:.4g} (input) {_bias_text(figures)} (net bias)."
    )


def _bias_text(figures: AnyDict) -> str:
    """Return the signed net bias as text; zero if it is below the rounding error."""
    bias, output = float(figures["net_bias"]), float(figures["output"])
    size = abs(bias) if abs(bias) > _ROUNDING * abs(output) else 0.0
    return f"{'−' if bias < 0 and size else '+'} {size:.4g}"


def _blur_figures(request: AttributionRequest) -> dict[str, object]:
    """Return the width of the scan's point-spread function, or why it is unknown."""
    if request.scan_blur is None:
        return {}
    blur = request.scan_blur()
    width = None if blur.reason else dict(zip("zyx", blur.width, strict=True))
    return {"scan_blur": width, "scan_blur_unknown": blur.reason or None}


def _blur_text(figures: dict[str, object], axes: str, unit: str) -> str:
    """Describe the scan's own blur, for comparison with the width of the filter."""
    blur, reason = figures.get("scan_blur"), figures.get("scan_blur_unknown")
    if reason:
        return f"; the scan's own blur cannot be estimated: {reason}"
    if not isinstance(blur, dict):
        return ""
    shown = " × ".join("?" if blur[a] is None else f"{blur[a]:.3g}" for a in axes)
    return f"; the estimated blur of the scan itself is {shown} {unit}"


def _notes(figures: AnyDict) -> tuple[str, ...]:
    if figures["kind"] == "exact":
        return ()
    error = figures["noise_linearity_error"]
    known = (
        ""
        if error is None
        else " For changes as large as the noise, the error of this filter is "
        f"{100 * error:.0f} % of the change."
    )
    return (
        "This network is not piecewise linear, so the filter is its linearisation at "
        f"this input and describes only the effect of small changes.{known}",
    )
