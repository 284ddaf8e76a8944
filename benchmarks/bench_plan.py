"""Coverage of the intervals of scan plans: 200 sets of spots for each known phantom.

A set is the planned number of random spots. Plans are made from a scan of the whole
phantom, and from 40 single first spots; in the second case, five sets are drawn from
anywhere in the phantom for each plan. Prints the number of planned spots, and how often
the mean of a set was within the interval around the true porosity; the nominal value is
95 %. The last column gives how often the interval from the first spot alone contains
the true porosity.

    python benchmarks/bench_plan.py [--draws 200] [--precision 0.1]
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import numpy.typing as npt
from scipy import ndimage

import napari_geosr as geosr

EDGE = 160
SPOT = 20
FIRST = 80
Mask = npt.NDArray[np.bool_]


def random_field(widths: float | tuple[float, ...]) -> Mask:
    """Pores at low values of a smoothed Gaussian field."""
    noise = np.random.default_rng(1).normal(size=(EDGE,) * 3).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, widths, mode="wrap")
    return np.asarray(smooth < -0.8 * smooth.std())


def spheres(fraction: float, radius: int) -> Mask:
    """Overlapping spheres at random positions; rare pores if the fraction is small."""
    rng = np.random.default_rng(2)
    count = -np.log(1 - fraction) * EDGE**3 / (4 / 3 * np.pi * radius**3)
    seeds = np.ones((EDGE,) * 3, bool)
    seeds[tuple(rng.integers(0, EDGE, (3, round(count))))] = False
    return np.asarray(ndimage.distance_transform_edt(seeds) <= radius)


def plan(pores: Mask, precision: float, scan: str) -> geosr.ScanPlan:
    """Make a plan from a scan of two grey values."""
    grey = np.where(pores, 50, 200).astype(np.uint8)
    return geosr.plan_scan(
        grey,
        axes="ZYX",
        spot=SPOT,
        precision=precision,
        threshold=120.0,
        scan="whole" if scan == "whole" else "spot",
    )


def cubes(pores: Mask) -> npt.NDArray[np.float64]:
    """Return the porosity of each spot of a phantom."""
    n = EDGE // SPOT
    found = pores.reshape(n, SPOT, n, SPOT, n, SPOT).mean(axis=(1, 3, 5))
    return np.asarray(found, np.float64).ravel()


def from_whole(pores: Mask, precision: float, draws: int) -> tuple[float, float]:
    """Number of planned spots, and fraction of sets with means in the interval."""
    planned, values = plan(pores, precision, "whole"), cubes(pores)
    rng = np.random.default_rng(3)
    held = [
        abs(rng.choice(values, planned.n_spots, replace=False).mean() - pores.mean())
        <= planned.half_width
        for _ in range(draws)
    ]
    return planned.n_spots, float(np.mean(held))


def from_spot(pores: Mask, precision: float, draws: int) -> tuple[float, float, float]:
    """Mean number of planned spots, and fractions of correct intervals.

    The first fraction is for sets of spots; the second is for first spots alone.
    """
    rng = np.random.default_rng(4)
    counts, held, alone = [], [], []
    for _ in range(max(1, draws // 5)):
        corner = rng.integers(0, EDGE - FIRST + 1, 3)
        first = pores[tuple(slice(c, c + FIRST) for c in corner)]
        planned = plan(first, precision, "spot")
        counts.append(planned.n_spots)
        if planned.scan_interval is not None:
            low, high = planned.scan_interval
            alone.append(low <= pores.mean() <= high)
        for _ in range(5):
            places = rng.integers(0, EDGE - SPOT + 1, (planned.n_spots, 3))
            drawn = [
                pores[tuple(slice(c, c + SPOT) for c in place)].mean()
                for place in places
            ]
            held.append(abs(np.mean(drawn) - pores.mean()) <= planned.half_width)
    return float(np.mean(counts)), float(np.mean(held)), float(np.mean(alone))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--precision", type=float, default=0.1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    phantoms = {
        "random field": random_field(3),
        "stretched threefold": random_field((6, 2, 2)),
        "spheres, 20 %": spheres(0.2, 6),
        "rare spheres, 2 %": spheres(0.02, 4),
    }
    print(
        "phantom | porosity | whole: spots | in interval | spot: spots | in interval | "
        "spot alone: in interval"
    )
    for name, pores in phantoms.items():
        whole = from_whole(pores, options.precision, options.draws)
        spot = from_spot(pores, options.precision, options.draws)
        print(
            f"{name} | {pores.mean():.2%} | {whole[0]:.0f} | {whole[1]:.1%} | "
            f"{spot[0]:.0f} | {spot[1]:.1%} | {spot[2]:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
