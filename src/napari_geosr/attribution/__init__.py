"""Explanations: which voxels of a scan a place of the result comes from.

One file a method, found by file name. A method's module offers ``TITLE``, ``HELP`` (a
line for people) and ``explain(question)``, a generator of steps that returns a
`AttributionResult`. No torch is imported before one is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_geosr.core.noise import Noise
from napari_geosr.core.registry import Registry
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.attribution._window import ExplainedScan, Window
    from napari_geosr.inference.tiling import Box

METHODS = Registry(
    package="napari_geosr.attribution",
    group="napari_geosr.explanations",
    noun="explanation",
)


@dataclass(frozen=True)
class AttributionRequest:
    """A place of the result, and what is known of it.

    Attributes
    ----------
    region : Box
        Voxels of the result, in Z, Y, X.
    mask : ndarray of bool
        Which of them are meant; of the region's shape.
    voxel_size : tuple of float
        Of the scan, along Z, Y and X.
    unit : str
    threshold : float or None
        Grey value of the result between pore and solid; needed for pores alone.
    phase : {"dark", "bright"}
        What a pore is.
    noise : callable
        Gives the noise of the scan, in its own grey values; measured when first asked.
    told : callable
        Gives the network for a scan whose noise is stronger by a factor: the network of
        the scene, where it knows of no noise.
    draws : int
        Noises that are drawn.
    steps : int
        Points on a path of integrated gradients.
    blur : float
        Where that path begins: width of a Gaussian, in voxels of the scan.
    feature : {"grey", "edge"}
        What is attributed there: the mean grey value, or the mean slope.
    patch : int
        Edge of what is occluded, in voxels of the scan.
    margin : int
        Width of the zone around a pore that counts as its own neighbourhood, in
        voxels of the scan.
    """

    scene: ExplainedScan
    region: Box
    mask: AnyArray
    voxel_size: tuple[float, float, float]
    unit: str
    noise: Callable[[], Noise]
    told: Callable[[float], nn.Module]
    threshold: float | None = None
    phase: Literal["dark", "bright"] = "dark"
    draws: int = 8
    steps: int = 32
    blur: float = 4.0
    feature: Literal["grey", "edge"] = "grey"
    patch: int = 3
    margin: int = 2
    seed: int = 0
    memory: AnyDict = field(default_factory=dict, compare=False, repr=False)

    @property
    def window(self) -> Window:
        """The window of the region, read once for all methods."""
        if "window" not in self.memory:
            self.memory["window"] = self.scene.window(self.region)
        window: Window = self.memory["window"]
        return window

    @property
    def weights(self) -> AnyArray:
        """Weights of the region's voxels in the mean over the mask."""
        found: AnyArray = (self.mask / self.mask.sum()).astype(self.window.seen.dtype)
        return found

    def mean_gradient(self) -> tuple[float, AnyArray]:
        """The standardised mean over the mask, and its derivative by the scan."""
        if "gradient" not in self.memory:
            import torch

            weights = torch.from_numpy(self.weights)
            self.memory["gradient"] = self.window.gradient(
                lambda values: (values * weights).sum()
            )
        value, slope = self.memory["gradient"]
        return value, slope

    def distances(self) -> AnyArray:
        """From every voxel of the window to the nearest meant one, in `unit`.

        Centres of voxels; those of the scan and of the result have a common frame.
        """
        from scipy.spatial import cKDTree

        window = self.window
        size = np.asarray(self.voxel_size)
        fine = np.argwhere(self.mask) + [part.start for part in self.region]
        # The centre of the first fine voxel lies (s - 1) / 2s voxels before that of the
        # first coarse one.
        scale = np.asarray(window.scale)
        centres = ((fine + 0.5) / scale - 0.5) * size
        start = [part.start for part in window.place]
        voxels = (np.indices(window.seen.shape).reshape(3, -1).T + start) * size
        found, _ = cKDTree(centres).query(voxels)
        distances: AnyArray = found.reshape(window.seen.shape)
        return distances


@dataclass(frozen=True, eq=False)
class Attribution:
    """A number for every voxel of a box of the scan.

    Attributes
    ----------
    place : Box
        In voxels of the scan, Z, Y, X.
    values : ndarray
    meaning : str
        What a number is, for people.
    """

    place: Box
    values: AnyArray
    meaning: str


@dataclass(frozen=True, eq=False)
class AttributionResult:
    """What a method found.

    Attributes
    ----------
    figures : mapping
        As JSON can hold them.
    sentence : str
        The same in a sentence.
    overlay : Attribution or None
    notes : tuple of str
        What limits it, in sentences.
    """

    figures: AnyMapping
    sentence: str
    overlay: Attribution | None = None
    notes: tuple[str, ...] = ()
