"""Selects the held-out blocks on which models are evaluated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from napari_geosr.learning.sampling.patches import Patches, TrainingSubject

Array = AnyArray

#: Maximum total number of voxels in all blocks of a role; limits the time to seconds.
_MAX_VOXELS = 2**21
#: Maximum number of volumes; with more, the blocks would be too small.
_MAX_SCENES = 8
#: Minimum edge length of a block along Y and X in the input, in voxels. The minima take
#: precedence over the maximum number of voxels.
_MIN_EDGE = 64
#: Minimum edge length of a block along Z, in voxels.
_MIN_DEPTH = 8
#: Minimum edge length of a block along Y and X in the output, in voxels.
_MIN_OUTPUT_EDGE = 256


def select_scenes(patches: Patches, *roles: str) -> tuple[list[TrainingSubject], int]:
    """Return up to 8 evenly spaced subjects with all `roles`, and the total number."""
    complete = [s for s in patches.scenes if all(role in s.volumes for role in roles)]
    if not complete:
        return [], 0
    n = min(len(complete), _MAX_SCENES)
    chosen = np.linspace(0, len(complete) - 1, n).round().astype(int)
    return [complete[i] for i in chosen], len(complete)


def blocks_text(
    scenes: Sequence[TrainingSubject], n: int, role: str, kind: str = ""
) -> str:
    """Describe the evaluation data, such as ``"validation block of NAME"``.

    Parameters
    ----------
    n : int
        Number of subjects from which `scenes` were selected.
    kind : str
        Words between ``block`` and the name; ``"of"`` by default.
    """
    title = scenes[0].volumes[role].title
    kind = kind or "of"
    if n == 1:
        return f"validation block {kind} {title}"
    count = f"{n}" if len(scenes) == n else f"{len(scenes)} of {n}"
    return f"{count} validation blocks {kind} {title}, …"


def validation_block(
    scene: TrainingSubject, patches: Patches, role: str, n_scenes: int = 1
) -> Array:
    """Return the standardised held-out block, cropped to its centre if it is large.

    Parameters
    ----------
    n_scenes : int
        Number of subjects among which the maximum number of voxels is divided.

    Returns
    -------
    ndarray of shape ([Z,] Y, X), float32
        Grey values in standard deviations of the role's grey scale; labels are
        unchanged. The blocks of all roles of a subject show the same region.
    """
    volume, factor = scene.volumes[role], patches.factors[role]
    n_kept_axes = len(volume.shape) - patches.config.ndim
    factors = [1 if axis < n_kept_axes else factor for axis in range(len(volume.shape))]
    # All positions are in voxels of the source.
    key = []
    for axis, size in enumerate(volume.shape):
        n = size // factors[axis]
        low, high = scene.split.validation if axis == scene.split.axis else (0, n)
        key.append(slice(low, high))
    finest = max(patches.factors.values())
    stretch = finest**patches.config.ndim
    minimum = min(_MIN_EDGE, _MIN_OUTPUT_EDGE // finest)
    key = _central_box(key, _MAX_VOXELS // n_scenes // stretch, minimum)
    key = [slice(k.start * f, k.stop * f) for k, f in zip(key, factors, strict=True)]
    return patches.grey[role].standardise(np.asarray(volume.data[tuple(key)]))


def _central_box(key: Sequence[slice], max_voxels: int, min_edge: int) -> list[slice]:
    """Crop a box around its centre to about `max_voxels`, first along Y and X."""
    box = list(key)
    passes: list[tuple[tuple[int, ...], int]] = [((-2, -1), min_edge)]
    if len(box) == 3:
        passes.append(((0,), _MIN_DEPTH))
    for axes, minimum in passes:
        size = math.prod(k.stop - k.start for k in box)
        if size <= max_voxels:
            break
        shrink = (max_voxels / size) ** (1 / len(axes))
        for axis in axes:
            part = box[axis]
            n = part.stop - part.start
            keep = min(n, max(minimum, int(n * shrink)))
            start = part.start + (n - keep) // 2
            box[axis] = slice(start, start + keep)
    return box
