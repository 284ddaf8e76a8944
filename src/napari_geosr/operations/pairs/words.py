"""The report of a pair in words, for the terminal and the dock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What the spectrum of the noise is called.
_SHAPES = {
    "white": "independent from voxel to voxel",
    "reconstruction": "with the grain of reconstructed slices",
    "smooth": "with a coarse grain",
}


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """The figures of a pair, one line each."""
    lines = _of_degraded(report) if "degrade" in report else _of_aligned(report)
    return [*lines, _sizes(report)]


def _sizes(report: Mapping[str, Any]) -> str:
    shapes = (" × ".join(map(str, report[key]["shape"])) for key in ("low", "high"))
    low, high = shapes
    return f"Pair: {low} voxels, and {high} of the high resolution"


def _of_aligned(report: Mapping[str, Any]) -> list[str]:
    quality, way, grey = (report[k] for k in ("quality", "transform", "grey_values"))
    shift = quality["residual_shift"]
    information = quality["mutual_information_bits"]
    if shift["median"] is None:
        left = "Residual shift: could not be measured"
    else:
        left = f"Residual shift: {shift['median']:.2f} voxels of the low resolution"
        n = len(shift["blocks"])
        if n > 1:
            left += f" (median of {n} parts; largest {shift['largest']:.2f})"
    size = (
        "" if abs(way["scale"] - 1) < 1e-9 else f", made {way['scale']:.4f} × as large"
    )
    moved = ", ".join(f"{v:+.3g}" for v in way["moved"])
    return [
        f"Alignment: turned by {way['degrees']:.2f}°{size}, moved by {moved} "
        f"{report['unit']} from the start",
        left,
        f"Mutual information: {information['before']:.2f} bits before, "
        f"{information['after']:.2f} after",
        f"Low resolution: blurred by {grey['low_blur']:.2f} of its voxels (standard "
        f"deviation), noise {grey['low_noise']:.3g} grey values",
        f"Overlap: {100 * quality['overlap']:.0f} % of the smaller field of view",
    ]


def _of_degraded(report: Mapping[str, Any]) -> list[str]:
    settings, measured = report["settings"], report["measured"]
    if measured is None:
        if settings.get("mtf10") is not None:
            blur = f"MTF 10 % at {settings['mtf10']:.3g} line pairs per mm"
        else:
            blur = f"{settings['blur']:.3g} coarse voxels"
        return [f"Blur: {blur}"]
    return [
        f"Measured blur: {measured['blur']:.2f} coarse voxels (standard deviation)",
        f"Measured noise: {measured['noise']:.3g} grey values, "
        f"{_SHAPES[measured['noise_shape']]}",
        f"Grey values: × {measured['gain']:.4g} {measured['offset']:+.4g}",
    ]
