"""Under-sampled scanning: a confocal microscope that skips voxels.

Lens and dwell time are those of the high-resolution scan: the low-resolution scan
consists of one unchanged voxel of every block, including its noise. The target of the
pair must not contain the same noise, because a network would otherwise learn to
reproduce it. The kept voxels are therefore replaced in the target by interpolation from
skipped voxels. This requires neither the gain nor the offset of the detector, and the
low-resolution scan keeps all its photons, whereas binomial thinning would divide them
between the two scans. For averages over blocks, as from larger camera pixels, use the
kind ``fluo``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from napari_geosr.physics.degradations import ContrastLevels, fluo

TITLE = "Under-sampled scanning"
#: Each low-resolution voxel is a single voxel of the high-resolution scan.
SAMPLING = "kept"


class Config(fluo.Config):
    """Light and detector of a scanning microscope."""

    blur: float = Field(
        0.0,
        ge=0,
        le=20,
        title="Blur",
        description="Standard deviation of an additional blur in the plane, in "
        "low-resolution voxels; 0 keeps the point-spread function of the scan.",
    )
    photons: float | None = Field(  # type: ignore[assignment]
        None,
        gt=0,
        le=1e9,
        title="Photons",
        description="Number of photons per voxel in bright structures, for a scan "
        "without noise. By default no photon noise is added: the voxels have the noise "
        "of the scan.",
    )

    shared_noise: bool = Field(
        False,
        title="Keep shared noise",
        description="Keep the voxels of the low-resolution scan unchanged in the "
        "high-resolution scan (only for scans without noise). By default, they "
        "are replaced by values interpolated from the skipped voxels, so that "
        "the two scans share no noise.",
    )

    @model_validator(mode="after")
    def _check_resolution(self) -> Config:
        if self.mtf10 is not None:
            raise ValueError(
                "an under-sampled scan has the resolution of the original scan: omit "
                "the MTF, or choose fluo"
            )
        return self


def blur_widths(
    config: Config, voxel_size: Sequence[float], millimetres: float | None
) -> tuple[float, ...]:
    """Return the standard deviations of the added blur, in low-resolution voxels."""
    return fluo.blur_widths(config, voxel_size, millimetres)


def separates_noise(config: Config) -> bool:
    """Whether the voxels of the low-resolution scan are replaced in the target.

    This is unnecessary if photon counting is simulated, because the high-resolution
    scan is then assumed to be noise-free.
    """
    return config.photons is None and not config.shared_noise


class SampleNoise:
    """Photon and read noise of each plane, if photon counting is simulated."""

    def __init__(
        self, config: Config, levels: ContrastLevels, shape: tuple[int, int]
    ) -> None:
        self.counted = None
        if config.photons is not None:
            self.counted = fluo.PhotonNoise(config, levels, shape)

    def add(
        self, plane: npt.NDArray[np.float32], index: int
    ) -> npt.NDArray[np.float32]:
        """Return the plane with noise added."""
        return plane if self.counted is None else self.counted.add(plane, index)


#: Name under which the registry finds the noise model.
Noise = SampleNoise
