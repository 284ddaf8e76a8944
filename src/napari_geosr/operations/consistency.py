"""Check a restored volume against its scan: a residual, figures, odd places."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import (
    ResultReady,
    ShouldStop,
    Step,
    Warned,
    never_stop,
    relay,
    run_to_end,
)
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.suffixes import sibling_path
from napari_geosr.operations.inputs import refuse_own_source
from napari_geosr.operations.storage import array_for

if TYPE_CHECKING:
    from napari_geosr.measure.consistency import Consistency, Place

#: Ends the name of a residual, and of its file.
RESIDUAL = "residual"
#: Places that are listed one by one.
_LISTED = 20
#: Differences of edges of the field of view that do not matter, in voxels of the scan.
_SAME_PLACE = 0.05


def residual_path(out: str | Path) -> Path:
    """Where the residual of a result is written: ``STEM_residual.SUFFIX``."""
    return sibling_path(Path(out), RESIDUAL)


@dataclass(frozen=True)
class Checked:
    """A result compared with its scan.

    Attributes
    ----------
    residual : Volume
        Scan minus result, seen alike, in the place of the scan.
    figures : Consistency
    sentences : tuple of str
        What a person should know; empty if nothing was found that noise does not
        explain.
    path : Path or None
        File of the residual.
    """

    residual: Volume
    figures: Consistency
    sentences: tuple[str, ...]
    path: Path | None = None

    def position(self, place: Place) -> tuple[float, ...]:
        """Where a place lies, in the unit of the volume."""
        volume = self.residual
        index = place.index[-len(volume.shape) :]
        return tuple(
            o + i * v
            for o, i, v in zip(volume.origin, index, volume.voxel_size, strict=True)
        )

    def to_json_dict(self) -> dict[str, Any]:
        """The figures, and the strongest places, as JSON can hold them."""
        found = self.figures
        return {
            "residual": None if self.path is None else str(self.path),
            "residual_rms": found.residual_rms,
            "noise": found.noise,
            "beyond_3_sigma": found.beyond_3_sigma,
            "structure": found.structure,
            "blur": list(found.blur),
            "consistent": found.is_consistent,
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
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """See the result as the scanner saw the sample, and compare it with the scan.

    The result is blurred, by the point-spread function that fits best, and averaged to
    the scan's voxels. Works for denoising (equal voxels) and super-resolution.

    Parameters
    ----------
    scan : Volume
        What was restored, (Z, Y, X) or (Y, X).
    result : Volume
        What was made of it, or any other volume of the same place.
    out : path, optional
        File for the residual; without it, it is kept in memory.

    Yields
    ------
    Step
        A `Warned` for everything that noise does not explain; the last is
        ``ResultReady(Checked)``.

    Raises
    ------
    VolumeError
        If the two do not show the same place on fitting grids.
    FileError
        If the residual cannot be written.
    Cancelled
        If `should_stop` says so.
    """
    from napari_geosr.measure.consistency import consistency_steps as engine_steps
    from napari_geosr.measure.redegrade import Pair

    scan, result = scan.select(), result.select()
    factors = _factors(scan, result)
    if out is not None:
        io.check_output(out, overwrite=overwrite)
        for volume in (scan, result):
            refuse_own_source(volume, out)
    flat = len(scan.shape) == 2
    pair = Pair(
        _Stack(scan.data) if flat else scan.data,
        _Stack(result.data) if flat else result.data,
        factors,
    )
    target = array_for(scan.shape, np.dtype(np.float32), np.nan)
    size = (min(scan.voxel_size), *scan.voxel_size)[-3:]
    figures: Consistency = yield from relay(
        engine_steps(
            pair,
            target[None] if flat else target,
            size,
            name=scan.name,
            should_stop=should_stop,
        )
    )
    record: dict[str, Any] = yield from relay(
        provenance.record_steps(
            "check",
            inputs={"scan": scan, "result": result},
            settings={"blur": list(figures.blur)},
            should_stop=should_stop,
        )
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
        residual = io.read(path).replace(name=residual.name)
    checked = Checked(residual, figures, (), path)
    sentences = tuple(_sentences(checked))
    for sentence in sentences:
        yield Warned(message=sentence)
    yield ResultReady(result=Checked(residual, figures, sentences, path))


def check_consistency(scan: Volume, result: Volume) -> Checked:
    """Compare a restored volume with the scan that it was made from.

    Parameters
    ----------
    scan, result : Volume
        Of the same place; the voxels of the result are as large, or finer by a whole
        number.

    Returns
    -------
    Checked
        With `residual`, `figures` and `sentences` on what noise does not explain.

    Raises
    ------
    VolumeError
        If the two do not show the same place on fitting grids.
    """
    checked: Checked = run_to_end(consistency_steps(scan, result))
    return checked


class _Stack:
    """A (Y, X) array seen as one plane of a (1, Y, X) stack."""

    def __init__(self, array: ArrayLike) -> None:
        self._array = array
        self.shape = (1, *array.shape)
        self.dtype = array.dtype
        self.ndim = 3

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        return np.asarray(self._array[key[1:]])[None]


def _factors(scan: Volume, result: Volume) -> tuple[int, int, int]:
    """Voxels of the result per voxel of the scan, along Z, Y and X."""
    title = f"{result.title} and {scan.title}"
    if scan.axes != result.axes:
        raise VolumeError(
            f"{title} have other axes ({', '.join(result.axes)} and "
            f"{', '.join(scan.axes)}): give the scan that the result was made from."
        )
    ratios = [r / s for r, s in zip(result.shape, scan.shape, strict=True)]
    factors = tuple(round(ratio) for ratio in ratios)
    if min(factors) < 1 or any(f != r for f, r in zip(factors, ratios, strict=True)):
        raise VolumeError(
            f"{title} have shapes {result.shape} and {scan.shape}: those of a result "
            "are whole multiples of the scan's. Give the scan that it was made from."
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
        # Both ends of the field of view.
        ends = (o - v / 2, o + (n - 0.5) * v)
        theirs = (p - w / 2, p + (n * f - 0.5) * w)
        if max(abs(a - b) for a, b in zip(ends, theirs, strict=True)) > (
            _SAME_PLACE * v
        ):
            raise VolumeError(
                f"{title} do not lie in the same place along {axis}: "
                f"{theirs[0]:g} to {theirs[1]:g} and {ends[0]:g} to {ends[1]:g} "
                f"{scan.unit}. Give the scan that the result was made from."
            )


def _sentences(checked: Checked) -> list[str]:
    from napari_geosr.measure.consistency import STRUCTURE_LIMIT

    found, volume = checked.figures, checked.residual
    said = []
    if found.flagged_voxels:
        said.append(_places_text(checked))
    if found.structure > STRUCTURE_LIMIT:
        said.append(
            "What the restoration took away is not noise alone: it is stronger where "
            f"the result has edges (correlation {found.structure:.2f}; noise: about "
            "0). Edges or fine structure were smoothed away, or sharpened beyond what "
            "the scan shows."
        )
    if found.noise == 0:
        said.append(
            f"{volume.name!r} is zero nearly everywhere: the result is the scan "
            "itself, or a copy of it, so there is nothing to compare."
        )
    return said


def _places_text(checked: Checked) -> str:
    found, volume = checked.figures, checked.residual
    end = (
        "Something was added there that the scan does not show, or taken away that it "
        "shows. Look at the residual before you trust the result there."
    )
    if not found.places:
        return (
            f"The result does not fit the scan: {found.flagged_voxels} voxels differ "
            f"by more than noise explains. {end}"
        )
    n, first = len(found.places), found.places[0]
    where = ", ".join(f"{p:.4g}" for p in checked.position(first))
    many = f"{n} places" if n > 1 else "one place"
    strongest = "The strongest is" if n > 1 else "It is"
    return (
        f"In {many} the result does not fit the scan: blurred and averaged like it, "
        f"it differs by more than noise explains. {strongest} at "
        f"{', '.join(volume.axes)} = {where} {volume.unit}, where the result is "
        f"{first.result_is} than the scan. {end}"
    )


def refuse_check(average: bool) -> None:
    """Raise `ConfigError` where there is not one scan to compare with."""
    if average:
        raise ConfigError(
            "A mean over several scans has no scan of its own to be compared with: "
            "leave --check-consistency or --average out."
        )
