"""Read painted labels slice by slice, keeping a limited number of voxels per slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume

#: Value of unpainted voxels in label files for ``train ptdr``; in napari, it is 0.
_UNPAINTED_IN_FILES = 255
#: Maximum number of painted slices used for training, and maximum number of voxels per
#: class in each slice.
_MAX_SLICES = 256
_MAX_VOXELS = 2000
#: Maximum number of classes; with more, the labels probably number individual objects.
_MAX_CLASSES = 50


class TooFewClassesError(VolumeError):
    """Nothing, or only one class, is painted."""


@dataclass(frozen=True)
class SliceStrokes:
    """Painted voxels of a slice.

    Attributes
    ----------
    at : ndarray of shape (n,)
        Indices into the flattened slice, in increasing order.
    classes : ndarray of shape (n,)
        Class of each voxel.
    """

    at: AnyArray
    classes: AnyArray

    @property
    def key(self) -> tuple[bytes, bytes]:
        """A key that is equal for equal strokes."""
        return self.at.tobytes(), self.classes.tobytes()


@dataclass(frozen=True)
class Strokes:
    """Painted voxels of a scan.

    Attributes
    ----------
    unpainted : int
        Value where nothing is painted.
    counts : mapping of int to int
        Number of painted voxels of each class.
    slices : mapping of int to SliceStrokes
        Strokes by the index of the slice; 0 for an image.
    warnings : list of str
    """

    unpainted: int
    counts: Mapping[int, int]
    slices: Mapping[int, SliceStrokes]
    warnings: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[int, ...]:
        """The painted classes, in increasing order."""
        return tuple(self.counts)


def read_strokes(
    labels: Volume,
    scan: Volume,
    unpainted: int | None = None,
    *,
    seed: int = 0,
    should_stop: ShouldStop = never_stop,
) -> Strokes:
    """Read painted labels.

    Parameters
    ----------
    labels : Volume
        Classes of the painted voxels, as whole numbers.
    scan : Volume
        The scan on which they were painted.
    unpainted : int, optional
        Value where nothing is painted. By default 255 if it occurs, as in files for
        ``train ptdr``, otherwise 0, as in napari.
    seed : int
        Seed for choosing the voxels that are kept if a slice has too many.
    should_stop : callable
        Called before every slice.

    Raises
    ------
    VolumeError
        If the labels differ in shape from the scan, or are not non-negative whole
        numbers; if there are too many classes, or fewer than two.
    Cancelled
        If `should_stop` returns True.
    """
    if labels.shape != scan.shape:
        raise VolumeError(
            f"The labels {labels.title} have {_edges(labels)} voxels, but the scan "
            f"{scan.title} has {_edges(scan)}. Paint on this scan, or crop one of them."
        )
    found: dict[int, AnyArray] = {}
    values: set[int] = set()
    n = labels.shape[0] if labels.axes == "ZYX" else 1
    for z in range(n):
        if should_stop():
            raise Cancelled("Cancelled.")
        present = _values(labels, _plane(labels, z))
        values.update(present.tolist())
        found[z] = present
    if unpainted is None:
        unpainted = _UNPAINTED_IN_FILES if _UNPAINTED_IN_FILES in values else 0
    _check_classes(labels, sorted(values - {unpainted}), unpainted)
    painted = [z for z, present in found.items() if (present != unpainted).any()]
    counts: Counter[int] = Counter()
    chosen = np.linspace(0, len(painted) - 1, min(len(painted), _MAX_SLICES))
    used = {painted[i] for i in chosen.round().astype(int)}
    slices = {}
    for z in painted:
        if should_stop():
            raise Cancelled("Cancelled.")
        plane = _plane(labels, z).ravel()
        at = np.flatnonzero(plane != unpainted)
        classes = plane[at].astype(np.int64)
        numbers, times = np.unique(classes, return_counts=True)
        counts.update(dict(zip(numbers.tolist(), times.tolist(), strict=True)))
        if z in used:
            kept = _kept(classes, np.random.default_rng([seed, z]))
            slices[z] = SliceStrokes(at[kept], classes[kept])
    warnings = []
    if len(painted) > _MAX_SLICES:
        warnings.append(
            f"{len(painted)} slices are painted; {_MAX_SLICES} evenly spaced ones "
            "are used. With this many painted slices, `train supervised` gives "
            "better results."
        )
    return Strokes(unpainted, dict(sorted(counts.items())), slices, warnings)


def check_slice(labels: Volume, z: int) -> None:
    """Raise `VolumeError` if a slice has values that are not numbers of classes."""
    _values(labels, _plane(labels, z))


def _plane(labels: Volume, z: int) -> AnyArray:
    return np.asarray(labels.data[z] if labels.axes == "ZYX" else labels.data[:])


def _values(labels: Volume, plane: AnyArray) -> AnyArray:
    """Return the distinct values of a plane, as integers."""
    if plane.dtype == np.uint8:  # much faster than sorting
        return np.flatnonzero(np.bincount(plane.ravel(), minlength=1))
    values = np.unique(plane)
    if plane.dtype.kind == "f":
        broken = values[~np.isfinite(values) | (values != np.rint(values))]
        if len(broken):
            raise VolumeError(
                f"The labels {labels.title} contain the value {broken[0]:g}, which "
                "is not a whole number. Use a label image, not grey values."
            )
    whole = values.astype(np.int64)
    if whole[0] < 0:
        raise VolumeError(
            f"The labels {labels.title} contain the value {whole[0]}. Number the "
            "classes from 1."
        )
    return whole


def _check_classes(labels: Volume, classes: list[int], unpainted: int) -> None:
    if not classes:
        raise TooFewClassesError(
            f"Nothing is painted in {labels.title}: all voxels are {unpainted}. Paint "
            "a few strokes of at least two classes."
        )
    if len(classes) == 1:
        raise TooFewClassesError(
            f"Only class {classes[0]} is painted in {labels.title}: paint at least two "
            "classes."
        )
    if len(classes) > _MAX_CLASSES:
        raise VolumeError(
            f"{labels.title} contains {len(classes)} different labels, which look like "
            f"object numbers. Paint at most {_MAX_CLASSES} classes, and use the "
            "same label for all objects of a class."
        )


def _kept(classes: AnyArray, rng: np.random.Generator) -> AnyArray:
    """Return indices of a limited number of voxels per class, in ascending order."""
    parts = []
    for number in np.unique(classes):
        of_class = np.flatnonzero(classes == number)
        if len(of_class) > _MAX_VOXELS:
            of_class = rng.choice(of_class, _MAX_VOXELS, replace=False)
        parts.append(of_class)
    return np.sort(np.concatenate(parts))


def _edges(volume: Volume) -> str:
    return " × ".join(map(str, volume.shape))
