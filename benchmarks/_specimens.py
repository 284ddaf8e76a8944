"""Specimens for comparing learning methods, and measures of restored volumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_otsu

from napari_geosr.measure.comparison.quality import compare_pores, psnr, ssim
from napari_geosr.physics.projection.radon import parallel_beam
from napari_geosr.physics.specimens import phantoms
from napari_geosr.physics.specimens.phantoms import Phantom

Array = npt.NDArray[np.float32]
SHAPE = (24, 128, 128)
SPLITS, ANGLES = 4, 120
TRAIN_SEED, TEST_SEED = 41, 42
#: Standard deviation of the noise; the contrast of the objects is 1.
NOISE = {"independent": 0.35, "filtered back-projection": 0.35}
PHANTOMS: dict[str, Callable[[int], Phantom]] = {
    "foam": lambda seed: phantoms.sphere_foam(
        SHAPE, porosity=0.2, radius=(3.0, 8.0), gap=1.0, seed=seed
    ),
    "trabecular": lambda seed: phantoms.bicontinuous(
        SHAPE, porosity=0.7, wavelength=24.0, seed=seed
    ),
    "rare pores": lambda seed: phantoms.rare_pores(
        SHAPE, porosity=0.01, radius=(2.0, 5.0), seed=seed
    ),
}


@dataclass(frozen=True)
class Specimen:
    """An object, two scans of it, and K partial scans that average to the first one."""

    clean: Array
    mask: npt.NDArray[np.bool_]
    first: Array
    second: Array
    parts: tuple[Array, ...]


def specimen(kind: str, noise: str, seed: int) -> Specimen:
    """Simulate the scans of one object of contrast 1."""
    phantom = PHANTOMS[kind](seed)
    clean = (1 - phantom.fraction).astype(np.float32)
    sd = NOISE[noise]
    scans = [
        _independent(clean, sd, seed + 100 * k)
        if noise == "independent"
        else _projected(clean, sd, seed + 100 * k)
        for k in (1, 2)
    ]
    (first, parts), (second, _) = scans
    return Specimen(clean, phantom.mask, first, second, parts)


def _independent(clean: Array, sd: float, seed: int) -> tuple[Array, tuple[Array, ...]]:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sd * math.sqrt(SPLITS), (SPLITS, *clean.shape))
    parts = tuple((clean + n).astype(np.float32) for n in noise)
    return np.mean(parts, axis=0, dtype=np.float32), parts


def _projected(clean: Array, sd: float, seed: int) -> tuple[Array, tuple[Array, ...]]:
    """Simulate parts from noisy projections; each uses every K-th projection."""
    beam = parallel_beam(clean.shape[-1], ANGLES)
    sinogram = beam.project(clean)
    rng = np.random.default_rng(seed)
    white = rng.standard_normal(sinogram.shape, dtype=np.float32)
    gain = float(beam.reconstruct(white[..., :1]).std())
    noisy = sinogram + white * np.float32(sd / gain)
    parts = []
    for k in range(SPLITS):
        kept = np.zeros_like(noisy)
        kept[k::SPLITS] = noisy[k::SPLITS] * SPLITS
        parts.append(beam.reconstruct(kept))
    return np.mean(parts, axis=0, dtype=np.float32), tuple(parts)


def figures(volume: Array, true: Specimen) -> dict[str, float | None]:
    """Measures of a restored volume with dark pores (Otsu's threshold)."""
    mask = volume < threshold_otsu(volume)
    pores = asdict(compare_pores(mask, true.mask))
    return {
        "psnr": psnr(volume, true.clean, 1.0),
        "ssim": ssim(volume, true.clean, 1.0),
        **{k: v for k, v in pores.items() if v is None or math.isfinite(v)},
    }
