"""Morphometry beside porespy and TauFactor: thickness, and the tortuosity factor.

Both phases of a volume (Otsu) and overlapping spheres. Prints mean thickness in voxels
(porespy: `local_thickness` of 100 sizes, twice the radius) and the tortuosity factor
along the first axis, with processor times. Needs ``pip install porespy taufactor``.

    python benchmarks/bench_morphometry.py VOLUME.tif [--edge 100]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from scipy.ndimage import distance_transform_edt
from skimage.filters import threshold_otsu

import napari_geosr as geosr

Mask = npt.NDArray[np.bool_]


def spheres(edge: int = 72, radius: int = 7, solid: float = 0.5) -> Mask:
    """Overlapping spheres of pores at random places."""
    rng = np.random.default_rng(2)
    count = round(-np.log(solid) * edge**3 / (4 / 3 * np.pi * radius**3))
    seeds = np.ones((edge,) * 3, bool)
    seeds[tuple(rng.integers(0, edge, (3, count)))] = False
    return np.asarray(distance_transform_edt(seeds) <= radius)


def ours(pores: Mask) -> tuple[float, float, float | None]:
    """Tb.Th, Tb.Sp and τ.z."""
    grey = np.where(pores, 50, 200).astype(np.uint8)
    report = geosr.measure_porosity(
        grey, axes="ZYX", threshold=120.0, statistics=("thickness", "transport")
    )
    return tuple(report.figures[name] for name in ("Tb.Th", "Tb.Sp", "τ.z"))


def theirs(pores: Mask) -> tuple[float, float, float | None]:
    """The same of porespy and TauFactor."""
    import porespy
    import taufactor

    def thickness(phase: Mask) -> float:
        found = porespy.filters.local_thickness(phase, sizes=100)
        return float(2 * found[phase].mean())

    solver = taufactor.Solver(pores.astype(np.uint8), device="cpu")
    solver.solve(verbose=False, conv_crit=1e-3)
    return thickness(~pores), thickness(pores), float(np.ravel(solver.tau)[0])


def timed(
    measure: Callable[[Mask], tuple[float, float, float | None]], pores: Mask
) -> str:
    """Values, and the processor time that they took."""
    began = time.process_time()
    values = measure(pores)
    seconds = time.process_time() - began
    texts = ("–" if value is None else f"{value:.3f}" for value in values)
    return " | ".join([*texts, f"{seconds:.1f} s"])


def main() -> None:
    """Print one line per volume and program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", type=Path, nargs="*")
    parser.add_argument("--edge", type=int, default=100)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = {"spheres": spheres()}
    for path in options.volume:
        part = tifffile.imread(path)[(slice(0, options.edge),) * 3]
        cases[path.stem] = part <= threshold_otsu(part)
    ours(spheres(32))  # compiles the loops
    print("volume | program | Tb.Th | Tb.Sp | τ.z | time")
    for name, pores in cases.items():
        print(f"{name} | napari-geosr | {timed(ours, pores)}", flush=True)
        print(f"{name} | peers | {timed(theirs, pores)}", flush=True)


if __name__ == "__main__":
    main()
