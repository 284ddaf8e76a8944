"""Removes hot voxels, which would stretch the grey scale, from training volumes."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from napari_geosr.core.grey_values.hot_voxels import (
    GreySample,
    HotVoxelFilter,
    HotVoxels,
)
from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.learning.statistics import sample_planes
from napari_geosr.physics.simulated import is_simulated


def filter_hot_voxels_steps(
    volumes: Mapping[str, Sequence[Volume]], labels: Sequence[str] = ()
) -> Generator[Step, None, dict[str, list[Volume]]]:
    """Replace hot and dead voxels with the median of their neighbours.

    Parameters
    ----------
    volumes : mapping of str to sequence of Volume
        Volumes by role.
    labels : sequence of str
        Roles that hold labels, which are not filtered.

    Yields
    ------
    WarningIssued
        For each volume with hot or dead voxels.
    """
    clean: dict[str, list[Volume]] = {}
    reported: set[str] = set()
    for role, role_volumes in volumes.items():
        clean[role] = []
        for volume in role_volumes:
            hot = None
            if role not in labels and not is_simulated(volume.name):
                hot = _detect_hot_voxels(volume)
            if hot is None:
                clean[role].append(volume)
                continue
            clean[role].append(volume.replace(data=HotVoxelFilter(volume.data, hot)))
            sentence = (
                f"{volume.title} has hot or dead voxels, {hot.n} in the sampled "
                "planes. They are excluded from the mean and standard deviation, and "
                "replaced with the median of their neighbours for training."
            )
            if sentence not in reported:
                reported.add(sentence)
                yield WarningIssued(message=sentence)
    return clean


def _detect_hot_voxels(volume: Volume) -> HotVoxels | None:
    """Detect hot voxels in evenly spaced planes; None if there are none."""
    if volume.dtype.kind not in "iuf":
        return None
    planes = list(sample_planes(volume))
    sample = GreySample((len(planes), *volume.shape[-2:]))
    for plane in planes:
        sample.add(plane)
    hot = sample.hot_voxels()
    if hot is None:
        return None
    n = sum(_count_hot_voxels(plane, hot) for plane in planes)
    return replace(hot, n=n) if n else None


def _count_hot_voxels(plane: np.ndarray, hot: HotVoxels) -> int:
    """Count the hot voxels of a plane without using adjacent planes."""
    return len(HotVoxelFilter(plane, hot).read(tuple(map(_all, plane.shape)))[1])


def _all(n: int) -> slice:
    return slice(0, n)
