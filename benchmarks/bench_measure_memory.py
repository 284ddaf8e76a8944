"""Peak memory of ``napari-geosr measure BIG.tif`` per voxel of the volume.

Each row is measured in its own process. The process measures a small volume, returns
free memory to the system (malloc_trim), resets the kernel's high-water mark (VmHWM) and
then measures a uint8 volume of pores: "clean", or with so much noise that it is full of
specks. "Peak" is the high-water mark minus the memory held before. The result is the
memory that a larger volume adds, because the memory of the slabs does not depend on the
size of the volume.

    python benchmarks/bench_measure_memory.py [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

#: Bytes that each additional voxel may add.
TARGET = 1.0
NOISE = {"clean": 12.0, "noisy": 30.0}
PERIOD = 128


def make_volume(path: Path, edge: int, noise: float) -> None:
    """Pores that repeat every `PERIOD` voxels, and noise that does not repeat."""
    import tifffile
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(PERIOD,) * 3), 4, mode="wrap")
    solid = 60 + 100 * (smooth > -0.8 * smooth.std())
    n = edge // PERIOD
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for z in range(edge):
            plane = np.tile(solid[z % PERIOD], (n, n))
            plane = plane + rng.normal(0, noise, plane.shape)
            tif.write(plane.clip(0, 255).astype("u1"), contiguous=True)


def child(edge: int, noise: float) -> None:
    """Run one measurement in this process, and print the result as a JSON object."""
    import ctypes

    from napari_geosr.cli.app import run

    def measure(path: Path) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            if run(["measure", str(path), "--out", str(path.with_suffix(""))]):
                raise SystemExit("the command failed")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_volume(folder / "small.tif", PERIOD, noise)
        make_volume(folder / "big.tif", edge, noise)
        measure(folder / "small.tif")
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before, start = status("VmRSS"), time.perf_counter()
        measure(folder / "big.tif")
        peak = status("VmHWM") - before
    print(json.dumps({"peak": peak, "seconds": time.perf_counter() - start}))


def status(key: str) -> int:
    """Return a memory value that the kernel reports for this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no {key} in /proc/self/status")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=2, type=float, default=None)
    options = parser.parse_args()
    if options.child is not None:
        child(int(options.child[0]), options.child[1])
        return 0
    edges = (256, 384) if options.quick else (256, 512)
    fine = True
    for kind, noise in NOISE.items():
        peaks = []
        for edge in edges:
            command = [sys.executable, __file__, "--child", str(edge), str(noise)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found = json.loads(done.stdout.splitlines()[-1])
            peaks.append(found["peak"])
            print(
                f"{kind}, {edge}³: {peaks[-1] / 1e6:.0f} MB, {found['seconds']:.0f} s"
            )
        added = (peaks[1] - peaks[0]) / (edges[1] ** 3 - edges[0] ** 3)
        fine &= added <= TARGET
        print(
            f"{kind}: {added:.2f} bytes for each additional voxel (target {TARGET:g})"
        )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
