"""Scans that the denoisers trained by ``napari-geosr train`` are judged on.

Phantoms and imaging are fixed by hand, the seeds are none of the numbers that training
draws from. The truth is the scan without its noise: blur stays, as no target of these
trainings was sharper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.physics import fluorescence, phantoms, scans
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.fluorescence import Microscope
from napari_geosr.physics.phantoms import FloatArray
from napari_geosr.physics.scans import Scan
from pretraining.testsets import DENOISE_SETS, TestSet

SHAPE = (24, 128, 128)


@dataclass(frozen=True)
class HeldOut:
    """One kind of scan.

    Attributes
    ----------
    scan : callable
        From a seed to a scan whose ``clean`` is free of noise, not of blur.
    noise : float
        Standard deviation of the noise, as tuned methods are told.
    gain, offset : float
        Variance of the noise is ``gain · (x + offset)``; 0: the same everywhere.
    has_pores : bool
        Whether there are pores to be counted.
    """

    name: str
    scan: Callable[[int], Scan]
    noise: float
    gain: float = 0.0
    offset: float = 0.0
    has_pores: bool = True


def _ct(test: TestSet) -> HeldOut:
    def make(seed: int) -> Scan:
        made = test.scan(SHAPE, seed)
        return replace(made, clean=scans.noise_free(made.clean, test.imaging))

    return HeldOut(test.name, make, 0.6 * test.imaging.noise)


def _grained(seed: int) -> Scan:
    """Pores in a solid with texture and a third phase."""
    rng = np.random.default_rng([seed, 3])
    pores = phantoms.random_blobs(SHAPE, porosity=0.15, radius=4.5, seed=seed)
    grains = phantoms.random_blobs(SHAPE, porosity=0.15, radius=5.0, seed=seed + 1)
    solid = 1 - pores.fraction
    field = gaussian_blur(rng.standard_normal(SHAPE, dtype=np.float32), 2.0)
    texture = solid * (0.3 * grains.fraction + 0.04 * field / field.std())
    imaging = scans.Imaging(0.35, "few-photons", 0.7, 1.6, n_angles=180)
    made = scans.scan(pores, imaging, texture=texture.astype(np.float32), seed=seed + 2)
    return replace(made, clean=scans.noise_free(made.clean, imaging))


def _fluo(
    name: str,
    kinds: tuple[str, ...],
    microscope: Microscope,
    shape: tuple[int, int, int] = SHAPE,
) -> HeldOut:
    def make(seed: int) -> Scan:
        rng = np.random.default_rng([seed, 4])
        extent = float(np.prod(shape)) / (16 * 128 * 128)
        light: FloatArray = np.zeros(shape, np.float32)
        for kind in kinds:
            light = light + fluorescence.phantom(
                kind, shape, rng, step=microscope.step, extent=extent
            )
        made = fluorescence.expose(light, microscope, rng)
        # A single image is the middle plane of a stack.
        cut = slice(len(light) // 2, len(light) // 2 + 1) if single else slice(None)
        return Scan(
            noisy=made.noisy[cut],
            clean=made.clean[cut],
            mask=np.zeros(made.clean[cut].shape, bool),
            contrast=microscope.photons,
        )

    single = "image" in name
    mean = microscope.photons * (microscope.background + 0.1)
    return HeldOut(
        name,
        make,
        noise=float(np.sqrt(mean + microscope.read_noise**2)),
        gain=1.0,
        offset=microscope.read_noise**2,
        has_pores=False,
    )


SETS: dict[str, tuple[HeldOut, ...]] = {
    "ct-denoise": (
        *(_ct(test) for test in DENOISE_SETS),
        HeldOut("three phases, grained, short-exposure CT", _grained, 0.21),
    ),
    "fluo-denoise": (
        _fluo("nuclei, 20 photons", ("nuclei",), Microscope(1.2, 2.5, 2.0, 20, 1.0)),
        _fluo(
            "membranes, 10 photons",
            ("membranes",),
            Microscope(1.2, 2.5, 3.0, 10, 1.0, 0.1),
        ),
        _fluo(
            "filaments, 30 photons, high background",
            ("filaments",),
            Microscope(1.4, 2.5, 2.0, 30, 1.5, 0.4),
        ),
        _fluo("spots, 40 photons", ("spots",), Microscope(1.2, 3.0, 1.5, 40, 2.0)),
        _fluo(
            "nuclei and filaments, 100 photons",
            ("nuclei", "filaments"),
            Microscope(1.0, 2.5, 2.0, 100, 2.0),
        ),
        _fluo(
            "single image of cells, 20 photons",
            ("membranes", "filaments"),
            Microscope(1.3, 2.5, 2.0, 20, 1.5),
        ),
    ),
}
