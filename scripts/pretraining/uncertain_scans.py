"""Scans with known porosity for calibrating the standard deviations of models.

Four kinds of structure, each at two resolutions (the same sizes in fewer or more
voxels), with porosity, noise, blur and contrast drawn at random. Calibration and
testing use different seeds, and no training uses either of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from napari_geosr.physics import scans
from napari_geosr.physics.scans import Scan
from napari_geosr.physics.specimens import phantoms
from napari_geosr.physics.specimens.phantoms import Phantom, Shape

CALIBRATION_SEED, TEST_SEED = 940_001, 950_001
#: Length scales by resolution, relative to the structures below.
RESOLUTIONS = {"high resolution": 1.3, "low resolution": 0.65}
#: Minimum porosity; a scan with a lower porosity is drawn again.
_LEAST_POROSITY = 0.003
_ATTEMPTS = 20

Draw = Callable[[Shape, float, np.random.Generator, int], Phantom]


@dataclass(frozen=True)
class Conditions:
    """Settings of the scans for one model.

    Attributes
    ----------
    shape : tuple of int
        Shape of the scan, (Z, Y, X).
    noise, blur : tuple of float
        Ranges, as for `napari_geosr.physics.scans.Imaging`.
    factor : int
        Voxels of the ground truth per voxel of the scan and axis.
    """

    shape: Shape
    noise: tuple[float, float]
    blur: tuple[float, float]
    factor: int = 1


CONDITIONS = {
    "foam-denoise": Conditions((12, 72, 72), (0.08, 0.6), (0.0, 1.2)),
    "ct-denoise": Conditions((12, 72, 72), (0.08, 0.6), (0.0, 1.2)),
    "porous-denoise": Conditions((12, 72, 72), (0.08, 0.6), (0.0, 1.2)),
    "foam-sr-x2": Conditions((16, 32, 32), (0.03, 0.4), (0.25, 0.8), factor=2),
    "foam-sr-x4": Conditions((16, 28, 28), (0.03, 0.3), (0.25, 0.7), factor=4),
}


@dataclass(frozen=True)
class Case:
    """Kind, resolution and number of a scan to be drawn."""

    kind: str
    resolution: str
    number: int


def cases(n_of_each: int) -> Iterator[Case]:
    """`n_of_each` scans of every kind at every resolution."""
    for number in range(n_of_each):
        for kind in KINDS:
            for resolution in RESOLUTIONS:
                yield Case(kind, resolution, number)


def draw(case: Case, conditions: Conditions, seed: int) -> Scan:
    """Draw the scan of a case; it depends only on the arguments."""
    factor = conditions.factor
    z, y, x = (factor * n for n in conditions.shape)
    scale = RESOLUTIONS[case.resolution] * factor
    where = [seed, list(KINDS).index(case.kind), int(100 * scale), case.number]
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([*where, attempt])
        made = KINDS[case.kind]((z, y, x), scale, rng, int(rng.integers(2**31)))
        if made.mask.mean() >= _LEAST_POROSITY:
            return scans.random_scan(
                conditions.shape,
                rng,
                phantom=made,
                noise=conditions.noise,
                blur=conditions.blur,
                downsample=factor,
                strong_noise=0.5,
            )
    raise AssertionError(f"{case} has no pores")


def _foam(shape: Shape, scale: float, rng: np.random.Generator, seed: int) -> Phantom:
    porosity = math.exp(rng.uniform(math.log(0.06), math.log(0.4)))
    return phantoms.sphere_foam(
        shape, porosity=porosity, radius=(3 * scale, 7 * scale), gap=scale, seed=seed
    )


def _blobs(shape: Shape, scale: float, rng: np.random.Generator, seed: int) -> Phantom:
    return phantoms.random_blobs(
        shape, porosity=rng.uniform(0.06, 0.4), radius=4 * scale, seed=seed
    )


def _network(
    shape: Shape, scale: float, rng: np.random.Generator, seed: int
) -> Phantom:
    return phantoms.bicontinuous(
        shape, porosity=rng.uniform(0.3, 0.75), wavelength=18 * scale, seed=seed
    )


def _rare(shape: Shape, scale: float, rng: np.random.Generator, seed: int) -> Phantom:
    return phantoms.rare_pores(
        shape,
        porosity=rng.uniform(0.008, 0.03),
        radius=(2.2 * scale, 5 * scale),
        seed=seed,
    )


KINDS: dict[str, Draw] = {
    "foam": _foam,
    "irregular pores": _blobs,
    "network": _network,
    "rare pores": _rare,
}
