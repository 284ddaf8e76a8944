"""Named test sets: phantoms and imaging fixed by hand, seeds never used in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from napari_geosr.physics import phantoms
from napari_geosr.physics.phantoms import Phantom, Shape
from napari_geosr.physics.scans import Imaging, Scan, scan

#: Training draws its seeds from generators keyed by the recipe's seed; these phantoms
#: come from fixed parameters and these seeds.
TEST_SEEDS = (910_001, 910_002)
VALIDATION_SEED = 920_001


@dataclass(frozen=True)
class TestSet:
    """One kind of scan; `make(shape, scale, seed)` gives its phantom."""

    name: str
    make: Callable[[Shape, float, int], Phantom]
    imaging: Imaging
    bright_pores: bool = False

    def scan(self, shape: Shape, seed: int) -> Scan:
        """A scan of `shape` with one contrast between 0.2 and 0.8."""
        s = self.imaging.downsample
        fine = (shape[0] * s, shape[1] * s, shape[2] * s)
        solid, pore = (0.2, 0.8) if self.bright_pores else (0.8, 0.2)
        phantom = self.make(fine, float(s), seed)
        return scan(phantom, self.imaging, solid=solid, pore=pore, seed=seed)


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


DENOISE_SHAPE: Shape = (40, 128, 128)
DENOISE_SETS = (
    TestSet(
        "foam, short-exposure CT",
        _foam(0.2, 2.5, 8.0),
        Imaging(0.45, "few-photons", 0.7, 1.6, n_angles=120),
    ),
    TestSet(
        "small pores, strong CT noise",
        _foam(0.12, 1.8, 4.0),
        Imaging(0.6, "few-photons", 0.6, 1.2, n_angles=180),
    ),
    TestSet(
        "irregular pores, CT noise",
        _blobs(0.15, 4.0),
        Imaging(0.4, "reconstruction", 0.6, 1.6),
    ),
    TestSet(
        "interwoven network, bright pores",
        _network(0.7, 20.0),
        Imaging(0.5, "few-photons", 0.8, 1.6, n_angles=90),
        bright_pores=True,
    ),
    TestSet(
        "rare pores (1 %), CT noise",
        _rare(0.01, 2.0, 6.0),
        Imaging(0.3, "reconstruction", 0.6, 1.6),
    ),
    TestSet(
        "foam, independent noise",
        _foam(0.2, 3.0, 8.0),
        Imaging(0.25, "independent", 0.0),
    ),
)

SR_SHAPE: Shape = (32, 64, 64)
SR_SETS = (
    TestSet(
        "foam, short-exposure CT",
        _foam(0.2, 1.6, 6.0),
        Imaging(0.25, "few-photons", 0.5, 1.6, n_angles=120, downsample=2),
    ),
    TestSet(
        "irregular pores, CT noise",
        _blobs(0.15, 3.0),
        Imaging(0.2, "reconstruction", 0.5, 1.6, downsample=2),
    ),
    TestSet(
        "interwoven network, bright pores",
        _network(0.7, 12.0),
        Imaging(0.3, "reconstruction", 0.6, 1.6, downsample=2),
        bright_pores=True,
    ),
    TestSet(
        "rare pores (1 %), CT noise",
        _rare(0.01, 1.6, 4.0),
        Imaging(0.15, "reconstruction", 0.5, 1.6, downsample=2),
    ),
    TestSet(
        "foam, hardly any noise",
        _foam(0.2, 1.6, 6.0),
        Imaging(0.03, "independent", 0.5, downsample=2),
    ),
)
