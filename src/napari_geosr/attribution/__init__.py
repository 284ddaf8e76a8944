"""Explain which voxels of a scan determine the result at a given position.

Each method has its own module, which is found by its name. The module defines
``TITLE``, ``HELP`` (a line for users) and ``explain(request)``, a generator of steps
that returns an `AttributionResult`. torch is imported only when a method is used.
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

    from napari_geosr.attribution._trunk import TrainingPatches
    from napari_geosr.attribution._window import ExplainedScan, Window
    from napari_geosr.inference.tiles.tiling import Box
    from napari_geosr.measure.comparison.edge_blur import ScanBlur

METHODS = Registry(
    package="napari_geosr.attribution",
    group="napari_geosr.explanations",
    noun="explanation",
)


@dataclass(frozen=True)
class AttributionRequest:
    """A region of the result to explain, and the settings of the methods.

    Attributes
    ----------
    scene : ExplainedScan
        The scan and the network that restores it.
    region : Box
        Bounding box in the result, in Z, Y, X.
    mask : ndarray of bool
        Mask of the voxels to explain, with the shape of the region.
    voxel_size : tuple of float
        Voxel size of the scan along Z, Y and X.
    unit : str
    threshold : float or None
        Grey value between pore and solid in the result; required only for pores.
    phase : {"dark", "bright"}
        Whether pores are dark or bright.
    noise : callable
        Returns the noise of the scan, in grey values; measured on the first call.
    network_for_noise : callable
        Returns the network for noise that is stronger by a given factor; a network that
        is not conditioned on the noise is returned unchanged.
    draws : int
        Number of noise realisations.
    steps : int
        Number of steps of the path for integrated gradients.
    blur : float
        Standard deviation, in voxels of the scan, of the Gaussian blur at the start of
        the path for integrated gradients.
    feature : {"grey", "edge"}
        Feature to attribute: the mean grey value, or the mean gradient.
    patch : int
        Edge length of the occluded cubes, in voxels of the scan.
    margin : int
        Width of the zone around a pore that is replaced with solid along with the pore,
        in voxels of the scan.
    seed : int
        Seed for the noise realisations.
    scan_blur : callable or None
        Estimates the width of the scan's point-spread function; None if not needed.
    training : TrainingPatches or None
        Index of the training patches; None if it is not used.
    memory : dict
        Cache of values that several methods need.
    """

    scene: ExplainedScan
    region: Box
    mask: AnyArray
    voxel_size: tuple[float, float, float]
    unit: str
    noise: Callable[[], Noise]
    network_for_noise: Callable[[float], nn.Module]
    threshold: float | None = None
    phase: Literal["dark", "bright"] = "dark"
    draws: int = 8
    steps: int = 32
    blur: float = 4.0
    feature: Literal["grey", "edge"] = "grey"
    patch: int = 3
    margin: int = 2
    seed: int = 0
    scan_blur: Callable[[], ScanBlur] | None = None
    training: TrainingPatches | None = None
    memory: AnyDict = field(default_factory=dict, compare=False, repr=False)

    @property
    def window(self) -> Window:
        """Window of the region; it is read only once for all methods."""
        if "window" not in self.memory:
            self.memory["window"] = self.scene.window(self.region)
        window: Window = self.memory["window"]
        return window

    @property
    def weights(self) -> AnyArray:
        """Weights of the region's voxels in the mean over the mask."""
        weights: AnyArray = (self.mask / self.mask.sum()).astype(
            self.window.network_input.dtype
        )
        return weights

    def mean_gradient(self) -> tuple[float, AnyArray]:
        """Return the standardised mean over the mask and its gradient in the window."""
        if "gradient" not in self.memory:
            import torch

            weights = torch.from_numpy(self.weights)
            self.memory["gradient"] = self.window.gradient(
                lambda values: (values * weights).sum()
            )
        value, slope = self.memory["gradient"]
        return value, slope

    @property
    def is_independent(self) -> bool:
        """Whether the result does not depend on the scan (all derivatives are zero)."""
        return not self.mean_gradient()[1].any()

    def distances(self) -> AnyArray:
        """Return each window voxel's distance from the nearest explained voxel.

        Distances are between voxel centres, in the unit of the voxel size.
        """
        from scipy.spatial import cKDTree

        window = self.window
        size = np.asarray(self.voxel_size)
        fine = np.argwhere(self.mask) + [part.start for part in self.region]
        # With an upscale factor s, the centre of the first fine voxel lies (s - 1) / 2s
        # coarse voxels before that of the first coarse voxel.
        scale = np.asarray(window.scale)
        centres = ((fine + 0.5) / scale - 0.5) * size
        start = [part.start for part in window.place]
        voxels = (
            np.indices(window.network_input.shape).reshape(3, -1).T + start
        ) * size
        nearest, _ = cKDTree(centres).query(voxels)
        distances: AnyArray = nearest.reshape(window.network_input.shape)
        return distances


@dataclass(frozen=True, eq=False)
class Attribution:
    """A value for every voxel of a box of the scan.

    Attributes
    ----------
    place : Box
        The box in voxels of the scan, in Z, Y, X.
    values : ndarray
    meaning : str
        Description of the values, for the user.
    """

    place: Box
    values: AnyArray
    meaning: str


@dataclass(frozen=True, eq=False)
class AttributionResult:
    """Result of an explanation method.

    Attributes
    ----------
    figures : mapping
        Measured values, JSON-serialisable.
    sentence : str
        Summary for the user.
    overlay : Attribution or None
    notes : tuple of str
        Limitations, as sentences.
    """

    figures: AnyMapping
    sentence: str
    overlay: Attribution | None = None
    notes: tuple[str, ...] = ()
