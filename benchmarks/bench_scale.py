"""Volumes larger than the memory budget, and several processes on one volume.

A scan of 512 x 1024 x 1024 voxels (uint16, 1.1 GB) is super-resolved to 4.3 billion
voxels in an OME-Zarr, and its pores are measured, each by the command with a memory
budget; "peak" is the largest resident memory of the process, with the program, its
libraries and the model. Then a smaller scan is restored by one and by two worker
processes of one thread each: the same bytes, in what share of the time? Prints Markdown
tables. The big scan needs 12 GB of disk and about ten minutes of two cores.

    python benchmarks/bench_scale.py [--planes 512] [--edge 1024] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

GB = 10**9
#: Planes after which the structure of the scan repeats.
PERIOD = 64
#: Scan that workers share: planes and their edge.
SHARED = (48, 384)


@dataclass(frozen=True)
class Run:
    """A finished command.

    Attributes
    ----------
    seconds : float
        Wall-clock time.
    processor : float
        Processor time of all its processes.
    peak : int
        Largest resident memory of one process in bytes.
    """

    seconds: float
    processor: float
    peak: int


def run(*words: object) -> Run:
    """Run ``napari-geosr`` in a process of its own."""
    command = [sys.executable, "-m", "napari_geosr", *map(str, words)]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(said.read().decode()[-2000:])
    return Run(
        time.perf_counter() - began,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
    )


def write_scan(path: Path, planes: int, edge: int) -> None:
    """A porous solid with noise, plane by plane."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    rough = rng.normal(size=(PERIOD, edge, edge)).astype(np.float32)
    solid = ndimage.gaussian_filter(rough, 3, mode="wrap") > 0.02

    def noisy(z: int) -> np.ndarray:
        noise = rng.normal(0, 2000, (edge, edge)).astype(np.float32)
        plane: np.ndarray = solid[z % PERIOD] * 20000 + 20000 + noise
        return plane.clip(0, 65535)

    tifffile.imwrite(
        path,
        (noisy(z).astype(np.uint16) for z in range(planes)),
        shape=(planes, edge, edge),
        dtype="uint16",
        bigtiff=True,
        photometric="minisblack",
        metadata={"axes": "ZYX", "PhysicalSizeX": 1.5, "PhysicalSizeY": 1.5},
    )


def large(folder: Path, planes: int, edge: int) -> None:
    """Print memory and time of a super-resolution and of its measurement."""
    scan, finer = folder / "scan.ome.tif", folder / "finer.ome.zarr"
    write_scan(scan, planes, edge)
    voxels = 8 * planes * edge**2
    upscaled = ("-m", "cubic-x2", "--output-dtype", "input", "-o", finer)
    rows = {
        "restore ×2 to OME-Zarr": (2.0, run("restore", scan, *upscaled, *memory(2.0))),
        "measure the result": (
            1.5,
            run("measure", finer, "-o", folder / "report", *memory(1.5)),
        ),
    }
    print(f"{voxels / 1e9:.1f} billion voxels, {2 * voxels / GB:.1f} GB in uint16\n")
    print("| run | budget | peak | processor time |\n|---|---|---|---|")
    for name, (budget, done) in rows.items():
        print(
            f"| {name} | {budget:.1f} GB | {done.peak / GB:.2f} GB | "
            f"{done.processor:.0f} s |"
        )


def memory(gigabytes: float) -> tuple[str, str]:
    """The option for a budget."""
    return "--memory", f"{gigabytes * 1000:.0f}MB"


def voxels_of(path: Path) -> bytes:
    """The stored voxels of a zarr, in the order of their files."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
    return b"".join(p.read_bytes() for p in files)


def workers(folder: Path, repeats: int) -> None:
    """Print times of one and of two workers."""
    scan = folder / "shared.ome.tif"
    write_scan(scan, *SHARED)
    times: dict[int, list[float]] = {1: [], 2: []}
    equal = 0
    for _ in range(repeats):
        results = []
        for n in times:
            out = folder / f"shared-{n}.ome.zarr"
            options = ("--workers", n, "--threads", n, "--memory", f"{n}GB")
            shown = ("-m", "foam-denoise", "-o", out, "--overwrite")
            times[n].append(run("restore", scan, *shown, *options).seconds)
            results.append(voxels_of(out))
        equal += results[0] == results[1]
    one, two = (min(seconds) for seconds in times.values())
    print(f"\nTwo workers: {one:.0f} s ÷ {two:.0f} s = {one / two:.2f} × as fast; ")
    print(f"equal bytes in {equal} of {repeats} runs; all: {json.dumps(times)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=512)
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where 12 GB are free")
    parser.add_argument("--only", choices=["large", "workers"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        if options.only != "workers":
            large(Path(name), options.planes, options.edge)
        if options.only != "large":
            workers(Path(name), options.repeats)


if __name__ == "__main__":
    main()
