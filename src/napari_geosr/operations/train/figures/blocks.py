"""The held-out blocks on which models are judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from napari_geosr.learning.patches import Patches, TrainingSubject

Array = AnyArray

#: Voxels of all blocks of a role together, at most: figures take seconds.
_MOST_VOXELS = 2**21
#: Volumes at most; more would leave too little of each.
_MOST_SCENES = 8
#: Voxels that a block keeps along Y and X, and along Z, however many there are; along Y
#: and X no more than make so many of the result.
_LEAST_PLANE, _LEAST_DEPTH, _LEAST_FINE = 64, 8, 256


def judged_scenes(patches: Patches, *roles: str) -> tuple[list[TrainingSubject], int]:
    """Up to 8 scenes that have all `roles`, spread over those; and how many have."""
    having = [s for s in patches.scenes if all(role in s.volumes for role in roles)]
    if not having:
        return [], 0
    n = min(len(having), _MOST_SCENES)
    chosen = np.linspace(0, len(having) - 1, n).round().astype(int)
    return [having[i] for i in chosen], len(having)


def blocks_text(
    scenes: Sequence[TrainingSubject], n: int, role: str, kind: str = ""
) -> str:
    """What figures were computed on, such as ``"validation block of NAME"``.

    Parameters
    ----------
    n : int
        How many scenes there are, of which `scenes` were chosen.
    kind : str
        What stands between; ``"of"`` by default.
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
    """The held-out block, standardised; a middle part of it where it is large.

    Parameters
    ----------
    n_scenes : int
        How many scenes share the number of voxels that are looked at.

    Returns
    -------
    ndarray of shape ([Z,] Y, X), float32
        In standard deviations of the role's grey scale; labels as they are. Blocks of
        the roles of one scene show the same place.
    """
    volume, factor = scene.volumes[role], patches.factors[role]
    kept = len(volume.shape) - patches.config.ndim
    factors = [1 if axis < kept else factor for axis in range(len(volume.shape))]
    # In voxels of the source, as places are counted everywhere.
    key = []
    for axis, size in enumerate(volume.shape):
        n = size // factors[axis]
        low, high = scene.split.validation if axis == scene.split.axis else (0, n)
        key.append(slice(low, high))
    finest = max(patches.factors.values())
    stretch = finest**patches.config.ndim
    least = min(_LEAST_PLANE, _LEAST_FINE // finest)
    key = _middle(key, _MOST_VOXELS // n_scenes // stretch, least)
    key = [slice(k.start * f, k.stop * f) for k, f in zip(key, factors, strict=True)]
    return patches.grey[role].standardise(np.asarray(volume.data[tuple(key)]))


def _middle(key: Sequence[slice], most: int, least_plane: int) -> list[slice]:
    """The middle of a box of up to about `most` voxels: smaller along Y and X first."""
    found = list(key)
    passes: list[tuple[tuple[int, ...], int]] = [((-2, -1), least_plane)]
    if len(found) == 3:
        passes.append(((0,), _LEAST_DEPTH))
    for axes, least in passes:
        size = math.prod(k.stop - k.start for k in found)
        if size <= most:
            break
        shrink = (most / size) ** (1 / len(axes))
        for axis in axes:
            part = found[axis]
            n = part.stop - part.start
            keep = min(n, max(least, int(n * shrink)))
            start = part.start + (n - keep) // 2
            found[axis] = slice(start, start + keep)
    return found
