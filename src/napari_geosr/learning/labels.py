"""Check before training that targets are label images. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.learning.statistics import sample_planes


def check_labels(targets: Sequence[Volume], labels: int) -> list[str]:
    """Check the labels in up to 64 evenly spaced planes of each target.

    Returns
    -------
    list of str
        A sentence about labels that do not occur in these planes, if there are any.

    Raises
    ------
    VolumeError
        If a value is not a whole number from 0 to labels − 1.
    """
    is_present = np.zeros(labels, bool)
    for target in targets:
        for plane in sample_planes(target):
            if wrong := invalid_label(plane, labels):
                raise VolumeError(
                    f"{target.title} has {wrong}, but a target with {labels} labels "
                    f"may contain only the whole numbers 0 … {labels - 1}. "
                    f"{_advice(plane)}"
                )
            is_present[np.unique(plane).astype(int)] = True
    if is_present.all():
        return []
    absent = np.flatnonzero(~is_present)
    named = ", ".join(map(str, absent))
    if len(absent) == 1:
        sentence = f"Label {named} (of {labels}) does not occur in the targets"
        return [f"{sentence}: the model cannot learn it."]
    sentence = f"Labels {named} (of {labels}) do not occur in the targets"
    return [f"{sentence}: the model cannot learn them."]


def check_painted(
    targets: Sequence[Volume], classes: int, unpainted: int
) -> list[list[int]]:
    """Check painted labels in all planes; return the painted planes of each target.

    The classes are 0 … `classes` − 1, except for `unpainted`.

    Raises
    ------
    VolumeError
        If a value is neither a class nor `unpainted`, or fewer than two classes are
        painted.
    """
    is_present = np.zeros(classes, bool)
    found = []
    for target in targets:
        planes = []
        for z in range(target.shape[0] if target.axes == "ZYX" else 1):
            plane = np.asarray(target.data[z if target.axes == "ZYX" else ...])
            painted = plane[plane != unpainted]
            if not painted.size:
                continue
            if wrong := invalid_label(painted, classes):
                raise VolumeError(_wrong_class(target, wrong, classes, unpainted))
            is_present[np.unique(painted).astype(int)] = True
            planes.append(z)
        found.append(planes)
    n_present = int(is_present.sum())
    names = ", ".join(target.title for target in targets)
    if not n_present:
        raise VolumeError(
            f"Nothing is painted in {names}: all voxels are {unpainted}. Paint at "
            "least two classes."
        )
    if n_present < 2:
        only = int(np.flatnonzero(is_present)[0])
        raise VolumeError(
            f"Only class {only} is painted in {names}, so there is nothing to "
            "distinguish: paint at least two classes."
        )
    return found


def _wrong_class(target: Volume, wrong: str, classes: int, unpainted: int) -> str:
    first = int(unpainted == 0)
    number = classes - first
    other = 255 if first else 0
    zero = f", or, if {other} means unpainted, set unpainted to {other}"
    return (
        f"{target.title} has {wrong}, but painted labels of {number} classes may "
        f"contain only the whole numbers {first} … {classes - 1}, and {unpainted} "
        "where nothing is painted. Correct the labels, or set the number of classes "
        f"(--classes){zero}."
    )


def invalid_label(values: AnyArray, labels: int) -> str:
    """Describe the first value that is not a label 0 … labels − 1; "" if none.

    Parameters
    ----------
    values : ndarray
        Values of any real dtype.
    """
    if values.dtype.kind == "f":
        broken = ~np.isfinite(values) | (values != np.rint(values))
        if broken.any():
            return f"the value {values[broken][0]:g}, which is not a whole number"
    outside = (values < 0) | (values >= labels)
    return f"the value {values[outside][0]:g}" if outside.any() else ""


def _advice(plane: AnyArray) -> str:
    values = np.unique(plane)
    if plane.dtype.kind == "f" and (values != np.rint(values)).any():
        return (
            "Use a label image, or leave the number of labels at 1 to learn grey "
            "values."
        )
    return (
        "Number its labels from 0, or set the number of labels to one more than the "
        "largest label."
    )
