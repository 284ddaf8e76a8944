"""Segmentation inside a mask: learn labels of the voxels of a shape from grey values.

Only the voxels of the mask are processed. Their features are the grey value and its
means over boxes of 3³ and 5³ voxels, which also include voxels just outside the mask,
except NaN and infinite ones. For training, grey values are standardised over the labels
of each scan.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from cyclopts import Parameter
from pydantic import Field

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.grey_values.standardised import standardised
from napari_geosr.core.steps import ShouldStop, Step, never_stop, run_to_end
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.shapes.data import (
    ShapeConfig,
    ShapeKind,
    ShapeMethod,
    ShapeSet,
    turned,
)
from napari_geosr.learning.shapes.filled_cells import FilledCells
from napari_geosr.learning.shapes.grey_scale import grey_scale_steps
from napari_geosr.learning.shapes.scan_values import scan_values_steps
from napari_geosr.models.card import LabelledGreyValues
from napari_geosr.networks import sparse

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Segment inside a mask"
NEEDS = "scans and their labels: 0 outside the mask, 1, 2, 3 … inside it"

#: Minimum number of labelled voxels in a block, and maximum number of blocks drawn to
#: find one. The first block usually has enough, because blocks are drawn around labels.
_MIN_VOXELS = 100
_MAX_TRIES = 10
#: Value of voxels outside the mask, which are not used for training.
_OUTSIDE = -1
#: Number of labels read at a time.
_AT_ONCE = 2**24


class Config(ShapeConfig):
    """Settings of segmentation inside a mask."""

    unused_settings: ClassVar[frozenset[str]] = (
        ShapeConfig.unused_settings - {"target"}
    ) | {"label", "simulated"}

    source: Files = Field(
        (),
        title="Source",
        description="Scans to learn from: files, folders of slices or OME-Zarr. "
        "Separate multiple entries with commas.",
    )
    target: Files = Field(
        (),
        title="Target",
        description="Labels of each source, in the same order: 0 outside the mask, 1, "
        "2, 3 … inside it.",
    )
    network: str = Field(
        "surface_unet", title="Network", description="Network architecture."
    )
    simulated: ShapeKind | None = Field(
        None,
        title="Simulated shapes",
        description="Not available: scans and their labels are needed.",
    )
    labels: Annotated[int, Parameter(name=["--n-labels", "--labels"])] = Field(
        2,
        ge=2,
        le=255,
        title="Labels",
        description="Number of labels inside the mask, numbered from 1.",
    )
    patch: int = Field(
        48,
        ge=16,
        le=256,
        title="Patch",
        description="Edge length of a training block in voxels.",
    )


class Method(ShapeMethod):
    """Predicts a label for each voxel of a mask."""

    config: Config
    needs_cubic = False
    draws_blocks = True

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        assert isinstance(config, Config)
        self.labels = config.labels

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Raise `ConfigError` if scans or labels are missing."""
        assert isinstance(config, Config)
        if config.simulated is not None:
            raise ConfigError(
                "This method learns from scans and cannot use simulated shapes: give "
                "--source and --target."
            )
        if not config.source:
            raise ConfigError("Give the scans to learn from (--source).")
        if len(config.source) != len(config.target):
            raise ConfigError(
                f"There are {len(config.source)} scans and {len(config.target)} labels "
                "(--target). Give the labels of each scan, in the same order."
            )

    def inspect(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Return no notes: each scan has the orientation of its labels."""
        return []

    def network_kwargs(self) -> AnyDict:
        """Return the settings of the network, for its card."""
        return {
            **super().network_kwargs(),
            "upscale_factor": 1,
            "out_channels": self.config.labels,
        }

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw standardised grey values and labels of a block, (1, Z, Y, X)."""
        assert isinstance(patches, ShapeSet)
        grey, labels = self.pair(patches, rng)
        if self.config.augment and not patches.validation:
            grey, labels = turned(rng, (grey, labels), patches.equal_axes)
        return {"source": grey[None], "target": labels[None]}

    def pair(
        self, shapes: ShapeSet, rng: np.random.Generator
    ) -> tuple[AnyArray, AnyArray]:
        """Draw a block: float32 grey values, and int16 labels (−1 outside the mask).

        If no block has enough labelled voxels, the one with most is used.
        """
        edge, best = self.config.patch, -1
        for _ in range(_MAX_TRIES):
            drawn = shapes.volume(rng)
            if (number := shapes.number_of(drawn)) not in shapes.cells:
                shapes.cells[number] = _labelled_cells(shapes.target_of(drawn))
            box = shapes.block(drawn, edge, rng)
            values = np.asarray(shapes.target_of(drawn).data[box]).astype(np.int16)
            if (n_labelled := int(np.count_nonzero(values > 0))) > best:
                volume, place, labels, best = drawn, box, values, n_labelled
            if best >= _MIN_VOXELS:
                break
        target = shapes.target_of(volume)
        if labels.max() > self.config.labels:
            raise ConfigError(
                f"{target.title} has the label {labels.max()}, but --n-labels is "
                f"{self.config.labels}. Give the number of labels inside the mask."
            )
        grey = standardised(np.asarray(volume.data[place]), _grey_scale(shapes, volume))
        missing = shapes.padding(labels.shape, edge)
        padded = np.pad(grey, missing, mode="edge"), np.pad(labels, missing) - 1
        return padded

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the cross-entropy of the labels of the voxels in the mask."""
        from torch.nn import functional as F  # noqa: N812

        labels = batch["target"][:, 0].long()
        voxels = sparse.masked_voxels(batch["source"].float(), labels > _OUTSIDE)
        logits = self.modules[self.result](voxels)
        if not len(logits):  # a block without labels has no error
            return logits.features.sum(), {}
        n, z, y, x = logits.coords.long().unbind(1)
        error = F.cross_entropy(logits.features, labels[n, z, y, x])
        return error, {"loss": error}


def grey_scales_steps(
    shapes: ShapeSet, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Measure the grey values of each scan and of its labelled voxels, and store them.

    Raises
    ------
    VolumeError
        If a scan has NaN or infinite values inside its labels, no voxel is labelled, or
        the scan has the same grey value everywhere.
    Cancelled
        If `should_stop` returns True.
    """
    for number in range(len(shapes.volumes)):
        if number not in shapes.grey_values:
            found = yield from _grey_values_steps(shapes, number, should_stop)
            shapes.grey_values[number] = found


def _labelled_cells(target: Volume) -> FilledCells:
    """Return the cells of a volume that contain labels."""
    cells = FilledCells(target.shape)
    depth = max(1, _AT_ONCE // max(1, target.shape[1] * target.shape[2]))
    for start in range(0, target.shape[0], depth):
        cells.add(start, np.asarray(target.data[start : start + depth]) > 0)
    return cells


def _grey_scale(shapes: ShapeSet, volume: Volume) -> tuple[float, float]:
    """Return the mean and standard deviation of the grey values inside the labels."""
    number = shapes.number_of(volume)
    if number not in shapes.grey_values:
        steps = _grey_values_steps(shapes, number, never_stop)
        shapes.grey_values[number] = run_to_end(steps)
    found = shapes.grey_values[number]
    return found.mean, found.sd


def _grey_values_steps(
    shapes: ShapeSet, number: int, should_stop: ShouldStop
) -> Generator[Step, None, LabelledGreyValues]:
    volume, target = shapes.volumes[number], shapes.targets[number]

    def inside(planes: slice) -> AnyArray:
        labelled: AnyArray = np.asarray(target.data[planes]) > 0
        return labelled

    depth = max(1, _AT_ONCE // max(1, volume.shape[1] * volume.shape[2]))
    n_inside = 0
    for start in range(0, volume.shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped while reading.")
        n_inside += int(np.count_nonzero(inside(slice(start, start + depth))))
    if not n_inside:
        raise VolumeError(
            f"{target.title} has no labelled voxel. Label voxels, or leave out this "
            "file and its scan."
        )
    mean, sd = yield from grey_scale_steps(volume, inside, n_inside, should_stop)
    scan = yield from scan_values_steps(volume, should_stop)
    if scan is None:
        raise VolumeError(
            f"{volume.title} has the same grey value everywhere, so nothing can be "
            "learned from it. Leave out this file and its labels."
        )
    return LabelledGreyValues(
        mean=mean,
        sd=sd,
        share=n_inside / math.prod(volume.shape),
        scan_mean=scan.mean,
        scan_sd=scan.sd,
        scan_quantiles=scan.quantiles,
    )
