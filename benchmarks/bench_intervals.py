"""Coverage of the 95 % intervals of sub-volumes and of slices, on random fields.

Prints how often the interval contains the porosity of the material, with the
correlation of neighbouring parts and without it, and the share of samples with a remark
that the interval is unreliable.

    python benchmarks/bench_intervals.py [--draws 60] [--slices 300]
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import norm

import napari_geosr as geosr
from napari_geosr.measure.morphometry.profile import standard_error

Mask = npt.NDArray[np.bool_]
#: Name, edge, widths of the Gaussian along the axes (0: constant), and porosity.
FIELDS = (
    ("σ = 3", 80, (3, 3, 3), 0.2),
    ("σ = 6", 80, (6, 6, 6), 0.2),
    ("σ = 10", 80, (10, 10, 10), 0.2),
    ("σ = 6, 96³", 96, (6, 6, 6), 0.3),
    ("σ = 8, 96³", 96, (8, 8, 8), 0.3),
    ("tubes, σ = 3", 80, (0, 3, 3), 0.3),
    ("tubes, σ = 6", 80, (0, 6, 6), 0.3),
    ("layers, σ = 2", 80, (2, 0, 0), 0.3),
    ("σ = 9, 3, 3", 80, (9, 3, 3), 0.3),
    ("σ = 9, 9, 3", 80, (9, 9, 3), 0.3),
    ("σ = 20, 3, 3", 80, (20, 3, 3), 0.3),
    ("σ = 20", 80, (20, 20, 20), 0.3),
)


def field(edge: int, widths: tuple[float, ...], porosity: float, seed: int) -> Mask:
    """Pores at low values of a stationary Gaussian field; not periodic."""
    margins = [int(3.5 * w) + 1 if w else 0 for w in widths]
    shape = [edge + 2 * m if m else 1 for m in margins]
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for axis, width in enumerate(widths):
        if width:
            values = ndimage.gaussian_filter1d(
                values, width, axis, mode="constant", truncate=3.5
            )
            values *= (2 * np.sqrt(np.pi) * width) ** 0.5
    values = values[tuple(slice(m, -m) if m else slice(None) for m in margins)]
    return np.asarray(
        np.broadcast_to(values, (edge,) * len(widths)) < norm.ppf(porosity)
    )


def naive(pores: Mask) -> float:
    """Return the standard error from 4³ (4²) independent parts."""
    k = pores.shape[0] // 4
    split = pores.reshape([n for _ in pores.shape for n in (4, k)])
    parts = split.mean(axis=tuple(range(1, split.ndim, 2)))
    return float(parts.std(ddof=1) / np.sqrt(parts.size))


def sub_volumes(draws: int) -> None:
    """Print the coverage of Sub.low to Sub.high."""
    print("field | porosity | with correlation | without | remark")
    for name, edge, widths, porosity in FIELDS:
        held, alone, told = [], [], []
        for seed in range(draws):
            pores = field(edge, widths, porosity, seed)
            report = geosr.measure_porosity(
                np.where(pores, 50, 200).astype(np.uint8),
                axes="ZYX",
                threshold=120.0,
                statistics=("subvolumes",),
            )
            low, high = (report.figures[n] for n in ("Sub.low", "Sub.high"))
            # A sample without an interval does not count as a miss.
            held.append(low is None or low <= porosity <= high)
            alone.append(abs(pores.mean() - porosity) <= 1.96 * naive(pores))
            told.append(any("Sub.low and Sub.high" in w for w in report.warnings))
        rates = " | ".join(f"{np.mean(each):.0%}" for each in (held, alone, told))
        print(f"{name} | {porosity:.0%} | {rates}", flush=True)


def slices(draws: int) -> None:
    """Print the coverage of the band of a slice of 128² voxels."""
    print("slices | with correlation | without")
    for width in (1, 3, 6, 8, 12):
        held, alone = [], []
        for seed in range(draws):
            pores = field(128, (width, width), 0.3, seed)
            parts = pores.reshape(32, 4, 32, 4).sum(axis=(1, 3))
            error = abs(pores.mean() - 0.3)
            held.append(error <= 1.96 * standard_error(parts, np.full((32, 32), 16)))
            alone.append(error <= 1.96 * naive(pores))
        print(f"σ = {width} | {np.mean(held):.0%} | {np.mean(alone):.0%}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--slices", type=int, default=300)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    slices(options.slices)
    sub_volumes(options.draws)


if __name__ == "__main__":
    main()
