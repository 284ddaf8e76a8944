"""Check a restored volume against its scan: residual, metrics, suspicious regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop
from napari_geosr.core.text.display import one_line
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.suffixes import sibling_path
from napari_geosr.measure.consistency import consistency_steps as engine_steps
from napari_geosr.measure.resolution.redegrade import Pair
from napari_geosr.operations.cluster import Workers, check_workers
from napari_geosr.operations.cluster.copies import array_for_workers
from napari_geosr.operations.cluster.shared_folders import folder_for_copies
from napari_geosr.operations.cluster.slabs import ordered_workers
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.restore.consistency_verdict import (
    ConsistencyVerdict,
    verdict_of,
)
from napari_geosr.operations.storage import array_for

if TYPE_CHECKING:
    from napari_geosr.measure.consistency import Consistency, Fault
    from napari_geosr.measure.consistency.regions import MismatchRegion

#: Message if the check has no findings.
NOTHING_FOUND = (
    "All values are within the limits of the check: the residual is about as large "
    "as expected for noise alone."
)
#: Suffix added to the names of a residual and of its file.
RESIDUAL = "residual"
#: Maximum number of regions listed individually.
_LISTED = 20
#: Absolute regression slope (scan on result) below which the two count as unrelated.
_UNRELATED = 0.2
#: Tolerance for the positions of the edges of the field of view, in voxels of the scan.
_SAME_PLACE = 0.05


def residual_path(out: str | Path) -> Path:
    """Return the path of a result's residual: ``STEM_residual.SUFFIX``."""
    return sibling_path(Path(out), RESIDUAL)


@dataclass(frozen=True)
class ConsistencyCheck:
    """Comparison of a result with its scan.

    Attributes
    ----------
    residual : Volume
        Scan minus the scan simulated from the result, at the position of the scan.
    figures : Consistency
    sentences : tuple of str
        Findings for the user; empty if everything is within the limits of the check.
    path : Path or None
        File of the residual.
    """

    residual: Volume
    figures: Consistency
    sentences: tuple[str, ...]
    path: Path | None = None

    def __repr__(self) -> str:
        return one_line(
            type(self).__name__,
            self.residual.name,
            (
                "consistent" if self.figures.is_consistent else "not consistent",
                f"residual {self.figures.residual_rms:.3g} (rms)",
                f"noise {self.figures.noise_rms:.3g} (rms)",
                f"regions {len(self.figures.places)}",
            ),
        )

    @property
    def verdict(self) -> ConsistencyVerdict:
        """The overall verdict; `sentences` and `figures` are its details."""
        return verdict_of(self.figures, math.prod(self.residual.shape))

    def figure_lines(self) -> tuple[str, ...]:
        """Return the measured values in words, each with the expected value."""
        found = self.figures
        residual = (
            f"Residual: {found.residual_rms:.3g} (rms; noise alone: "
            f"{found.noise_rms:.3g}), {100 * found.beyond_3_sigma:.2g} % of voxels "
            "beyond 3 standard deviations (noise alone: 0.27 %)"
        )
        if found.slope is None or found.slope_error is None:
            return (residual,)
        slope = _slope_text(found.slope, found.slope_error)
        return residual, f"Contrast relative to the scan: {slope}"

    def position(self, place: MismatchRegion) -> tuple[float, ...]:
        """Return the position of a region, in the unit of the volume."""
        volume = self.residual
        index = place.index[-len(volume.shape) :]
        return tuple(
            o + i * v
            for o, i, v in zip(volume.origin, index, volume.voxel_size, strict=True)
        )

    def to_json_dict(self) -> AnyDict:
        """Return the metrics and the strongest regions as JSON-serialisable values."""
        found = self.figures
        return {
            "residual": None if self.path is None else str(self.path),
            "residual_rms": found.residual_rms,
            "noise": found.noise,
            "noise_rms": found.noise_rms,
            "beyond_3_sigma": found.beyond_3_sigma,
            "structure": found.structure,
            "slope": found.slope,
            "slope_error": found.slope_error,
            "excess": found.excess,
            "blur": list(found.blur),
            "consistent": found.is_consistent,
            "verdict": self.verdict.level,
            "faults": list(found.faults),
            "flagged_voxels": found.flagged_voxels,
            "places": [
                {
                    "position": list(self.position(place)),
                    "index": list(place.index[-len(self.residual.shape) :]),
                    "voxels": place.voxels,
                    "strength": place.strength,
                    "result_is": place.result_is,
                }
                for place in found.places[:_LISTED]
            ],
            "n_places": len(found.places),
        }


def consistency_steps(
    scan: Volume,
    result: Volume,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    workers: Workers | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ConsistencyCheck]:
    """Simulate a scan from the result, and compare it with the real scan.

    The result is blurred with the best-fitting point-spread function and averaged over
    each voxel of the scan. The check suits denoising (same grid) and super-resolution.

    Parameters
    ----------
    scan : Volume
        The scan that was restored, (Z, Y, X) or (Y, X).
    result : Volume
        Its restoration, or any other volume at the same position.
    out : path, optional
        File for the residual; by default it is kept in memory.
    workers : int or distributed.Client, optional
        Processes that share the comparison; their number does not affect the findings.

    Yields
    ------
    Step
        A `WarningIssued` for each finding outside the limits of the check.

    Returns
    -------
    ConsistencyCheck

    Raises
    ------
    VolumeError
        If the two have different positions or incompatible grids.
    FileError
        If the residual cannot be written.
    ConfigError
        If `workers` is invalid, or the extra ``cluster`` is not installed.
    Cancelled
        If `should_stop` returns True.
    """
    scan, result = scan.select(), result.select()
    _factors(scan, result)
    if out is not None:
        io.check_output(out, overwrite=overwrite)
        for volume in (scan, result):
            check_not_source(volume, out)
    target = array_for(scan.shape, np.dtype(np.float32), np.nan)
    watch = FileWatch([scan, result], only_lazy=True)
    steps = consistency_figures_steps(
        scan, result, target, workers=workers, should_stop=should_stop
    )
    figures = yield from watch.steps(steps)
    record = yield from provenance.record_steps(
        "check",
        inputs={"scan": scan, "result": result},
        settings={"blur": list(figures.blur)},
        should_stop=should_stop,
        **watch.to_record(),
    )
    residual = Volume(
        target,
        scan.axes,
        scan.voxel_size,
        scan.unit,
        scan.origin,
        name=f"{result.name} ({RESIDUAL})",
        provenance=(*scan.provenance, record),
    )
    path = None
    if out is not None:
        path = io.write(residual, out, overwrite=overwrite, should_stop=should_stop)
        residual = io.read_back(path).replace(name=residual.name)
    checked = ConsistencyCheck(residual, figures, (), path)
    sentences = tuple(_sentences(checked))
    for sentence in sentences:
        yield WarningIssued(message=sentence)
    return ConsistencyCheck(residual, figures, sentences, path)


def consistency_figures_steps(
    scan: Volume,
    result: Volume,
    residual: AnyArray | None = None,
    *,
    workers: Workers | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Consistency]:
    """Compute only the figures of a check, without its record and verdict.

    Parameters
    ----------
    residual : array-like of the scan's shape, optional
        Receives scan minus simulated scan; by default the residual is discarded.
    workers : int or distributed.Client, optional
        Processes that share the comparison.

    Raises
    ------
    VolumeError
        If the two have different positions or incompatible grids.
    Cancelled
        If `should_stop` returns True.
    """
    scan, result = scan.select(), result.select()
    flat = len(scan.shape) == 2
    factors = _factors(scan, result)
    if workers is not None:
        check_workers(workers)
        scan, result = (
            each.replace(data=array_for_workers(each.data, folder_for_copies(workers)))
            for each in (scan, result)
        )
    pair = Pair(
        _SinglePlane(scan.data) if flat else scan.data,
        _SinglePlane(result.data) if flat else result.data,
        factors,
    )
    target: object = _NullArray()
    if residual is not None:
        target = residual[None] if flat else residual
    with ordered_workers(workers) as pool:
        return (
            yield from engine_steps(
                pair,
                target,
                (min(scan.voxel_size), *scan.voxel_size)[-3:],
                name=scan.name,
                pool=pool,
                should_stop=should_stop,
            )
        )


class _NullArray:
    """An array that discards what is written to it."""

    def __setitem__(self, key: object, values: object) -> None:
        pass


class _SinglePlane:
    """View of a (Y, X) array as a stack of shape (1, Y, X)."""

    def __init__(self, array: ArrayLike) -> None:
        self._array = array
        self.shape = (1, *array.shape)
        self.dtype = array.dtype
        self.ndim = 3

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        return np.asarray(self._array[key[1:]])[None]


def _factors(scan: Volume, result: Volume) -> tuple[int, int, int]:
    """Return the upscale factor from scan to result along Z, Y and X."""
    title = f"{result.title} and {scan.title}"
    if scan.axes != result.axes:
        raise VolumeError(
            f"{title} have different axes ({', '.join(result.axes)} and "
            f"{', '.join(scan.axes)}): use the scan that the result was made from."
        )
    ratios = [r / s for r, s in zip(result.shape, scan.shape, strict=True)]
    factors = tuple(round(ratio) for ratio in ratios)
    if min(factors) < 1 or any(f != r for f, r in zip(factors, ratios, strict=True)):
        raise VolumeError(
            f"{title} have shapes {result.shape} and {scan.shape}, but the shape of "
            "a result must be a whole multiple of the scan's. Use the scan that the "
            "result was made from."
        )
    if scan.unit == result.unit:
        _check_place(scan, result, factors, title)
    z, y, x = (1,) * (3 - len(factors)) + factors
    return z, y, x


def _check_place(
    scan: Volume, result: Volume, factors: tuple[int, ...], title: str
) -> None:
    for axis, f, n, v, w, o, p in zip(
        scan.axes,
        factors,
        scan.shape,
        scan.voxel_size,
        result.voxel_size,
        scan.origin,
        result.origin,
        strict=True,
    ):
        # Compare both ends of the field of view.
        ends = (o - v / 2, o + (n - 0.5) * v)
        theirs = (p - w / 2, p + (n * f - 0.5) * w)
        if max(abs(a - b) for a, b in zip(ends, theirs, strict=True)) > (
            _SAME_PLACE * v
        ):
            raise VolumeError(
                f"{title} are not at the same position along {axis}: {theirs[0]:g} "
                f"to {theirs[1]:g} and {ends[0]:g} to {ends[1]:g} {scan.unit}. Use "
                "the scan that the result was made from."
            )


def _sentences(checked: ConsistencyCheck) -> list[str]:
    texts: dict[Fault, Callable[[ConsistencyCheck], str]] = {
        "uniform": _uniform_text,
        "shows too much": _too_much_text,
        "shows too little": _too_little_text,
        "places": _places_text,
        "excess": _excess_text,
        "structure": _structure_text,
        "large": _large_text,
    }
    found, volume = checked.figures, checked.residual
    sentences = [texts[fault](checked) for fault in found.faults]
    if found.noise == 0:
        sentences.append(
            f"{volume.name!r} is zero nearly everywhere, so the result is the scan "
            "itself or a copy of it, and there is nothing to compare."
        )
    return sentences


def _uniform_text(checked: ConsistencyCheck) -> str:
    return (
        "The result does not fit the scan: it is uniform and shows nothing that could "
        "be compared. Check its grey values, and restore the scan again; if the sample "
        "is uniform, there is nothing to measure."
    )


def _slope_text(slope: float, error: float) -> str:
    """Format the contrast relative to the scan, with its standard error.

    Examples
    --------
    >>> _slope_text(1.03, 0.021)
    '1.03 ± 0.02 (expected: 1)'
    >>> _slope_text(1.03, 6.5e-5)
    '1.03 (expected: 1; standard error below 0.01)'
    """
    if error < 0.005:
        return f"{slope:.2f} (expected: 1; standard error below 0.01)"
    return f"{slope:.2f} ± {error:.2f} (expected: 1)"


def _too_much_text(checked: ConsistencyCheck) -> str:
    slope = checked.figures.slope or 0.0
    if slope < -_UNRELATED:
        return (
            "The result does not fit the scan: it is bright where the scan is dark "
            f"(regression slope of the scan on the result: {slope:.2f}; expected: 1). "
            "Its grey values are inverted, or it shows a different object: do not "
            "measure it."
        )
    if slope < _UNRELATED:
        return (
            "The result does not fit the scan: almost nothing that it shows is in the "
            f"scan (regression slope: {slope:.2f}; expected: 1). It belongs to "
            "another scan, or its structure was invented: do not measure it."
        )
    return (
        "The result does not fit the scan: it shows more than the scan does. Only "
        f"{100 * slope:.0f} % of its contrast is in the scan. Structure was invented "
        "throughout the volume, or its contrast was exaggerated. Compare the grey "
        "values and a few pores with the scan, and restore the scan with another "
        "model."
    )


def _too_little_text(checked: ConsistencyCheck) -> str:
    slope = checked.figures.slope or 0.0
    return (
        "The result does not fit the scan: structure or contrast of the scan is "
        f"missing. The scan's contrast is {slope:.3g} times that of the result. "
        "Structure was smoothed away or has lost contrast throughout the volume, so "
        "thresholds and porosity will be wrong. Restore the scan with a model for this "
        "noise and these grey values."
    )


def _excess_text(checked: ConsistencyCheck) -> str:
    return (
        "The result does not fit the scan: over distances of a few voxels, the "
        f"residual varies {checked.figures.excess:.3g} times as much as the noise of "
        "the scan. Structure was added or is missing throughout the volume: inspect "
        "the residual, which should show no structure, and do not measure this result."
    )


def _structure_text(checked: ConsistencyCheck) -> str:
    found = checked.figures.structure
    if found < 0:
        return (
            "The restoration removed more than noise: the removed part is weaker where "
            f"the result has edges (correlation {found:.2f}; noise: about 0). The grey "
            "values within the phases were changed, or the result shows a different "
            "object: compare its grey values with those of the scan."
        )
    return (
        "The restoration removed more than noise: the removed part is stronger where "
        f"the result has edges (correlation {found:.2f}; noise: about 0). Edges or "
        "fine structure were smoothed away, or sharpened beyond what the scan shows."
    )


def _large_text(checked: ConsistencyCheck) -> str:
    found = checked.figures
    return (
        "The result differs from the scan by more than noise: "
        f"{found.residual_rms:.3g} (rms; noise alone: {found.noise_rms:.3g}), and "
        f"{100 * found.beyond_3_sigma:.2f} % of the voxels by more than three standard "
        "deviations (noise: 0.27 %). Inspect the residual to see where structure was "
        "added or removed."
    )


def _places_text(checked: ConsistencyCheck) -> str:
    found, volume = checked.figures, checked.residual
    end = (
        "There, the result has structure that is absent from the scan, or lacks "
        "structure that is present in it. Inspect the residual before you trust the "
        "result there."
    )
    if not found.places:
        return (
            f"The result does not fit the scan: {found.flagged_voxels} voxels differ "
            f"by more than noise explains. {end}"
        )
    n, first = len(found.places), found.places[0]
    where = ", ".join(f"{p:.4g}" for p in checked.position(first))
    many = f"{n} regions" if n > 1 else "one region"
    strongest = "The strongest is" if n > 1 else "It is"
    return (
        f"In {many}, the result does not fit the scan: after blurring and averaging, "
        f"it differs from the scan by more than noise explains. {strongest} at "
        f"{', '.join(volume.axes)} = {where} {volume.unit}, where the result is "
        f"{first.result_is} than the scan. {end}"
    )


def refuse_check(average: bool) -> None:
    """Raise `ConfigError` if the result is an average over several scans."""
    if average:
        raise ConfigError(
            "A mean of several scans cannot be compared with a single scan: omit "
            "--check-consistency or --average."
        )
