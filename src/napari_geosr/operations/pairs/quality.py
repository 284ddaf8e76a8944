"""Quality of a pair: measured values, and messages about them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.text.figures import Figure
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.registration.align import Alignment
from napari_geosr.registration.figures import (
    BlockShift,
    block_shifts,
    correlation,
    mutual_information,
)
from napari_geosr.registration.sampled import Box, Grid, copy_steps, inside

#: Maximum acceptable misalignment of a pair, in low-resolution voxels.
MAX_SHIFT = 0.5
#: Maximum acceptable misalignment of any part of a pair, in low-resolution voxels.
_MAX_SHIFT_ANYWHERE = 1.0
_MIN_OVERLAP = 0.5
_MIN_CORRELATION = 0.3
#: Minimum number of low-resolution voxels along an axis for training; a pair with fewer
#: is reported as small.
_FEW_VOXELS = 32
_MAX_SCALE = 0.05


@dataclass(frozen=True, eq=False)
class PairQuality:
    """Quality of an aligned pair.

    Attributes
    ----------
    information : tuple of float
        Mutual information in bits, before and after the refinement.
    correlation : tuple of float
        Correlation coefficient, before and after the refinement.
    shifts : list of BlockShift
        Residual shifts, in low-resolution voxels; may be empty.
    overlap : float
        Fraction of the smaller field of view covered by the pair.
    shape : tuple of int
        Number of low-resolution voxels along each axis.
    """

    information: tuple[float, float]
    correlation: tuple[float, float]
    shifts: list[BlockShift]
    overlap: float
    shape: tuple[int, ...]

    @property
    def shift(self) -> float | None:
        """Median residual shift in low-resolution voxels; None if none was measured."""
        if not self.shifts:
            return None
        return float(np.median([found.length for found in self.shifts]))

    @property
    def largest_shift(self) -> float | None:
        """Largest residual shift in low-resolution voxels; None if not measured."""
        return max((found.length for found in self.shifts), default=None)

    def to_json_dict(self) -> AnyDict:
        """Return the measured values in JSON-serialisable form."""
        both = ("before", "after")
        return {
            "mutual_information_bits": dict(zip(both, self.information, strict=True)),
            "correlation": dict(zip(both, self.correlation, strict=True)),
            "residual_shift": {
                "unit": "low-resolution voxels",
                "median": self.shift,
                "largest": self.largest_shift,
                "blocks": [
                    {
                        "centre": list(found.centre),
                        "shift": list(found.shift),
                        "correlation": found.correlation,
                    }
                    for found in self.shifts
                ],
            },
            "overlap": self.overlap,
            "low_voxels": list(self.shape),
        }


@dataclass(frozen=True, eq=False)
class AlignedScans:
    """Both scans on the low-resolution grid, cropped to the pair.

    Attributes
    ----------
    grid : Grid
    low, before, after : ndarray
        The low-resolution scan, and the high-resolution scan before the refinement (NaN
        where it has no data) and after it.
    """

    grid: Grid
    low: npt.NDArray[np.float32]
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]


def overlay_steps(
    aligned: Alignment, low: Volume, box: Box, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, AlignedScans]:
    """Resample the high-resolution scan to `low`'s grid, before and after refinement.

    Alignment used a part of `low` around the start position. If the refinement moved
    the scan beyond this part, `low` is read again.

    Parameters
    ----------
    low : Volume
        The whole low-resolution scan; `aligned.low` may have coarser voxels.
    box : tuple of slice
        Region of the pair, in voxels of `low`.

    Yields
    ------
    Step
        `BlockDone` while `low` is read.

    Returns
    -------
    AlignedScans
    """
    part = aligned.low
    key = _crop_to(part.grid, Grid.of(low).cut(box))
    if key is None:
        ratio = np.rint(part.grid.voxel_size / Grid.of(low).voxel_size).astype(int)
        most = [s.stop - s.start for s in box]
        part = yield from copy_steps(
            low, np.minimum(ratio, most), box, should_stop=should_stop
        )
        key = tuple(slice(0, n) for n in part.grid.shape)
    grid = part.grid.cut(key)
    back = aligned.start.inverse()
    before = aligned.high.on(grid, back, order=3)
    before[~inside(grid, aligned.high.grid, back)] = np.nan
    after = aligned.high.on(grid, aligned.transform.inverse(), order=3)
    return AlignedScans(grid, part.data[key], before, after)


def _crop_to(here: Grid, box: Grid) -> Box | None:
    """Return the part of a scan, at full or reduced resolution, that covers `box`.

    The result is None if the grid `here` of the scan does not contain `box`.
    """
    ratio = here.voxel_size / box.voxel_size
    shape = np.maximum(1, np.floor(np.array(box.shape) / ratio + 1e-6)).astype(int)
    first = box.origin + (ratio - 1) / 2 * box.voxel_size
    ideal = np.rint((first - here.origin) / here.voxel_size).astype(int)
    start = np.clip(ideal, 0, np.maximum(0, np.array(here.shape) - shape))
    # An averaged volume may lack one voxel at its end.
    missed = np.abs(ideal - start) > np.where(ratio > 1.5, 1, 0)
    if missed.any() or (start + shape > here.shape).any():
        return None
    return tuple(slice(int(a), int(a + n)) for a, n in zip(start, shape, strict=True))


def pair_quality(
    aligned: AlignedScans, box: Grid, high: Grid, low: Grid
) -> PairQuality:
    """Measure the alignment and overlap of a pair.

    Parameters
    ----------
    box, high, low : Grid
        Grids of the pair in low-resolution voxels, and of the two scans.
    """
    coarser = aligned.grid.voxel_size / box.voxel_size
    shifts = [
        BlockShift(
            tuple(float(v) for v in found.centre * coarser),
            tuple(float(v) for v in found.shift * coarser),
            found.correlation,
        )
        for found in block_shifts(aligned.low, aligned.after)
    ]
    seen = np.isfinite(aligned.before)
    before = np.nan_to_num(aligned.before)
    return PairQuality(
        information=(
            mutual_information(aligned.low, before, seen),
            mutual_information(aligned.low, aligned.after),
        ),
        correlation=(
            correlation(aligned.low, before, seen),
            correlation(aligned.low, aligned.after),
        ),
        shifts=shifts,
        overlap=min(1.0, box.volume / min(high.volume, low.volume)),
        shape=box.shape,
    )


def quality_warnings(quality: PairQuality, aligned: Alignment) -> list[str]:
    """Return warnings for the user before training with the pair."""
    warnings = []
    shift, largest = quality.shift, quality.largest_shift
    again = (
        "Check the overlay; try a different initial position (--offset, --start), or "
        "allow scaling (--transform similarity)."
    )
    if shift is None:
        warnings.append(
            "The residual shift could not be measured, because the two scans have "
            f"hardly any structure in common. {again}"
        )
    elif shift > MAX_SHIFT:
        warnings.append(
            f"The two scans are still shifted by {shift:.2g} low-resolution voxels "
            f"(the limit is {MAX_SHIFT:g}): a model would learn to blur. "
            f"{again}"
        )
    elif largest is not None and largest > _MAX_SHIFT_ANYWHERE:
        warnings.append(
            f"In one part of the volume, the two scans are shifted by {largest:.2g} "
            "low-resolution voxels, although they agree overall: one of them is "
            "distorted (drift, motion), or the part shows little structure. Check "
            "the overlay."
        )
    after = quality.correlation[1]
    if shift is not None and abs(after) < _MIN_CORRELATION:
        warnings.append(
            f"The two scans have little in common (correlation {after:.2f}): do they "
            f"show the same object? {again}"
        )
    if quality.overlap < _MIN_OVERLAP:
        warnings.append(
            f"Only {100 * quality.overlap:.0f} % of the smaller field of view is in "
            "both scans: the pair is small and its alignment less certain."
        )
    small = [n for n in quality.shape if n < _FEW_VOXELS]
    if small:
        warnings.append(
            f"The pair has only {times(quality.shape)} low-resolution voxels, which "
            "is little training data. Add other pairs, or a larger high-resolution "
            "scan."
        )
    scale = aligned.transform.scale
    if abs(scale - 1) > _MAX_SCALE:
        warnings.append(
            "The high-resolution scan had to be "
            f"{'enlarged' if scale > 1 else 'shrunk'} by {100 * abs(scale - 1):.0f} "
            "%, so one of the voxel sizes is wrong."
        )
    return warnings


def times(shape: Sequence[int]) -> str:
    """Format a shape as text."""
    return " × ".join(map(str, shape))


#: Remark on lengths in reports.
_LOW = "in low-resolution voxels"
#: Descriptions of the noise spectra in reports.
_SHAPES = {
    "white": "independent from voxel to voxel",
    "reconstruction": "correlated as in reconstructed slices",
    "smooth": "coarse-grained",
}


def report_lines(report: AnyMapping) -> list[str]:
    """Return the measured values of a pair, and notes about it, one per line."""
    figures = (figure.line for figure in report_figures(report))
    return [*figures, *report_notes(report)]


def report_figures(report: AnyMapping) -> list[Figure]:
    """Return the measured values of a pair."""
    own = _degraded_figures if "degrade" in report else _aligned_figures
    return [*own(report), *_sizes(report)]


def _sizes(report: AnyMapping) -> list[Figure]:
    return [
        Figure(f"Size at {key} resolution", times(report[key]["shape"]), "voxels")
        for key in ("low", "high")
    ]


def _aligned_figures(report: AnyMapping) -> list[Figure]:
    quality, way, grey = (report[k] for k in ("quality", "transform", "grey_values"))
    information = quality["mutual_information_bits"]
    moved = [f"{v:+.3g}".replace("-", "\N{MINUS SIGN}") for v in way["moved"]]
    axes = "ZYX"[-len(moved) :]
    scale = [] if abs(way["scale"] - 1) < 1e-9 else [f"{way['scale']:.4f}"]
    return [
        Figure("Rotation", f"{way['degrees']:.2f}", "°"),
        *(Figure("Scale factor", value) for value in scale),
        *(
            Figure(
                f"Shift along {axis}",
                value,
                report["unit"],
                help=f"Shift along {axis} from the initial position.",
            )
            for axis, value in zip(axes, moved, strict=True)
        ),
        *_residual_shift(quality["residual_shift"]),
        Figure(
            "Mutual information",
            " → ".join(f"{bits:.2f}" for bits in information.values()),
            "bits",
            help="Mutual information of the scans before and after the alignment.",
        ),
        _blur("Blur at low resolution", grey["low_blur"]),
        Figure("Noise at low resolution", f"{grey['low_noise']:.3g}", "grey values"),
        Figure(
            "Overlap",
            f"{100 * quality['overlap']:.0f}",
            "%",
            help="Fraction of the smaller field of view that is in both scans.",
        ),
    ]


def _residual_shift(shift: AnyMapping) -> list[Figure]:
    """Return the median of the residual shifts, and the largest of several."""
    if shift["median"] is None:
        return [Figure("Residual shift", "could not be measured")]
    n = len(shift["blocks"])
    typical = Figure("Residual shift", f"{shift['median']:.2f}", "voxels", _LOW)
    if n < 2:
        return [typical]
    largest = f"{shift['largest']:.2f}"
    return [
        replace(typical, remark=f"median of {n} parts, {_LOW}"),
        Figure("Largest residual shift", largest, "voxels"),
    ]


def _blur(label: str, value: float, remark: str = "") -> Figure:
    explained = f"{label} (standard deviation)."
    return Figure(label, f"{value:.2f}", "voxels", remark, explained)


def _degraded_figures(report: AnyMapping) -> list[Figure]:
    settings, measured = report["settings"], report["measured"]
    if measured is not None:
        return [
            _blur("Measured blur", measured["blur"], _LOW),
            Figure("Measured noise", f"{measured['noise']:.3g}", "grey values"),
            Figure("Gain of the grey values", f"{measured['gain']:.4g}"),
            Figure("Offset of the grey values", _signed(measured["offset"])),
        ]
    if settings.get("mtf10") is not None:
        frequency = f"{settings['mtf10']:.3g}"
        return [Figure("Frequency at MTF 10 %", frequency, "line pairs per mm")]
    return [Figure("Blur", f"{settings['blur']:.3g}", "voxels", _LOW)]


def _signed(value: float) -> str:
    return f"{value:+.4g}".replace("-", "\N{MINUS SIGN}")


def report_notes(report: AnyMapping) -> list[str]:
    """Return sentences on the noise and sampling of a simulated pair, if any."""
    if "degrade" not in report:
        return []
    if (measured := report["measured"]) is not None:
        return [f"The noise is {_SHAPES[measured['noise_shape']]}."]
    return _sampling(report)


def _sampling(report: AnyMapping) -> list[str]:
    if report.get("sampling") != "kept":
        return []
    lines = [
        "Sampling: single voxels are kept, with their noise; all others are skipped."
    ]
    if report["interpolated"]:
        lines.append(
            "High resolution: shifted by half a voxel (interpolated) to match the "
            "voxel positions of networks with this upscale factor."
        )
    if report["separated_noise"]:
        lines.append(
            "Noise: not shared; in the high-resolution scan, the kept voxels were "
            "interpolated from the skipped ones."
        )
    return lines
