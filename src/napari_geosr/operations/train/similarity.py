"""Builds the index of training patches with which `explain` compares a position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.attribution._trunk import patch_features
from napari_geosr.attribution._window import ExplainedScan
from napari_geosr.core.errors import (
    Cancelled,
    DeviceMemoryError,
    EngineError,
    ModelError,
)
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.units import PIXEL
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.intensity import scan_steps, without_hot_voxels
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.models import bundle
from napari_geosr.models.similarity import (
    MAX_NAME_LENGTH,
    MAX_PATCHES,
    MAX_SOURCES,
    PatchSource,
    SimilarityIndex,
    build_index,
)
from napari_geosr.networks import needs_noise, set_network_noise
from napari_geosr.operations.restore.scale import scaled

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.core.types import AnyArray
    from napari_geosr.core.volume import Volume
    from napari_geosr.inference.tiles.tiling import Box, Size
    from napari_geosr.learning.sampling.patches import Patches, TrainingSubject
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.card import ModelCard

#: Edge length of a patch along the network's axes, in voxels.
EDGE = 16
#: Edge length, in patches, of the boxes computed at once, by number of network axes.
_BOX_PATCHES = {2: 4, 3: 2}
#: Minimum number of patches; if there are fewer, their overlap is increased.
_FEW = 256
#: Divisors of the patch edge that are tried, in this order, for the step from one patch
#: to the next.
_OVERLAPS = (1, 2, 4, 8)
#: Maximum number of voxels that the network processes for the index.
_MAX_VOXELS = 1 << 26
#: Part of the random seed that makes it different from all other seeds of a run.
_SEED_KEY = 11


@dataclass(frozen=True)
class _BoxGrid:
    """Non-overlapping boxes in the part of a volume used for training."""

    starts: tuple[tuple[int, ...], ...]
    stops: tuple[tuple[int, ...], ...]

    @property
    def n(self) -> int:
        return math.prod(len(s) for s in self.starts)

    def box(self, number: int) -> Box:
        """Return box `number`, counted from 0 to `n` - 1."""
        index = np.unravel_index(number, [len(s) for s in self.starts])
        z, y, x = (
            slice(starts[i], stops[i])
            for starts, stops, i in zip(self.starts, self.stops, index, strict=True)
        )
        return z, y, x


def try_similarity_steps(
    card: ModelCard,
    network: nn.Module,
    folder: Path,
    patches: Patches,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimilarityIndex | None]:
    """Build the index of a trained network; if this fails, warn and return None.

    Training may have taken days, so the model must not be lost because of an error in
    the index.

    Parameters
    ----------
    folder : Path
        Existing folder for temporary files.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    with atomic.explained(folder):
        temporary = TemporaryDirectory(dir=folder, prefix=".index.partial")
    with temporary as path:  # build the index with the stored model
        bundle.save(path, card, network)
        steps = similarity_steps(bundle.load(path), patches, should_stop=should_stop)
        try:
            return (yield from steps)
        except (ModelError, EngineError, DeviceMemoryError) as error:
            reason = str(error).rstrip(".")
            message = f"The model has no similarity index: {reason}."
            yield WarningIssued(message=message)
            return None


def similarity_steps(
    model: Model,
    patches: Patches,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimilarityIndex]:
    """Compute features of patches spread over the training volumes.

    The network processes the patches as in a restoration. Held-out blocks are excluded.

    Parameters
    ----------
    model : Model
        The trained model.
    patches : Patches
        The training volumes.

    Raises
    ------
    ModelError
        If there are too few patches, or the network has no feature maps.
    Cancelled
        If `should_stop` returns True.
    """
    scenes = [s for s in patches.scenes if "source" in s.volumes]
    if len(scenes) > MAX_SOURCES:
        chosen = np.linspace(0, len(scenes) - 1, MAX_SOURCES).round().astype(int)
        scenes = [scenes[i] for i in chosen]
    n_axes = patches.config.ndim
    edge = _edge(scenes, n_axes)
    rng = np.random.default_rng([patches.config.seed, _SEED_KEY])
    grids = [_grid(scene, edge, n_axes) for scene in scenes]
    boxes = _drawn(grids, n_axes, rng)
    step = edge
    for part in _OVERLAPS:
        z, y, x = (max(1, e // part) for e in edge)
        step = z, y, x
        n_patches = sum(len(_corners(box, edge, step)) for _, box in boxes)
        if n_patches >= _FEW:
            break
    rows: list[AnyArray] = []
    places: list[tuple[int, ...]] = []
    n_voxels, device = 0, pick_device(patches.config.device)
    yield StageStarted(0, len(boxes), message="Indexing the training patches")
    for done, (number, group) in enumerate(
        itertools.groupby(boxes, key=lambda pair: pair[0])
    ):
        volume = scenes[number].volumes["source"]
        explained = yield from _explained_steps(
            model, volume, device, patches.config.threads, should_stop
        )
        # Boxes of a volume are in random order, so omitting some does not cause a bias.
        share = _MAX_VOXELS * (done + 1) / len(grids)
        for _, box in group:
            if should_stop():
                raise Cancelled("Stopped while indexing the training patches.")
            if n_voxels > share:
                break
            corners = _corners(box, edge, step)
            rows += list(patch_features(explained, box, corners, edge))
            places += [(number, *corner) for corner in corners]
            n_voxels += _cost(explained, box)
            yield BlockDone(len(places), max(len(places), n_patches))
    order = rng.permutation(len(rows))
    return build_index(
        np.asarray(rows)[order] if rows else np.empty((0, 1)),
        np.asarray(places, np.int32).reshape(-1, 4)[order],
        edge,
        [_source(scene.volumes["source"]) for scene in scenes],
    )


def _edge(scenes: Sequence[TrainingSubject], n_axes: int) -> Size:
    """Return the edge lengths (Z, Y, X) of a patch that fits into every volume."""
    room = [EDGE] * 3
    for scene in scenes:
        ranges = _ranges(scene)
        for axis in range(3):
            widest = max(b - a for a, b in ranges[axis])
            room[axis] = min(room[axis], widest)
    return (1 if n_axes == 2 else room[0]), room[1], room[2]


def _ranges(scene: TrainingSubject) -> list[tuple[tuple[int, int], ...]]:
    """Return the ranges of each axis (Z, Y, X) that were used for training."""
    shape = scene.volumes["source"].shape
    lead = 3 - len(shape)
    ranges: list[tuple[tuple[int, int], ...]] = [((0, 1),)] * lead
    for axis, n in enumerate(shape):
        ranges.append(scene.split.train if axis == scene.split.axis else ((0, n),))
    return ranges


def _grid(scene: TrainingSubject, edge: Size, n_axes: int) -> _BoxGrid:
    starts: list[tuple[int, ...]] = []
    stops: list[tuple[int, ...]] = []
    for axis, (parts, e) in enumerate(zip(_ranges(scene), edge, strict=True)):
        wide = 1 if n_axes == 2 and axis == 0 else e * _BOX_PATCHES[n_axes]
        pairs = [
            (a, min(a + wide, high))
            for low, high in parts
            for a in range(low, high - e + 1, wide)
        ]
        starts.append(tuple(a for a, _ in pairs))
        stops.append(tuple(b for _, b in pairs))
    return _BoxGrid(tuple(starts), tuple(stops))


def _drawn(
    grids: Sequence[_BoxGrid], n_axes: int, rng: np.random.Generator
) -> list[tuple[int, Box]]:
    """Return random boxes of all volumes, in the order of the volumes."""
    per_box = _BOX_PATCHES[n_axes] ** n_axes
    quota = math.ceil(MAX_PATCHES / per_box / len(grids))
    return [
        (i, grid.box(int(number)))
        for i, grid in enumerate(grids)
        if grid.n
        for number in rng.choice(grid.n, min(quota, grid.n), replace=False)
    ]


def _corners(box: Box, edge: Size, step: Size) -> list[Size]:
    """Return the index (Z, Y, X) of the first voxel of each patch in a box."""
    along = [
        range(part.start, part.stop - e + 1, s)
        for part, e, s in zip(box, edge, step, strict=True)
    ]
    return [(z, y, x) for z in along[0] for y in along[1] for x in along[2]]


def _explained_steps(
    model: Model,
    volume: Volume,
    device: str,
    threads: int | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, ExplainedScan]:
    """Prepare a volume and the network as for a restoration."""
    found = yield from scan_steps(volume.data, should_stop)
    statistics = scaled(found, model.card, without_hot_voxels(volume, found))
    network = model.network()
    if needs_noise(network):
        noise = estimate_noise(without_hot_voxels(volume, statistics))
        scale = statistics.input_mean, statistics.input_std
        set_network_noise(network, noise.standardised(*scale))
    return ExplainedScan(
        network, volume.data, statistics, device, threads, should_stop=should_stop
    )


def _cost(scene: ExplainedScan, box: Box) -> int:
    """Return the number of voxels that the network processes for a box."""
    halo = scene.layout.halo
    return math.prod(
        min(b.stop - b.start + 2 * h, n)
        for b, h, n in zip(box, halo, scene.layout.padded, strict=True)
    )


def _source(volume: Volume) -> PatchSource:
    size = (min(volume.voxel_size), *volume.voxel_size)[-3:]
    origin = (0.0, *volume.origin)[-3:]
    name = volume.name if volume.source is None else volume.source.name
    return PatchSource(
        name=name[:MAX_NAME_LENGTH],
        voxel_size=(size[0], size[1], size[2]),
        origin=(origin[0], origin[1], origin[2]),
        unit={PIXEL: "voxels"}.get(volume.unit, volume.unit),
    )
