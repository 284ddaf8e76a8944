"""Training volumes without the hot voxels that would stretch their grey scale."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from napari_geosr.core.hot_voxels import GreySample, HotVoxelFilter, HotVoxels
from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.learning.statistics import spread_planes
from napari_geosr.physics.simulated import is_simulated


def without_hot_voxels_steps(
    volumes: Mapping[str, Sequence[Volume]], labels: Sequence[str] = ()
) -> Generator[Step, None, dict[str, list[Volume]]]:
    """The volumes with the median of the neighbours in place of hot and dead voxels.

    Parameters
    ----------
    volumes : mapping of str to sequence of Volume
        By role.
    labels : sequence of str
        Roles whose values are labels and stay as they are.

    Yields
    ------
    WarningIssued
        For each volume that has some.
    """
    clean: dict[str, list[Volume]] = {}
    said: set[str] = set()
    for role, given in volumes.items():
        clean[role] = []
        for volume in given:
            hot = None
            if role not in labels and not is_simulated(volume.name):
                hot = _hot_voxels(volume)
            if hot is None:
                clean[role].append(volume)
                continue
            clean[role].append(volume.replace(data=HotVoxelFilter(volume.data, hot)))
            sentence = (
                f"{volume.title} has hot or dead voxels, {hot.n} in the planes looked "
                "at. They are left out of mean and deviation, and the network sees the "
                "median of their neighbours instead."
            )
            if sentence not in said:
                said.add(sentence)
                yield WarningIssued(message=sentence)
    return clean


def _hot_voxels(volume: Volume) -> HotVoxels | None:
    """How they are told, from planes spread over the volume; None without any."""
    if volume.dtype.kind not in "iuf":
        return None
    planes = list(spread_planes(volume))
    sample = GreySample((len(planes), *volume.shape[-2:]))
    for plane in planes:
        sample.add(plane)
    hot = sample.hot_voxels()
    if hot is None:
        return None
    n = sum(_count(plane, hot) for plane in planes)
    return replace(hot, n=n) if n else None


def _count(plane: np.ndarray, hot: HotVoxels) -> int:
    """Hot voxels of a plane; its neighbours are not looked at."""
    return len(HotVoxelFilter(plane, hot).read(tuple(map(_all, plane.shape)))[1])


def _all(n: int) -> slice:
    return slice(0, n)
