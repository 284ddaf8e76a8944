"""Fluorescence: blur elongated along the optical axis, photon and read noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from napari_geosr.core.types import AnyDict
from napari_geosr.physics.degradations import (
    ContrastLevels,
    DegradationConfig,
    ImagingEstimate,
    blur_in_plane,
)
from napari_geosr.physics.noise import poisson_gaussian_noise

TITLE = "Fluorescence"


class Config(DegradationConfig):
    """Blur, photons and camera noise of a microscope."""

    blur: float = Field(
        0.8,
        ge=0,
        le=20,
        title="Blur",
        description=DegradationConfig.model_fields["blur"].description,
    )
    elongation: float = Field(
        2.5,
        ge=1,
        le=10,
        title="Elongation",
        description="Length of the point-spread function along the optical axis, "
        "relative to its width in the plane.",
    )
    photons: float = Field(
        50.0,
        gt=0,
        le=1e9,
        title="Photons",
        description="Number of photons per low-resolution voxel in bright structures.",
    )
    read_noise: float = Field(
        1.0,
        ge=0,
        le=1e6,
        title="Read-out noise",
        description="Standard deviation of the camera's read noise, in photons.",
    )


def blur_widths(
    config: Config, voxel_size: Sequence[float], millimetres: float | None
) -> tuple[float, ...]:
    """Return the standard deviations of the blur by axis, in low-resolution voxels.

    Parameters
    ----------
    voxel_size : sequence of float
        Size of the low-resolution voxels.
    millimetres : float or None
        Millimetres per unit of `voxel_size`; None if unknown.
    """
    plane = voxel_size[-1]
    sigma = blur_in_plane(config, None if millimetres is None else plane * millimetres)
    along = (sigma * config.elongation * plane / voxel_size[0],)
    across = tuple(sigma * plane / size for size in voxel_size[-2:])
    return along + across if len(voxel_size) == 3 else across


class PhotonNoise:
    """Photon and read noise of each plane, relative to the dark level."""

    def __init__(
        self, config: Config, levels: ContrastLevels, shape: tuple[int, int]
    ) -> None:
        self.config = config
        ends = (levels.dark * config.grey_gain, levels.bright * config.grey_gain)
        self.dark = min(ends) + config.grey_offset
        self.light = abs(ends[1] - ends[0])

    def add(
        self, plane: npt.NDArray[np.float32], index: int
    ) -> npt.NDArray[np.float32]:
        """Return the plane with noise added."""
        config = self.config
        rng = np.random.default_rng([config.seed, 13, index])
        light = (plane - np.float32(self.dark)) / np.float32(self.light)
        seen = poisson_gaussian_noise(light, config.photons, config.read_noise, rng)
        return seen * np.float32(self.light) + np.float32(self.dark)


#: Name under which the registry finds the noise model.
Noise = PhotonNoise


def adopted(measured: ImagingEstimate, levels: ContrastLevels) -> AnyDict:
    """Return settings that reproduce the measured blur, grey scale and noise."""
    ends = [g * measured.gain + measured.offset for g in (levels.dark, levels.bright)]
    dark, light = min(ends), abs(ends[1] - ends[0])
    found: AnyDict = {
        "blur": measured.blur,
        "grey_gain": measured.gain,
        "grey_offset": measured.offset,
    }
    # The variance is (grey - dark) · light / photons + (read · light / photons)².
    slope = max(measured.slope, 1e-9 * light)
    photons = min(max(light / slope, 1e-3), 1e9)
    read = math.sqrt(max(slope * dark + measured.intercept, 0.0))
    return {**found, "photons": photons, "read_noise": read * photons / light}
