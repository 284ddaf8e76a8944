"""X-ray CT: isotropic blur and the noise of reconstructed slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from napari_geosr.core.types import AnyDict
from napari_geosr.physics.degradations import (
    ContrastLevels,
    DegradationConfig,
    ImagingEstimate,
    blur_in_plane,
)
from napari_geosr.physics.noise_spectrum import (
    SpectralNoise,
    frequencies,
    reconstruction_power,
)

TITLE = "X-ray CT"


class Config(DegradationConfig):
    """Blur and noise of a CT scan."""

    noise: float = Field(
        0.1,
        ge=0,
        le=10,
        title="Noise",
        description="Standard deviation of the noise, as a fraction of the contrast "
        "between the two phases.",
    )
    cutoff: float = Field(
        1.5,
        gt=0,
        le=10,
        title="Filter cut-off",
        description="Cut-off of the reconstruction filter, as a fraction of the "
        "Nyquist frequency. Higher values give noise with a finer grain.",
    )
    noise_spectrum: Annotated[tuple[float, ...], Field(max_length=1025)] = Field(
        (),
        title="Noise spectrum",
        description="Measured noise power at evenly spaced frequencies, from zero to "
        "the highest frequency. Replaces the cut-off.",
    )
    along_z: float = Field(
        0.0,
        ge=0,
        le=0.9,
        title="Noise along Z",
        description="Correlation of the noise between adjacent slices.",
    )

    @field_validator("noise_spectrum")
    @classmethod
    def _check_spectrum(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value and (len(value) < 2 or min(value) < 0 or max(value) <= 0):
            raise ValueError("two or more numbers are needed, none of them negative")
        return value


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
    return tuple(sigma * plane / size for size in voxel_size)


class ReconstructionNoise:
    """Noise of the reconstructed slices."""

    def __init__(
        self, config: Config, levels: ContrastLevels, shape: tuple[int, int]
    ) -> None:
        spectrum: Any = config.noise_spectrum
        if not spectrum:
            spectrum = reconstruction_power(frequencies(), config.cutoff)
        sd = config.noise * levels.contrast * abs(config.grey_gain)
        self.noise = SpectralNoise(
            shape, sd, spectrum, along_z=config.along_z, seed=config.seed
        )

    def add(
        self, plane: npt.NDArray[np.float32], index: int
    ) -> npt.NDArray[np.float32]:
        """Return the plane with noise added."""
        return plane + self.noise.plane(index)


#: Name under which the registry finds the noise model.
Noise = ReconstructionNoise


def adopted(measured: ImagingEstimate, levels: ContrastLevels) -> AnyDict:
    """Return settings that reproduce the measurements."""
    return {
        "blur": measured.blur,
        "grey_gain": measured.gain,
        "grey_offset": measured.offset,
        "noise": measured.noise / (abs(measured.gain) * levels.contrast),
        "noise_spectrum": measured.spectrum,
        "along_z": min(max(measured.along_z, 0.0), 0.9),
    }
