"""Reads the voxels of one shape from a volume; refuses volumes without a shape."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np

from napari_geosr.core.array_parts.packed_mask import (
    MaskVoxels,
    PackedMask,
    count_inside,
)
from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import Cancelled, DeviceMemoryError, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.inference.shapes import MAX_SPARSE
from napari_geosr.io.lazy import cache_limited, read_unit, useful_cache
from napari_geosr.learning.shapes.filled_cells import FilledCells

#: Maximum number of different values in a volume of which one label must be chosen;
#: with more, the values are treated as grey values. This is also the maximum number of
#: labels that are listed.
_MAX_LABELS = 64
#: Maximum number of different values that are taken to be labels without further tests.
_FEW_LABELS = 8
#: Maximum fraction of neighbouring labelled voxels with different values, because
#: labels form regions. More than `_FEW_LABELS` different values count as grey values if
#: the first limit is exceeded, and may be grey values if the second one is exceeded.
_MAX_DIFFERENT = 0.5
_DOUBTFUL_DIFFERENT = 0.2
#: If a smaller fraction of the voxels has the value 0, more than `_FEW_LABELS`
#: different values may be grey values.
_MIN_OUTSIDE = 0.01
#: Number of voxels read at a time, and its minimum for a small memory budget.
_AT_ONCE = 2**24
_MIN_AT_ONCE = 2**20
#: Bytes for each voxel that is read, in addition to two copies of its value: flags that
#: state whether it is finite, labelled and inside, and whether its neighbour differs.
_FLAG_BYTES = 6
#: What the user must choose from a series, by the axis of the series.
_CHOICES = {"T": "time point", "C": "channel"}
#: Fraction of the memory budget for the decoded blocks that a file's array keeps.
_CACHE_SHARE = 1 / 6
#: Axes of a shape, for messages.
_NEEDED = "a shape is a volume (Z, Y, X)"


def read_shape_steps(
    volume: Volume,
    label: int | None,
    should_stop: ShouldStop,
    *,
    option: str = "--label",
) -> Generator[Step, None, AnyArray]:
    """Read a shape into an array of bool (Z, Y, X).

    Parameters
    ----------
    volume : Volume
        Labels (Z, Y, X), zero outside the shape.
    label : int or None
        Label of the shape; needed if there are several. None stands for all non-zero
        voxels.
    option : str
        Option that sets the label, for messages.

    Raises
    ------
    VolumeError
        If the axes are not Z, Y, X, or the volume is empty or full, contains grey
        values, has several labels of which none was chosen, or lacks the chosen label.
    Cancelled
        If `should_stop` returns True.
    """
    check_axes(volume, _NEEDED)
    inside: AnyArray = np.empty(volume.shape, bool)
    yield from _fill_steps(inside, volume, label, should_stop, option)
    return inside


def read_packed_steps(
    volume: Volume,
    label: int | None,
    budget: int,
    should_stop: ShouldStop,
    *,
    joins_labels: bool = False,
) -> Generator[Step, None, PackedMask]:
    """Read a shape as `read_shape_steps` does, with one bit per voxel.

    Parameters
    ----------
    volume, label, should_stop
        As in `read_shape_steps`.
    budget : int
        Bytes of memory that may be used. If it is small, fewer planes are read at a
        time, and fewer blocks of the file are kept.
    joins_labels : bool
        Whether to use all labels together as the mask if there are several and none was
        chosen.

    Raises
    ------
    DeviceMemoryError
        If the memory budget is too small for a large mask that has no temporary file.
    """
    check_axes(volume, _NEEDED)
    inside = new_mask(volume, budget)
    with cached_within(volume.data, budget) as held:
        at_once = voxels_at_once(volume, budget - inside.nbytes - held)
        yield from _fill_steps(
            inside,
            volume,
            label,
            should_stop,
            at_once=at_once,
            joins_labels=joins_labels,
        )
    return inside


def new_mask(volume: Volume, budget: int) -> PackedMask:
    """Create an empty mask on the grid of a volume.

    Raises
    ------
    DeviceMemoryError
        If the memory budget is too small for a large mask that has no temporary file.
    """
    made = PackedMask(volume.shape)
    if made.lacks_disk and made.nbytes > budget:
        folder = tempfile.gettempdir()
        raise DeviceMemoryError(
            f"The mask of {volume.title} needs {format_enough(made.nbytes)}, but the "
            f"memory budget is {format_available(budget)}. Increase it (--memory), or "
            "set the environment variable TMPDIR to a folder on a disk, because the "
            f"files in {folder} are kept in memory."
        )
    return made


@contextmanager
def cached_within(array: object, budget: int) -> Iterator[int]:
    """Limit the decoded blocks that an array keeps to a share of a memory budget.

    The context provides the maximum number of bytes that the array keeps: 0 for an
    array in memory.
    """
    unit, cache = read_unit(array), useful_cache(array, int(budget * _CACHE_SHARE))
    with cache_limited(array, cache):
        yield 0 if unit is None or cache is None else unit.held_bytes(cache)


def voxels_at_once(volume: Volume, budget: int) -> int:
    """Return the number of voxels of a mask or scan to read at a time."""
    fitting = budget // (2 * volume.dtype.itemsize + _FLAG_BYTES)
    return min(max(_MIN_AT_ONCE, fitting), _AT_ONCE)


def _fill_steps(
    inside: MaskVoxels,
    volume: Volume,
    label: int | None,
    should_stop: ShouldStop,
    option: str = "--label",
    at_once: int = _AT_ONCE,
    *,
    joins_labels: bool = False,
) -> Generator[Step, None, None]:
    """Read a shape plane by plane into `inside`."""
    yield StageStarted(message=f"Reading {volume.title}")
    doubts: AnyArray = np.zeros(3, np.int64)
    depth = max(1, at_once // max(1, volume.shape[1] * volume.shape[2]))
    values: set[float] = set()  # incomplete if more than `_MAX_LABELS` were found
    lowest = 0.0
    for start in range(0, volume.shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped while reading; no file was written.")
        part = np.asarray(volume.data[start : start + depth])
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise VolumeError(
                f"{volume.title} contains NaN or infinite values, so it is not a "
                "shape. Segment it first."
            )
        found = np.unique(part)
        if len(values) <= _MAX_LABELS:
            values.update(found[: _MAX_LABELS + 1].tolist())
        lowest = min(lowest, float(found[0]))
        if label is None and not joins_labels and len(values) > _MAX_LABELS:
            raise VolumeError(_too_many_values(volume, option))
        if label is not None or joins_labels:
            doubts += _check_labels(volume, part, found)
        belongs: AnyArray = part != 0 if label is None else part == label
        if isinstance(inside, PackedMask):
            inside.write(start, belongs)
        else:
            inside[start : start + depth] = belongs
        yield BlockDone(min(start + depth, volume.shape[0]), volume.shape[0])
    n_inside = count_inside(inside)
    if label is not None and not n_inside:
        advice = f" Choose one of them ({option})." if values - {0} else ""
        raise VolumeError(
            f"{volume.title} has no label {label}. Its labels: {_listed(values)}."
            f"{advice}"
        )
    if label is None:
        if lowest < 0 and len(values) > _MAX_LABELS:
            raise VolumeError(_negative(volume))
        if note := _check_values(volume, values, option, joins_labels=joins_labels):
            yield WarningIssued(message=note)
    if label is not None or joins_labels:
        fraction = n_inside / inside.size
        if warning := _doubtful_label(volume, label, values, fraction, doubts):
            yield WarningIssued(message=warning)
    _check_surface(volume, n_inside)


def _check_surface(volume: Volume, n_inside: int) -> None:
    """Raise `VolumeError` if a shape is empty or full."""
    if not n_inside:
        raise VolumeError(f"{volume.title} is empty: no voxel belongs to a shape.")
    if n_inside == math.prod(volume.shape):
        raise VolumeError(
            f"{volume.title} is full: every voxel belongs to the shape, so it has no "
            "surface. Voxels outside the shape must be 0."
        )


def check_axes(volume: Volume, needed: str) -> None:
    """Raise `VolumeError` unless a volume has the axes Z, Y, X.

    `needed` is the requirement that the message states.
    """
    if volume.axes == "ZYX":
        return
    choices = [word for axis, word in _CHOICES.items() if axis in volume.axes]
    advice = f" Choose a {' and a '.join(choices)}." if choices else ""
    raise VolumeError(
        f"{volume.title} has the axes {', '.join(volume.axes)}; {needed}.{advice}"
    )


def read_labels_steps(
    volume: Volume, n_labels: int, should_stop: ShouldStop
) -> Generator[Step, None, tuple[set[int], FilledCells]]:
    """Read the labels of a scan plane by plane; 0 is outside the mask.

    Parameters
    ----------
    volume : Volume
        Labels 0, 1, …, `n_labels`.

    Returns
    -------
    present : set of int
        The labels that occur, except 0.
    cells : FilledCells
        The cells and planes that contain labelled voxels.

    Raises
    ------
    VolumeError
        If the axes are not Z, Y, X, a value is not a label, or no voxel is labelled.
    Cancelled
        If `should_stop` returns True.
    """
    check_axes(volume, "volumes (Z, Y, X) are needed")
    yield StageStarted(message=f"Reading {volume.title}")
    depth = max(1, _AT_ONCE // max(1, int(np.prod(volume.shape[1:]))))
    cells = FilledCells(volume.shape)
    present: set[int] = set()
    for start in range(0, volume.shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped while reading; no file was written.")
        part = np.asarray(volume.data[start : start + depth])
        values = np.unique(part)
        if not np.isin(values, np.arange(n_labels + 1)).all():
            raise VolumeError(_no_label(volume, values, n_labels))
        present.update(int(value) for value in values if value)
        cells.add(start, part != 0)
        yield BlockDone(min(start + depth, volume.shape[0]), volume.shape[0])
    if not present:
        raise VolumeError(
            f"{volume.title} has no labelled voxel: all its values are 0 (outside the "
            "mask), so there is nothing to learn from it. Label voxels, or leave out "
            "this file and its scan."
        )
    return present, cells


def _no_label(volume: Volume, values: AnyArray, n_labels: int) -> str:
    """Describe the first value that is not a label from 0 to `n_labels`."""
    value = values[~np.isin(values, np.arange(n_labels + 1))][0]
    if np.isfinite(value) and value > 0 and value == round(value):
        return (
            f"{volume.title} has the label {int(value)}, but --n-labels is {n_labels}. "
            "Give the number of labels inside the mask."
        )
    return (
        f"{volume.title} contains the value {value:g}, which is not a label. Labels "
        "are 0 outside the mask and 1, 2, 3 … inside it."
    )


def shape_in(volume: Volume, box: tuple[slice, ...], label: int | None) -> AnyArray:
    """Determine which voxels of a part of a volume belong to the shape.

    Raises
    ------
    VolumeError
        If the part contains grey values, or several labels of which none was chosen.
    """
    part = np.asarray(volume.data[box])
    if label is None:
        values = np.unique(part)
        if len(values) > _MAX_LABELS:
            raise VolumeError(_too_many_values(volume))
        _check_values(volume, set(values.tolist()))
    else:
        _check_labels(volume, part, np.unique(part))
    inside: AnyArray = part != 0 if label is None else part == label
    return inside


def _too_many_values(volume: Volume, option: str = "--label") -> str:
    return (
        f"{volume.title} has more than {_MAX_LABELS} different values, so it is a "
        "grey-value image or has many labels. Segment it first (napari-geosr measure), "
        f"or choose one label ({option})."
    )


def _negative(volume: Volume) -> str:
    return (
        f"{volume.title} contains negative values, so it is a grey-value image, not a "
        "mask. Segment it first (napari-geosr measure)."
    )


def _check_labels(volume: Volume, part: AnyArray, values: AnyArray) -> AnyArray:
    """Raise `VolumeError` if a part of a volume evidently holds grey values.

    Labels are integers; even if a volume has many, most neighbouring voxels have the
    same label.

    Returns
    -------
    ndarray of int, shape (3,)
        Number of pairs of neighbouring labelled voxels, number of these pairs with
        different values, and number of voxels without a label.
    """
    if values.dtype.kind == "f" and (values != np.round(values)).any():
        raise VolumeError(
            f"{volume.title} contains values that are not integers, so it is a "
            "grey-value image, not a shape. Segment it first (napari-geosr measure)."
        )
    one, other = part[..., :-1], part[..., 1:]
    both = (one != 0) & (other != 0)
    n_different = np.count_nonzero(both & (one != other))
    n_pairs = np.count_nonzero(both)
    if len(values) > _FEW_LABELS and n_different > _MAX_DIFFERENT * n_pairs:
        raise VolumeError(
            f"{volume.title} has many different values, and most neighbouring voxels "
            "differ, so it is a grey-value image, not a shape. Segment it first "
            "(napari-geosr measure)."
        )
    return np.array([n_pairs, n_different, np.count_nonzero(part == 0)], np.int64)


def _doubtful_label(
    volume: Volume,
    label: int | None,
    values: set[float],
    fraction: float,
    doubts: AnyArray,
) -> str:
    """Return a warning if a label was chosen from values that may be grey values.

    If `label` is None, all non-zero voxels were chosen. `fraction` is the fraction of
    the voxels inside the shape. `doubts` is the sum of the results of `_check_labels`.
    If there is no reason for a warning, the result is empty.
    """
    n_pairs, n_different, n_outside = doubts.tolist()
    if len(values) <= _FEW_LABELS or (
        n_different <= _DOUBTFUL_DIFFERENT * n_pairs
        and n_outside >= _MIN_OUTSIDE * math.prod(volume.shape)
    ):
        return ""
    n = f"more than {_MAX_LABELS}" if len(values) > _MAX_LABELS else len(values)
    which = "are not 0" if label is None else f"have the value {label}"
    what = "mask" if label is None else "shape"
    return (
        f"{100 * fraction:.2g} % of the voxels of "
        f"{volume.title} {which} and were taken to be the {what}, but "
        f"the volume looks like a grey-value image ({n} different values). If it is "
        "one, segment it first (napari-geosr measure)."
    )


def _check_values(
    volume: Volume,
    values: set[float],
    option: str = "--label",
    *,
    joins_labels: bool = False,
) -> str:
    """Check the values of a volume of which no label was chosen.

    Returns
    -------
    str
        Note on a single value that is not a label, or on labels that are joined; "" if
        there is nothing to note.

    Raises
    ------
    VolumeError
        If the volume holds grey values, or several labels and `joins_labels` is False.
    """
    present = [value for value in values if value]
    are_labels = all(v == round(v) and v > 0 for v in present)
    if len(present) <= 1:
        if are_labels:
            return ""
        return (
            f"The shape in {volume.title} is marked with the value {present[0]:g}; "
            "labels are positive integers. Check that these are the voxels of the "
            "shape."
        )
    if not are_labels:
        raise VolumeError(
            f"{volume.title} contains the values {_listed(values)}, so it is a "
            "grey-value image, not a shape. Segment it first (napari-geosr measure)."
        )
    if joins_labels:
        # One of the values may be 0, which is not a label.
        many = len(values) > _MAX_LABELS
        n = f"at least {_MAX_LABELS}" if many else len(present)
        return (
            f"{volume.title} has {n} labels ({_listed(values)}), and all of "
            f"them belong to the mask. Choose one to use it alone ({option})."
        )
    raise VolumeError(
        f"{volume.title} has {len(present)} labels ({_listed(values)}). Choose the "
        f"label of the shape ({option})."
    )


def _listed(values: set[float]) -> str:
    present = sorted(value for value in values if value)
    listed = ", ".join(f"{v:g}" for v in present[:10]) + (", …" * (len(present) > 10))
    return listed or "none"


def dense_note(n_active: int, n_voxels: int) -> str:
    """Return a note if so many voxels are active that dense convolutions are used."""
    if n_active <= MAX_SPARSE * n_voxels:
        return ""
    return (
        f"{100 * n_active / n_voxels:.3g} % of the voxels are computed. Above "
        f"{100 * MAX_SPARSE:.0f} %, dense convolutions are used, because they are "
        "faster; the result is the same, apart from rounding."
    )
