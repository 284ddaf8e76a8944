"""Compare thickness and tortuosity factor with porespy and TauFactor.

Measures both phases of a volume (Otsu's threshold) and of overlapping spheres. Prints
the mean thickness in voxels (porespy: twice the `local_thickness` with 100 sizes) and
the tortuosity factor along the first axis, with CPU times. Requires
``pip install porespy taufactor``.

    python benchmarks/bench_morphometry.py VOLUME.tif [--edge 100]

With ``--thickness``, only the local thickness of both phases of the whole volume is
measured, and compared with porespy with 25 sizes: its default method (whole-voxel
radii) and its earlier method (fractional radii). Each measurement runs in its own
process, which also reports its additional memory.

With ``--transport``, only the tortuosity factors of the dark phase are measured: along
all axes by `transport`, and along the first axis by TauFactor.
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
    """Overlapping spherical pores at random positions."""
    rng = np.random.default_rng(2)
    count = round(-np.log(solid) * edge**3 / (4 / 3 * np.pi * radius**3))
    seeds = np.ones((edge,) * 3, bool)
    seeds[tuple(rng.integers(0, edge, (3, count)))] = False
    return np.asarray(distance_transform_edt(seeds) <= radius)


def ours(pores: Mask) -> tuple[float, float, float | None]:
    """Return Tb.Th, Tb.Sp and τ.z as measured by napari-geosr."""
    grey = np.where(pores, 50, 200).astype(np.uint8)
    report = geosr.measure_porosity(
        grey, axes="ZYX", threshold=120.0, statistics=("thickness", "transport")
    )
    return tuple(report.figures[name] for name in ("Tb.Th", "Tb.Sp", "τ.z"))


def tau_of_taufactor(pores: Mask) -> float:
    """τ.z from TauFactor."""
    import taufactor

    solver = taufactor.Solver(pores.astype(np.uint8), device="cpu")
    solver.solve(verbose=False, conv_crit=1e-3)
    return float(np.ravel(solver.tau)[0])


def time_transport(path: Path, edge: int) -> None:
    """Compare tortuosity factors and CPU times with those of TauFactor."""
    part = tifffile.imread(path)[(slice(0, edge),) * 3]
    pores = part <= threshold_otsu(part)
    grey = np.where(pores, 50, 200).astype(np.uint8)

    def all_axes(_pores: Mask) -> tuple[float | None, ...]:
        report = geosr.measure_porosity(
            grey, axes="ZYX", threshold=120.0, statistics=("transport",)
        )
        return tuple(report.figures[f"τ.{axis}"] for axis in "zyx")

    ours(spheres(32))  # compiles the loops
    print("volume | program | τ | time")
    name = f"{path.stem} {edge}³"
    print(f"{name} | napari-geosr | {timed(all_axes, pores)}", flush=True)
    print(f"{name} | TauFactor | {timed(taufactor_alone, pores)}", flush=True)


def taufactor_alone(pores: Mask) -> tuple[float | None, ...]:
    """Return the tortuosity factor along Z as computed by TauFactor."""
    return (tau_of_taufactor(pores),)


def theirs(pores: Mask) -> tuple[float, float, float | None]:
    """Return the same measures from porespy and TauFactor."""
    import porespy

    def thickness(phase: Mask) -> float:
        found = porespy.filters.local_thickness(phase, sizes=100)
        return float(2 * found[phase].mean())

    return thickness(~pores), thickness(pores), tau_of_taufactor(pores)


def timed(measure: Callable[[Mask], tuple[float | None, ...]], pores: Mask) -> str:
    """Return the measured values, and the CPU time of their measurement."""
    began = time.process_time()
    values = measure(pores)
    seconds = time.process_time() - began
    texts = ("–" if value is None else f"{value:.3f}" for value in values)
    return " | ".join([*texts, f"{seconds:.1f} s"])


def thickness_of(path: Path, edge: int, program: str, which: str) -> None:
    """Print mean thickness, number of diameters, time and memory of one phase."""
    import resource

    from napari_geosr.core.steps import run_to_end
    from napari_geosr.measure.local_thickness.spheres import thickness_steps

    def measure(part: Mask, edge: int | None = None) -> tuple[float, int]:
        if program == "napari-geosr":
            steps = thickness_steps(part, edge=edge)
            found = run_to_end(steps)
            return found.mean or 0.0, int(np.count_nonzero(found.counts))
        import porespy

        options = {"method": "legacy"} if program == "porespy legacy" else {"sizes": 25}
        radii = porespy.filters.local_thickness(part, **options)[part]
        return float(2 * radii.mean()), len(np.unique(radii))

    part = tifffile.imread(path)[(slice(0, edge),) * 3]
    values, counts = np.unique(part[::4, ::4, ::4], return_counts=True)
    phase = part <= threshold_otsu(hist=(counts, values))
    phase = phase if which == "pores" else ~phase
    measure(phase[:60, :60, :60].copy(), 30)  # compiles the loops
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    mean, sizes = measure(phase)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(
        f"{path.stem} {part.shape[0]}³, {which} | {program} | {mean:.2f} | {sizes} | "
        f"{cpu:.1f} s | {wall:.1f} s | {more / (2 * part.size):.2f}",
        flush=True,
    )


def time_thickness(path: Path, edge: int) -> None:
    """Compare the programs on both phases."""
    import subprocess
    import sys

    print("volume | program | mean | diameters | CPU time | time | memory ÷ uint16")
    for which in ("pores", "solid"):
        for program in ("napari-geosr", "porespy", "porespy legacy"):
            more = ["--edge", str(edge), "--one", program, which]
            subprocess.run([sys.executable, __file__, str(path), *more], check=False)


def main() -> None:
    """Print one line per volume and program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", type=Path, nargs="*")
    parser.add_argument("--edge", type=int, default=100)
    parser.add_argument(
        "--thickness", action="store_true", help="measure only the thickness"
    )
    parser.add_argument(
        "--transport", action="store_true", help="measure only the tortuosity factor"
    )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one:
        thickness_of(options.volume[0], options.edge, *options.one)
        return
    if options.thickness:
        for path in options.volume:
            time_thickness(path, options.edge)
        return
    if options.transport:
        for path in options.volume:
            time_transport(path, options.edge)
        return
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
