"""Clean volumes for evaluating the verdict, and the noise added to them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage

from napari_geosr.inference.risk.probes import noise_like
from napari_geosr.physics import simulated
from napari_geosr.physics.specimens import textiles

Array = npt.NDArray[np.float32]
#: Shape of every volume; small, so that hundreds of restorations take minutes.
SHAPE = (16, 96, 96)
#: Correlation of the noise of adjacent voxels along each axis.
NOISES: Mapping[str, Mapping[str, float]] = {
    "independent": {},
    "in-plane": {"z": 0.01, "y": 0.5, "x": 0.5},
    "3D": {"z": 0.5, "y": 0.5, "x": 0.5},
}
#: First voxel (Z, Y, X) of each part of a real volume.
_CORNERS = {
    "a": (20, 8, 8),
    "b": (80, 8, 8),
    "c": (50, 32, 32),
    "d": (2, 30, 2),
    "e": (104, 20, 20),
    "f": (66, 0, 32),
    "g": (35, 32, 0),
    "h": (100, 0, 32),
    "i": (66, 32, 0),
}
#: Parts sliced perpendicular to the last axis in the bone and cement scans, because
#: the other parts already contain all slices along the first axis.
_TURNED = "hi"
#: Blur of phantoms and of the segmented rock, in voxels.
_BLUR = 0.7


@dataclass(frozen=True)
class Scene:
    """A volume that serves as ground truth.

    Attributes
    ----------
    name : str
    half : str
        ``"a"`` to ``"k"``: different parts of the same volumes, or seeds of phantoms;
        parts j and k consist of other phantoms.
    clean : ndarray of shape (16, 96, 96), float32
    """

    name: str
    half: str
    clean: Array

    @property
    def contrast(self) -> float:
        """Distance between the 2nd and the 98th percentile."""
        low, high = np.percentile(self.clean, [2, 98])
        return float(high - low)

    def noisy(self, level: float, noise: str) -> Array:
        """Return the volume with reproducible noise of `level` times its contrast."""
        rng = np.random.default_rng([round(1000 * level), len(noise), len(self.name)])
        unit = noise_like(SHAPE, NOISES[noise], rng)
        return (self.clean + level * self.contrast * unit).astype(np.float32)


def scenes(half: str, data: Path | None) -> Iterator[Scene]:
    """Yield all scenes of one part; real volumes only if the folder `data` is given.

    Parameters
    ----------
    data : Path or None
        Folder with ``bone_128x128x128.tif``, ``cement_128x128x128.tif`` and
        ``berea.zip``.
    """
    other = "abcdefghijk".index(half)
    if half in _RARE_HALVES:
        for name, draw in _RARE.items():
            yield Scene(name, half, _blurred(100 * draw(np.random.default_rng(other))))
        return
    if data is not None:
        for name in ("bone", "cement"):
            volume = tifffile.imread(data / f"{name}_128x128x128.tif")
            if half in _TURNED:
                volume = volume.transpose(2, 0, 1)
            z, y, x = _CORNERS[half]
            yield _scene(name, half, volume[z:, y:, x:])
        with zipfile.ZipFile(data / "berea.zip") as packed:
            rock = tifffile.imread(io.BytesIO(packed.read("berea.tif")))
        z = (100 + 80 * other) % len(rock)
        y = 100 + 150 * (other // 5)  # the first five differ in Z
        part = rock[z : z + 26, y : y + 106, 100:206]
        yield _scene("berea", half, _blurred(part)[5:, 5:, 5:])
    for name, make in _PHANTOMS.items():
        yield _scene(name, half, _blurred(make(other)))
    for name, make in _SIMULATED.items():
        yield _scene(name, half, 100 * make(40 + other)[-1])


def _cracks(rng: np.random.Generator, width: float = 1.2) -> Array:
    """Solid with three slightly bent cracks."""
    solid = np.ones(SHAPE, np.float32)
    places = np.indices(SHAPE).astype(np.float32)
    for _ in range(3):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        centre = rng.uniform(0.25, 0.75, 3) * SHAPE
        distance = np.tensordot(normal, places - centre.reshape(3, 1, 1, 1), 1)
        distance += 1.5 * np.sin((places[1] + places[2]) / 17)
        solid[np.abs(distance) < width / 2] = 0
    return solid


def _rare_pores(rng: np.random.Generator, share: float = 0.004) -> Array:
    """Solid with a few spherical pores with radii of 1.3 to 3 voxels."""
    solid = np.ones(SHAPE, np.float32)
    places = np.indices(SHAPE)
    while np.mean(solid == 0) < share:
        centre = rng.uniform(0, 1, 3) * SHAPE
        distance = np.linalg.norm(places - centre.reshape(3, 1, 1, 1), axis=0)
        solid[distance < rng.uniform(1.3, 3)] = 0
    return solid


def _padded(rng: np.random.Generator) -> Array:
    """Porous cylinder in air, with its axis along Z."""
    solid = _rare_pores(rng, 0.03)
    y, x = np.indices(SHAPE[1:]) - (np.array(SHAPE[1:]).reshape(2, 1, 1) - 1) / 2
    solid[:, np.hypot(y, x) > 42] = 0
    return solid


def _inclusions(rng: np.random.Generator) -> Array:
    """Solid with pores and a few inclusions three times as bright."""
    solid = _rare_pores(rng, 0.02)
    return np.where(_rare_pores(rng, 0.01) == 0, 3, solid).astype(np.float32)


def _blurred(volume: npt.ArrayLike) -> Array:
    blurred: Array = ndimage.gaussian_filter(np.asarray(volume, np.float32), _BLUR)
    return blurred


def _scene(name: str, half: str, volume: npt.NDArray[np.generic]) -> Scene:
    part = volume[tuple(slice(n) for n in SHAPE)]
    return Scene(name, half, np.ascontiguousarray(part, np.float32))


#: Parts that contain rare or thin objects.
_RARE_HALVES = "jk"
_RARE: Mapping[str, Callable[[np.random.Generator], Array]] = {
    "cracks": _cracks,
    "fine cracks": lambda rng: _cracks(rng, 0.7),
    "walls": lambda rng: 1 - _cracks(rng),
    "rare pores": _rare_pores,
    "padded": _padded,
    "inclusions": _inclusions,
}
_PHANTOMS: Mapping[str, Callable[[int], Array]] = {
    "felt": lambda seed: 100 * (1 - textiles.felt(SHAPE, seed=seed).fraction),
    "weave": lambda seed: 100 * (1 - textiles.weave(SHAPE, seed=seed).fraction),
    "phases": lambda seed: 100 * textiles.several_phases(SHAPE, seed=seed).grey,
}
_SIMULATED: Mapping[str, Callable[[int], tuple[Array, ...]]] = {
    "foam": simulated.foam_scan,
    "blobs": simulated.blob_scan,
    "fine pores": simulated.fine_scan,
}
