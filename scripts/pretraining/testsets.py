"""Named test sets of the bundled models with manually chosen objects and imaging.

Training uses numbered simulations; the seeds here are different. For the foam models,
the ground truth is the sharp object; for the others, it is the noise-free scan with its
blur, because the training targets were not sharper. For ``ct-sr-x2`` and ``ct-sr-x4``,
this scan is on the grid of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.physics import fluorescence, scans
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.fluorescence import Microscope
from napari_geosr.physics.scans import Imaging, Scan
from napari_geosr.physics.specimens import phantoms, tubes
from napari_geosr.physics.specimens.phantoms import FloatArray, Phantom, Shape

#: Seeds of the test scans, which were never used to choose a setting.
TEST_SEEDS = (930_001, 930_002, 930_003, 930_004, 930_005, 930_006)
#: Seed of the scan for tuning classical methods with its ground truth.
TUNING_SEED = 920_001

_FOAM_SHAPE: Shape = (40, 128, 128)
_COARSE_SHAPE: Shape = (32, 64, 64)
_COARSER_SHAPE: Shape = (24, 40, 40)
_COARSEST_SHAPE: Shape = (16, 20, 20)
_SHAPE: Shape = (24, 128, 128)


@dataclass(frozen=True)
class TestSet:
    """Test scans of one kind, with their properties.

    Attributes
    ----------
    scan : callable
        Function from a seed to a scan.
    noise : float
        Standard deviation of the noise, given to the tuned methods.
    gain, offset : float
        Variance of the noise is ``gain · (x + offset)``; 0 means uniform noise.
    has_pores : bool
        Whether the scan has pores to count.
    factors : (int, int, int)
        Voxels of the ground truth per voxel of the scan along Z, Y and X.
    """

    name: str
    scan: Callable[[int], Scan]
    noise: float
    gain: float = 0.0
    offset: float = 0.0
    has_pores: bool = True
    factors: tuple[int, int, int] = (1, 1, 1)

    @property
    def is_finer(self) -> bool:
        """Whether the ground truth has more voxels than the scan."""
        return max(self.factors) > 1


@dataclass(frozen=True)
class Pores:
    """Scans of pores in a solid; `make(shape, scale, seed)` creates the object."""

    name: str
    make: Callable[[Shape, float, int], Phantom]
    imaging: Imaging
    bright_pores: bool = False

    def scan(self, shape: Shape, seed: int) -> Scan:
        """Simulate a scan of `shape` with grey levels 0.2 and 0.8."""
        s = self.imaging.downsample
        fine = (shape[0] * s, shape[1] * s, shape[2] * s)
        solid, pore = (0.2, 0.8) if self.bright_pores else (0.8, 0.2)
        phantom = self.make(fine, float(s), seed)
        return scans.scan(phantom, self.imaging, solid=solid, pore=pore, seed=seed)

    def test_set(self, shape: Shape, *, sharp: bool) -> TestSet:
        """Test set with the sharp object, or the noise-free scan, as ground truth."""

        def make(seed: int) -> Scan:
            made = self.scan(shape, seed)
            if sharp:
                return made
            return replace(made, clean=scans.noise_free(made.clean, self.imaging))

        return self._set(make)

    def blurred_set(self, shape: Shape) -> TestSet:
        """Test set with the object, as sharp as in the scan, as the ground truth."""
        width = self.imaging.blur * self.imaging.downsample

        def make(seed: int) -> Scan:
            made = self.scan(shape, seed)
            return replace(made, clean=gaussian_blur(made.clean, width))

        return self._set(make)

    def _set(self, make: Callable[[int], Scan]) -> TestSet:
        noise, factor = 0.6 * self.imaging.noise, self.imaging.downsample
        return TestSet(self.name, make, noise, factors=(factor, factor, factor))


def _foam(porosity: float, low: float, high: float) -> Callable[..., Phantom]:
    return lambda shape, scale, seed: phantoms.sphere_foam(
        shape,
        porosity=porosity,
        radius=(low * scale, high * scale),
        gap=scale,
        seed=seed,
    )


def _blobs(porosity: float, radius: float) -> Callable[..., Phantom]:
    return lambda shape, scale, seed: phantoms.random_blobs(
        shape, porosity=porosity, radius=radius * scale, seed=seed
    )


def _network(porosity: float, wavelength: float) -> Callable[..., Phantom]:
    return lambda shape, scale, seed: phantoms.bicontinuous(
        shape, porosity=porosity, wavelength=wavelength * scale, seed=seed
    )


def _rare(porosity: float, low: float, high: float) -> Callable[..., Phantom]:
    return lambda shape, scale, seed: phantoms.rare_pores(
        shape, porosity=porosity, radius=(low * scale, high * scale), seed=seed
    )


_CT = (
    Pores(
        "foam, short-exposure CT",
        _foam(0.2, 2.5, 8.0),
        Imaging(0.45, "few-photons", 0.7, 1.6, n_angles=120),
    ),
    Pores(
        "small pores, strong CT noise",
        _foam(0.12, 1.8, 4.0),
        Imaging(0.6, "few-photons", 0.6, 1.2, n_angles=180),
    ),
    Pores(
        "irregular pores, CT noise",
        _blobs(0.15, 4.0),
        Imaging(0.4, "reconstruction", 0.6, 1.6),
    ),
    Pores(
        "interwoven network, bright pores",
        _network(0.7, 20.0),
        Imaging(0.5, "few-photons", 0.8, 1.6, n_angles=90),
        bright_pores=True,
    ),
    Pores(
        "rare pores (1 %), CT noise",
        _rare(0.01, 2.0, 6.0),
        Imaging(0.3, "reconstruction", 0.6, 1.6),
    ),
    Pores(
        "foam, independent noise",
        _foam(0.2, 3.0, 8.0),
        Imaging(0.25, "independent", 0.0),
    ),
)
_COARSE = (
    Pores(
        "foam, short-exposure CT",
        _foam(0.2, 1.6, 6.0),
        Imaging(0.25, "few-photons", 0.5, 1.6, n_angles=120, downsample=2),
    ),
    Pores(
        "irregular pores, CT noise",
        _blobs(0.15, 3.0),
        Imaging(0.2, "reconstruction", 0.5, 1.6, downsample=2),
    ),
    Pores(
        "interwoven network, bright pores",
        _network(0.7, 12.0),
        Imaging(0.3, "reconstruction", 0.6, 1.6, downsample=2),
        bright_pores=True,
    ),
    Pores(
        "rare pores (1 %), CT noise",
        _rare(0.01, 1.6, 4.0),
        Imaging(0.15, "reconstruction", 0.5, 1.6, downsample=2),
    ),
    Pores(
        "foam, hardly any noise",
        _foam(0.2, 1.6, 6.0),
        Imaging(0.03, "independent", 0.5, downsample=2),
    ),
)


_COARSER = (
    Pores(
        "foam, short-exposure CT",
        _foam(0.2, 1.0, 4.0),
        Imaging(0.2, "few-photons", 0.4, 1.6, n_angles=120, downsample=4),
    ),
    Pores(
        "irregular pores, CT noise",
        _blobs(0.15, 2.0),
        Imaging(0.15, "reconstruction", 0.4, 1.6, downsample=4),
    ),
    Pores(
        "interwoven network, bright pores",
        _network(0.7, 8.0),
        Imaging(0.2, "reconstruction", 0.5, 1.6, downsample=4),
        bright_pores=True,
    ),
    Pores(
        "rare pores (1 %), CT noise",
        _rare(0.01, 1.2, 3.0),
        Imaging(0.12, "reconstruction", 0.4, 1.6, downsample=4),
    ),
    Pores(
        "foam, hardly any noise",
        _foam(0.2, 1.0, 4.0),
        Imaging(0.03, "independent", 0.4, downsample=4),
    ),
)


def _canals(number: int, low: float, high: float) -> Callable[..., Phantom]:
    return lambda shape, scale, seed: tubes.cortical_canals(
        shape,
        number=number,
        radius=(low * scale, high * scale),
        links=number // 2,
        seed=seed,
    )


_COARSEST = (
    Pores(
        "trabecular bone, 80 µm voxels",
        _network(0.8, 9.0),
        Imaging(0.1, "reconstruction", 0.4, 1.6, downsample=8),
    ),
    Pores(
        "cortical canals, 80 µm voxels",
        _canals(12, 0.25, 1.5),
        Imaging(0.1, "reconstruction", 0.4, 1.6, downsample=8),
    ),
    Pores(
        "thin trabeculae, short-exposure CT",
        _network(0.85, 8.0),
        Imaging(0.15, "few-photons", 0.4, 1.6, n_angles=120, downsample=8),
    ),
    Pores(
        "trabecular bone, hardly any noise",
        _network(0.7, 7.0),
        Imaging(0.03, "independent", 0.4, downsample=8),
    ),
    Pores(
        "cortical canals, hardly any noise",
        _canals(12, 0.4, 1.5),
        Imaging(0.03, "independent", 0.4, downsample=8),
    ),
)


def _grained(seed: int) -> Scan:
    """Pores in a solid with texture and a third phase."""
    rng = np.random.default_rng([seed, 3])
    pores = phantoms.random_blobs(_SHAPE, porosity=0.15, radius=4.5, seed=seed)
    grains = phantoms.random_blobs(_SHAPE, porosity=0.15, radius=5.0, seed=seed + 1)
    solid = 1 - pores.fraction
    field = gaussian_blur(rng.standard_normal(_SHAPE, dtype=np.float32), 2.0)
    texture = solid * (0.3 * grains.fraction + 0.04 * field / field.std())
    imaging = Imaging(0.35, "few-photons", 0.7, 1.6, n_angles=180)
    made = scans.scan(pores, imaging, texture=texture.astype(np.float32), seed=seed + 2)
    return replace(made, clean=scans.noise_free(made.clean, imaging))


def _cells(
    name: str,
    kinds: tuple[str, ...],
    microscope: Microscope,
    *,
    single: bool = False,
    factor: int = 1,
) -> TestSet:
    """Test set of cells; the ground truth has `factor` times the pixels in Y and X."""

    def make(seed: int) -> Scan:
        rng = np.random.default_rng([seed, 4])
        extent = float(np.prod(_SHAPE)) / (16 * 128 * 128)
        light: FloatArray = np.zeros(_SHAPE, np.float32)
        for kind in kinds:
            light = light + fluorescence.phantom(
                kind, _SHAPE, rng, step=factor * microscope.step, extent=extent
            )
        if factor == 1:
            made = fluorescence.expose(light, microscope, rng)
            noisy, clean = made.noisy, made.clean
        else:
            noisy, clean = fluorescence.expose_coarse(light, microscope, rng, factor)
        # A single image is the middle plane of a stack.
        cut = slice(len(light) // 2, len(light) // 2 + 1) if single else slice(None)
        return Scan(
            noisy=noisy[cut],
            clean=clean[cut],
            mask=np.zeros(clean[cut].shape, bool),
            contrast=microscope.photons,
        )

    mean = microscope.photons * (microscope.background + 0.1)
    return TestSet(
        name,
        make,
        noise=float(np.sqrt(mean + microscope.read_noise**2)),
        gain=1.0,
        offset=microscope.read_noise**2,
        has_pores=False,
        factors=(1, factor, factor),
    )


SETS: dict[str, tuple[TestSet, ...]] = {
    "foam-denoise": tuple(p.test_set(_FOAM_SHAPE, sharp=True) for p in _CT),
    "foam-sr-x2": tuple(p.test_set(_COARSE_SHAPE, sharp=True) for p in _COARSE),
    "foam-sr-x4": tuple(p.test_set(_COARSER_SHAPE, sharp=True) for p in _COARSER),
    "bone-sr-x8": tuple(p.test_set(_COARSEST_SHAPE, sharp=True) for p in _COARSEST),
    "ct-denoise": (
        *(p.test_set(_SHAPE, sharp=False) for p in _CT),
        TestSet("three phases with grains, short-exposure CT", _grained, 0.21),
    ),
    "ct-sr-x2": tuple(p.blurred_set(_COARSE_SHAPE) for p in _COARSE),
    "ct-sr-x4": tuple(p.blurred_set(_COARSER_SHAPE) for p in _COARSER),
    "fluo-denoise": (
        _cells("nuclei, 20 photons", ("nuclei",), Microscope(1.2, 2.5, 2.0, 20, 1.0)),
        _cells(
            "membranes, 10 photons",
            ("membranes",),
            Microscope(1.2, 2.5, 3.0, 10, 1.0, 0.1),
        ),
        _cells(
            "filaments, 30 photons, high background",
            ("filaments",),
            Microscope(1.4, 2.5, 2.0, 30, 1.5, 0.4),
        ),
        _cells("spots, 40 photons", ("spots",), Microscope(1.2, 3.0, 1.5, 40, 2.0)),
        _cells(
            "nuclei and filaments, 100 photons",
            ("nuclei", "filaments"),
            Microscope(1.0, 2.5, 2.0, 100, 2.0),
        ),
        _cells(
            "single image of cells, 20 photons",
            ("membranes", "filaments"),
            Microscope(1.3, 2.5, 2.0, 20, 1.5),
            single=True,
        ),
    ),
    "fluo-sr-x2": (
        _cells(
            "nuclei, 40 photons",
            ("nuclei",),
            Microscope(1.2, 2.5, 2.0, 40, 1.0),
            factor=2,
        ),
        _cells(
            "membranes, 20 photons",
            ("membranes",),
            Microscope(1.2, 2.5, 3.0, 20, 1.0, 0.1),
            factor=2,
        ),
        _cells(
            "filaments, 60 photons, high background",
            ("filaments",),
            Microscope(1.4, 2.5, 2.0, 60, 1.5, 0.4),
            factor=2,
        ),
        _cells(
            "spots, 80 photons",
            ("spots",),
            Microscope(1.2, 3.0, 1.5, 80, 2.0),
            factor=2,
        ),
        _cells(
            "nuclei and filaments, 200 photons",
            ("nuclei", "filaments"),
            Microscope(1.0, 2.5, 2.0, 200, 2.0),
            factor=2,
        ),
        _cells(
            "single image of cells, 40 photons",
            ("membranes", "filaments"),
            Microscope(1.3, 2.5, 2.0, 40, 1.5),
            single=True,
            factor=2,
        ),
    ),
}
#: Earlier models that were trained on scans of the same kind.
SETS["porous-denoise"] = SETS["ct-denoise"]
SETS["photon-denoise"] = SETS["fluo-denoise"]
