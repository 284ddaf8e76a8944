"""Two scans of a foam: coarse and complete; fine, partial, rotated and shifted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.volume import Volume
from napari_geosr.physics.noise import reconstruction_noise
from napari_geosr.physics.sampling import coarse_scan
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.registration.transform import Transform, corners

FACTOR, FINE_VOXEL = 4, 2.0
COARSE_EDGE, FINE_EDGE = 32, 72


@dataclass(frozen=True, eq=False)
class Scene:
    """Two scans and the ground truth.

    Attributes
    ----------
    low, high : Volume
    truth : Transform
        Transform from the high-resolution scan to the other one.
    foam : ndarray
        The object, with voxels of the same size as those of `high`.
    """

    low: Volume
    high: Volume
    truth: Transform
    foam: np.ndarray

    def error(self, found: Transform) -> float:
        """Largest error of a corner, in voxels of the low resolution."""
        size = np.array(self.high.voxel_size)
        last = (np.array(self.high.shape) - 1) * size
        points = corners([0.0] * 3, last.tolist()) + self.high.origin
        off = found.apply(points) - self.truth.apply(points)
        return float(np.linalg.norm(off / self.low.voxel_size, axis=1).max())


def turned(degrees: float, axis: tuple[float, ...]) -> np.ndarray:
    """A rotation around an axis (Rodrigues)."""
    angle = np.deg2rad(degrees)
    z, y, x = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -x, y], [x, 0, -z], [-y, z, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.fixture(scope="session")
def scene() -> Scene:
    edge = COARSE_EDGE * FACTOR
    made = sphere_foam((edge,) * 3, porosity=0.25, radius=(6, 18), gap=2, seed=3)
    foam = (0.8 - 0.6 * made.fraction).astype(np.float32)
    rng = np.random.default_rng(0)
    coarse = coarse_scan(foam, FACTOR, 0.5)
    coarse = 200 * coarse + 200 * reconstruction_noise(coarse.shape, 0.06, rng)
    rotation = turned(3.0, (1.0, 0.4, -0.3))
    centre = np.array([57.3, 70.7, 62.1])
    middle = np.full(3, (FINE_EDGE - 1) / 2)
    fine = ndimage.affine_transform(
        foam,
        rotation,
        offset=centre - rotation @ middle,
        output_shape=(FINE_EDGE,) * 3,
        order=1,
    )
    fine = fine + rng.normal(0, 0.02, fine.shape)
    low = Volume(
        coarse.astype(np.float32),
        "ZYX",
        (FACTOR * FINE_VOXEL,) * 3,
        "µm",
        (100.0, -50.0, 30.0),
        name="whole",
    )
    high = Volume(fine.astype(np.float32), "ZYX", (FINE_VOXEL,) * 3, "µm", name="spot")
    first = np.array(low.origin) - (FACTOR - 1) / 2 * FINE_VOXEL
    truth = Transform.around(rotation, middle * FINE_VOXEL, first + centre * FINE_VOXEL)
    return Scene(low, high, truth, foam)
