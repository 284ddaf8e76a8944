"""Training volumes that are simulated when they are read: ``simulated:KIND:0-127``.

Volume number `n` of a kind depends only on `n`, so a config that names a range defines
the data completely. Kinds with names that differ only in the ending contain the same
object: ``ct-scan`` and ``ct-scan-again`` with independent noise, ``ct-scan-clean``
without noise, ``foam-scan-object`` without noise and blur, and ``foam-coarse-object``
also with half the voxel size (``foam-coarse-4`` and ``bone-coarse-8``: a quarter and an
eighth; ``fluo-coarse``: half in the plane, and with less blur). Grey values of all
versions are standardised with the mean and standard deviation of the first, noisy
version. For most kinds, some numbers denote a single image instead of a volume.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.physics import fluorescence, scans
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.specimens import phantoms, tubes
from napari_geosr.physics.specimens.phantoms import FloatArray, Phantom, Shape

PREFIX = "simulated:"
#: Size of the cache for simulated volumes, in bytes; 128 CT scans in all versions take
#: about 350 MB.
CACHE_BYTES = 1 << 30
_MAX_NUMBER = 100_000
#: Seed for the CT scans. Each kind of scan has its own random numbers.
_CT_SEED = 20_301
#: Seed for the fluorescence scans.
_FLUO_SEED = 20_302
#: Seed for the foams.
_FOAM_SEED = 20_303
#: Seed for the low-resolution scans.
_COARSE_SEED = 20_304
#: Seed for the blobs.
_BLOB_SEED = 20_306
#: Seed for the scans of small pores.
_FINE_SEED = 20_307


@dataclass(frozen=True)
class ObjectKind:
    """A kind of simulated object.

    Attributes
    ----------
    simulate : callable
        Returns the versions (Z, Y, X) for a number, in the order of `endings`.
    single_every : int, optional
        Every n-th number yields only the middle plane (Y, X).
    endings : tuple of str
        Endings of the names of the versions.
    shape : tuple of int
        Shape of the first version.
    finer : (int, int, int)
        Voxels of the other versions per voxel of the first, along Z, Y and X.
    """

    simulate: Callable[[int], tuple[FloatArray, ...]]
    single_every: int | None = None
    endings: tuple[str, ...] = ("", "-again", "-clean")
    shape: Shape = (16, 128, 128)
    finer: tuple[int, int, int] = (1, 1, 1)

    def is_single(self, number: int) -> bool:
        """Whether the volume with this number is a single image."""
        every = self.single_every
        return every is not None and number % every == every - 1

    def version_shape(self, number: int, version: int) -> tuple[int, ...]:
        """Return the shape of one version of the volume with this number."""
        factors = self.finer if version else (1, 1, 1)
        shape = tuple(f * n for f, n in zip(factors, self.shape, strict=True))
        return shape[1:] if self.is_single(number) else shape

    def versions(self, number: int) -> tuple[FloatArray, ...]:
        """Return all versions of this volume, on the grey scale of the first."""
        made = self.simulate(number)
        if self.is_single(number):
            made = tuple(part[len(part) // 2] for part in made)
        mean, std = float(made[0].mean()), float(made[0].std())
        return tuple(
            ((part - np.float32(mean)) / np.float32(std)).astype(np.float32)
            for part in made
        )


def ct_object(
    shape: Shape, rng: np.random.Generator
) -> tuple[Phantom, FloatArray | None]:
    """Draw pores in a solid, often with a third phase, gradients or grains."""
    phantom = scans.random_phantom(shape, rng)
    texture = scans.random_texture(phantom, rng)
    added = np.zeros(shape, np.float32) if texture is None else texture
    if rng.random() < 0.3:
        grains = phantoms.random_blobs(
            shape,
            porosity=rng.uniform(0.05, 0.4),
            radius=rng.uniform(2.0, 8.0),
            seed=int(rng.integers(2**31)),
        )
        level = rng.choice([-1, 1]) * rng.uniform(0.1, 0.8)
        added = added + np.float32(level) * grains.fraction * (1 - phantom.fraction)
    if rng.random() < 0.3:
        field = gaussian_blur(
            rng.standard_normal(shape, dtype=np.float32), rng.uniform(1.0, 3.0)
        )
        field *= np.float32(rng.uniform(0.03, 0.15) / max(float(field.std()), 1e-6))
        added = added + field * (1 - phantom.fraction)
    return phantom, added if added.any() else None


def ct_scan(number: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Simulate two noisy scans of the same object, and its noise-free scan."""
    rng = np.random.default_rng([_CT_SEED, number])
    phantom, texture = ct_object(KINDS["ct-scan"].shape, rng)
    imaging = scans.random_imaging(rng)
    sign = np.float32(-1.0 if rng.random() < 0.5 else 1.0)
    noisy, again = (
        scans.scan(
            phantom,
            imaging,
            solid=float(0.5 + 0.5 * sign),
            pore=float(0.5 - 0.5 * sign),
            texture=None if texture is None else sign * texture,
            seed=int(seed),
        )
        for seed in rng.integers(2**31, size=2)
    )
    return noisy.noisy, again.noisy, scans.noise_free(noisy.clean, imaging)


def fluo(number: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Simulate two exposures of the same structures, and their expected value."""
    rng = np.random.default_rng([_FLUO_SEED, number])
    microscope = fluorescence.random_microscope(rng)
    shape = KINDS["fluo"].shape
    light = fluorescence.random_phantom(shape, rng, step=microscope.step)
    made = fluorescence.expose(light, microscope, rng)
    return made.noisy, made.again, made.clean


def foam_scan(number: int) -> tuple[FloatArray, FloatArray]:
    """Simulate a scan of pores in a solid, and its ground truth."""
    made = scans.random_scan(
        KINDS["foam-scan"].shape,
        np.random.default_rng([_FOAM_SEED, number]),
        strong_noise=0.5,
        small_pores=0.3,
    )
    return made.noisy, made.clean


def blob_scan(number: int) -> tuple[FloatArray, FloatArray]:
    """Simulate a scan of irregular pores joined by necks, and its ground truth."""
    kind = KINDS["blob-scan"]
    rng = np.random.default_rng([_BLOB_SEED, number])
    phantom = phantoms.random_blobs(
        kind.shape,
        porosity=rng.uniform(0.06, 0.4),
        radius=rng.uniform(2.5, 7.0),
        seed=int(rng.integers(2**31)),
    )
    made = scans.random_scan(
        kind.shape, rng, phantom=phantom, noise=(0.15, 0.8), strong_noise=0.5
    )
    return made.noisy, made.clean


def fine_scan(number: int) -> tuple[FloatArray, FloatArray]:
    """Simulate a scan of small pores with strong noise, and its ground truth."""
    made = scans.random_scan(
        KINDS["fine-scan"].shape,
        np.random.default_rng([_FINE_SEED, number]),
        strong_noise=0.5,
        small_pores=1.0,
    )
    return made.noisy, made.clean


def foam_coarse(number: int) -> tuple[FloatArray, FloatArray]:
    """Simulate a low-resolution scan of pores; the object's grid is twice as fine."""
    kind = KINDS["foam-coarse"]
    made = scans.random_scan(
        kind.shape,
        np.random.default_rng([_COARSE_SEED, number]),
        noise=(0.03, 0.5),
        blur=(0.25, 0.8),
        downsample=kind.finer[0],
    )
    return made.noisy, made.clean


def foam_coarse_4(number: int) -> tuple[FloatArray, FloatArray]:
    """Simulate a low-resolution scan; the ground truth is on a four times finer grid.

    Its features are half as large, in voxels of the scan, as those of
    `foam_coarse`.
    """
    kind = KINDS["foam-coarse-4"]
    made = scans.random_scan(
        kind.shape,
        np.random.default_rng([_COARSE_SEED, 4, number]),
        noise=(0.03, 0.3),
        blur=(0.25, 0.7),
        downsample=kind.finer[0],
        scale=kind.finer[0] / 2,
    )
    return made.noisy, made.clean


def bone_coarse_8(number: int) -> tuple[FloatArray, FloatArray]:
    """Simulate a clinical scan of bone; the ground truth has voxels an eighth as wide.

    The object contains struts 6 to 20 fine voxels thick, or canals with a radius of 1.5
    to 16 fine voxels; these are typical of bone in a scan with 80 µm voxels.
    """
    kind = KINDS["bone-coarse-8"]
    rng = np.random.default_rng([_COARSE_SEED, 8, number])
    shape = kind.version_shape(number, 1)
    fine: Shape = (shape[0], shape[1], shape[2])
    seed = int(rng.integers(2**31))
    if rng.random() < 0.5:
        porosity = rng.uniform(0.6, 0.9)
        phantom = phantoms.bicontinuous(
            fine, porosity=porosity, wavelength=rng.uniform(40, 110), seed=seed
        )
    else:
        phantom = tubes.cortical_canals(
            fine,
            number=int(rng.integers(6, 24)),
            radius=(1.5, rng.uniform(6, 16)),
            links=int(rng.integers(0, 12)),
            seed=seed,
        )
    made = scans.random_scan(
        kind.shape,
        rng,
        phantom=phantom,
        noise=(0.02, 0.2),
        blur=(0.25, 0.7),
        downsample=kind.finer[0],
    )
    return made.noisy, made.clean


def fluo_coarse(number: int) -> tuple[FloatArray, FloatArray]:
    """Simulate a noisy fluorescence image, and a noise-free one on a finer grid."""
    kind = KINDS["fluo-coarse"]
    rng = np.random.default_rng([_FLUO_SEED, 2, number])
    microscope = fluorescence.random_microscope(rng, photons=(10.0, 500.0))
    depth, height, width = kind.shape
    factor = kind.finer[1]
    fine: Shape = (depth, factor * height, factor * width)
    light = fluorescence.random_phantom(fine, rng, step=factor * microscope.step)
    return fluorescence.expose_coarse(light, microscope, rng, factor)


_OBJECT = ("", "-object")
KINDS = {
    "ct-scan": ObjectKind(ct_scan, 8),
    "fluo": ObjectKind(fluo, 3),
    "foam-scan": ObjectKind(foam_scan, 12, endings=_OBJECT, shape=(24, 128, 128)),
    "blob-scan": ObjectKind(blob_scan, 12, endings=_OBJECT, shape=(24, 128, 128)),
    "fine-scan": ObjectKind(fine_scan, 12, endings=_OBJECT, shape=(24, 128, 128)),
    "foam-coarse": ObjectKind(
        foam_coarse, endings=_OBJECT, shape=(48, 48, 48), finer=(2, 2, 2)
    ),
    "foam-coarse-4": ObjectKind(
        foam_coarse_4, endings=_OBJECT, shape=(32, 32, 32), finer=(4, 4, 4)
    ),
    "bone-coarse-8": ObjectKind(
        bone_coarse_8, endings=_OBJECT, shape=(20, 20, 20), finer=(8, 8, 8)
    ),
    "fluo-coarse": ObjectKind(
        fluo_coarse, 3, endings=_OBJECT, shape=(12, 64, 64), finer=(1, 2, 2)
    ),
}


class Cache:
    """Cache of recent simulations with a maximum size in bytes."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most, self._held = most, 0
        self._kept: OrderedDict[tuple[str, int], tuple[FloatArray, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, kind: str, number: int) -> tuple[FloatArray, ...]:
        """Return all versions of this volume, which is simulated unless cached."""
        with self._lock:
            key = (kind, number)
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            made = KINDS[kind].versions(number)
            for part in made:
                part.setflags(write=False)
            self._kept[key] = made
            self._held += _bytes(made)
            while self._held > self._most and len(self._kept) > 1:
                self._held -= _bytes(self._kept.popitem(last=False)[1])
            return made


def _bytes(parts: tuple[AnyArray, ...]) -> int:
    return sum(part.nbytes for part in parts)


_cache = Cache()


class SimulatedArray:
    """An array that is simulated when it is first indexed."""

    def __init__(self, kind: str, number: int, version: int) -> None:
        self._kind, self._number, self._version = kind, number, version
        self.shape = KINDS[kind].version_shape(number, version)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        """Size of all voxels in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> Any:
        return _cache.get(self._kind, self._number)[self._version][key]


def is_simulated(path: str | Path) -> bool:
    """Whether `path` names simulated volumes rather than a file."""
    return str(path).startswith(PREFIX)


def open_simulated(path: str | Path) -> list[Volume]:
    """Open the volumes named by ``simulated:KIND:FIRST-LAST`` without simulating them.

    Raises
    ------
    ConfigError
        If there is no such kind, or the numbers are not a range.
    """
    found = re.fullmatch(rf"{PREFIX}([^:]*)(?::(\d+)-(\d+))?", str(path))
    names = {
        kind + ending: (kind, version)
        for kind in KINDS
        for version, ending in enumerate(KINDS[kind].endings)
    }
    if found is None or found[1] not in names:
        raise ConfigError(
            f"{path} is not a valid name of simulated volumes: give a kind "
            f"({', '.join(names)}) and the range of numbers, e.g. "
            "simulated:ct-scan:0-127."
        )
    first, last = (-1, -1) if found[2] is None else (int(found[2]), int(found[3]))
    if first < 0 or last < first or last - first >= _MAX_NUMBER:
        raise ConfigError(
            f"{path}: give the first and the last number, e.g. "
            f"{PREFIX}{found[1]}:0-127."
        )
    kind, version = names[found[1]]
    return [
        Volume(
            array := SimulatedArray(kind, number, version),
            "ZYX"[3 - array.ndim :],
            name=f"{PREFIX}{found[1]}:{number}",
        )
        for number in range(first, last + 1)
    ]
