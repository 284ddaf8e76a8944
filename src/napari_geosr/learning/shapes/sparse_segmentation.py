"""Segmentation inside a mask: learn labels of the voxels of a shape from grey values.

Only the voxels of the mask are processed. Their features are the grey value and its
means over boxes of 3³ and 5³ voxels, which also include voxels just outside the mask.
Grey values are standardised over the mask, in training and when the model is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from cyclopts import Parameter
from pydantic import Field

from napari_geosr.core.errors import ConfigError
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
from napari_geosr.networks import sparse

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.sampling.patches import Patches

PURPOSE = "Segment inside a mask"
NEEDS = "scans and their labels: 0 outside the mask, 1, 2, 3 … inside it"

#: Minimum number of labelled voxels in a block, and maximum number of blocks drawn to
#: find one.
_MIN_VOXELS = 100
_MAX_TRIES = 30
#: Value of voxels outside the mask, which are not used for training.
_OUTSIDE = -1
#: Maximum number of voxels of the mask used to estimate mean and standard deviation.
_MAX_SAMPLES = 2**22


class Config(ShapeConfig):
    """Settings of segmentation inside a mask."""

    unused_settings: ClassVar[frozenset[str]] = (
        ShapeConfig.unused_settings - {"target"}
    ) | {"label", "simulated"}

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

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        assert isinstance(config, Config)
        self.labels = config.labels
        self._scales: dict[int, tuple[float, float]] = {}

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
            grey, labels = turned(rng, (grey, labels))
        return {"source": grey[None], "target": labels[None]}

    def pair(
        self, shapes: ShapeSet, rng: np.random.Generator
    ) -> tuple[AnyArray, AnyArray]:
        """Draw a block: float32 grey values, and int16 labels (−1 outside the mask)."""
        edge = self.config.patch
        labels: AnyArray = np.zeros((0, 0, 0), np.int16)
        for _ in range(_MAX_TRIES):
            volume = shapes.volume(rng)
            target = shapes.target_of(volume)
            low, high = shapes.planes(volume, edge)
            corner = [int(rng.integers(low, high + 1))]
            corner += [
                int(rng.integers(max(0, n - edge) + 1)) for n in volume.shape[1:]
            ]
            place = tuple(slice(c, c + edge) for c in corner)
            labels = np.asarray(target.data[place]).astype(np.int16)
            if (labels > 0).sum() >= _MIN_VOXELS:
                break
        if labels.max() > self.config.labels:
            raise ConfigError(
                f"{target.title} has the label {labels.max()}, but --n-labels is "
                f"{self.config.labels}. Give the number of labels inside the mask."
            )
        mean, deviation = self._scale(volume, target)
        grey = (np.asarray(volume.data[place], np.float32) - mean) / deviation
        missing = [(0, edge - n) for n in labels.shape]
        padded = np.pad(grey, missing, mode="edge"), np.pad(labels, missing) - 1
        return padded

    def _scale(self, volume: Volume, target: Volume) -> tuple[float, float]:
        """Return the mean and standard deviation of the grey values inside the mask."""
        key = id(volume)
        if key not in self._scales:
            inside = np.asarray(target.data) > 0
            self._scales[key] = grey_scale_inside(np.asarray(volume.data)[inside])
        return self._scales[key]

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the cross-entropy of the labels of the voxels in the mask."""
        from torch.nn import functional as F  # noqa: N812

        labels = batch["target"][:, 0].long()
        voxels = sparse.masked_voxels(batch["source"].float(), labels > _OUTSIDE)
        logits = self.modules[self.result](voxels)
        if not len(logits):  # a block without labels; the mean would be NaN
            nothing = logits.features.sum()
            return nothing, {"loss": nothing}
        n, z, y, x = logits.coords.long().unbind(1)
        error = F.cross_entropy(logits.features, labels[n, z, y, x])
        return error, {"loss": error}


def grey_scale_inside(values: AnyArray) -> tuple[float, float]:
    """Return the mean and standard deviation of the grey values of a mask.

    Parameters
    ----------
    values : ndarray of shape (N,)
        Not empty. If there are many, equally spaced ones are used.

    Examples
    --------
    >>> import numpy as np
    >>> grey_scale_inside(np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    step = -(-len(values) // _MAX_SAMPLES)
    sample = values[::step].astype(np.float64)
    return float(sample.mean()), max(float(sample.std()), 1e-12)
