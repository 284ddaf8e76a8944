"""Peak memory for files eight times the budget: target P9, at most budget + 10 %.

Each row is measured in its own process, which streams a float32 volume from a TIFF (one
page at a time) through a network into an OME-Zarr or a mapped TIFF. The larger of the
two files is eight times the smallest budget. "Peak" is the kernel's high-water mark of
the process (VmHWM, reset before the run) minus the memory held after loading the
network, the libraries and the two files and running one small window. It contains
everything that a run adds, including the reserves of the C library and mapped file
pages. ``bench_memory_command.py`` measures the whole command.

    python benchmarks/bench_memory.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

MB = 10**6
BUDGETS = (96, 192, 384)
_MSD = ("msdnet", {"depth": 4, "adjacent_slices": 5})
_SR = ("light_sr", {"features": 4, "blocks": 1})
CASES = {
    "MSD-net 2.5D to zarr": (*_MSD, ".ome.zarr"),
    "MSD-net 2.5D to tiff": (*_MSD, ".ome.tif"),
    "light SR 3D to zarr": (*_SR, ".ome.zarr"),
    "light SR 3D to tiff": (*_SR, ".ome.tif"),
}
TARGET = 1.10


def child(
    network_name: str,
    kwargs: dict[str, object],
    suffix: str,
    budget: int,
    n_bytes: int,
) -> None:
    """Run one case in this process, and print the result as a JSON object."""
    import ctypes

    import numpy as np
    import tifffile
    import torch

    from napari_geosr import io
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.inference.intensity import IntensityStatistics
    from napari_geosr.inference.runner import (
        choose_output,
        restore_region,
        restore_tiles,
    )
    from napari_geosr.inference.tiles.tiling import lay_out
    from napari_geosr.networks import build_network

    torch.manual_seed(0)
    network = build_network(network_name, **kwargs).eval()
    plane = 512 if network.spec.axes == "YX" else 192
    growth = math.prod(network.spec.upscale_factor)
    n_planes = max(8, math.ceil(n_bytes / 4 / growth / plane**2))
    statistics = IntensityStatistics(0.0, 1.0, -5.0, 5.0, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.tif"
        rng = np.random.default_rng(0)
        with tifffile.TiffWriter(path, bigtiff=True) as tif:
            noise = rng.normal(size=(plane, plane)).astype("float32")
            for i in range(n_planes):
                tif.write(np.roll(noise, i, axis=0), contiguous=True)
        source = _Pages(path, (n_planes, plane, plane))
        shape = lay_out(source.shape, network.spec).output_shape
        space = {"axes": "ZYX", "voxel_size": (1, 1, 1), "unit": "µm"}
        tile, memory = choose_output(
            network,
            source,
            np.dtype("float32"),
            statistics=statistics,
            budget=budget,
        )
        with io.create(
            Path(folder) / f"out{suffix}",
            io.OutputSpec(
                shape=shape,
                dtype="float32",
                origin=(0, 0, 0),
                tile=tile,
                memory=memory,
                **space,
            ),
        ) as output:
            restore_region(
                network,
                source,
                (slice(0, 1), slice(0, 16), slice(0, 16)),
                statistics=statistics,
                budget=budget,
            )
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            steps = restore_tiles(
                network, source, output.array, statistics=statistics, budget=budget
            )
            summary = run_to_end(steps)
            peak = _status("VmHWM") - before
    print(
        json.dumps(
            {
                "peak": peak,
                "tile": summary.tile,
                "n_tiles": summary.n_tiles,
                "cost_factor": summary.cost_factor,
                "predicted": summary.peak_bytes,
                "seconds": summary.seconds,
                "volume": math.prod(shape) * 4,
            }
        )
    )


class _Pages:
    """Planes of a TIFF, read from the file on request."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        import numpy as np
        import tifffile

        with tifffile.TiffFile(path) as tif:
            self.offset = tif.series[0].dataoffset
        self.path, self.shape, self.ndim = path, shape, 3
        self.dtype = np.dtype("float32")

    def __getitem__(self, key):
        import numpy as np

        planes, rows, columns = key
        size = math.prod(self.shape[1:])
        out = []
        with self.path.open("rb") as stream:
            for z in range(planes.start, planes.stop):
                stream.seek(self.offset + z * size * 4)
                page = np.fromfile(stream, "float32", size).reshape(self.shape[1:])
                out.append(page[rows, columns].copy())
        return np.stack(out)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def measure(case: str, budget: int, n_bytes: int) -> dict[str, object]:
    arguments = json.dumps([*CASES[case], budget, n_bytes])
    done = subprocess.run(
        [sys.executable, __file__, "--child", arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the smallest budget")
    parser.add_argument(
        "--only", default="", help="run only cases with this text in their name"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*json.loads(options.child))
        return 0
    missed = 0
    budgets = BUDGETS[:1] if options.quick else BUDGETS
    print(
        "growth of the process / budget; target <= 1.10, volume = 8 x smallest budget"
    )
    for case in (name for name in CASES if options.only in name):
        for mega in budgets:
            row = measure(case, mega * MB, 8 * BUDGETS[0] * MB)
            ratio = row["peak"] / (mega * MB)
            if mega == BUDGETS[0]:
                first = row["peak"]
            missed += ratio > TARGET
            print(
                f"{case:24} budget {mega:4} MB  volume {row['volume'] / MB:5.0f} MB  "
                f"peak/budget {ratio:.2f}  predicted/budget "
                f"{row['predicted'] / (mega * MB):.2f}  tile {row['tile']}  "
                f"work {row['cost_factor']:.2f}  {row['seconds']:.0f} s  "
                f"{'met' if ratio <= TARGET else 'MISSED'}",
                flush=True,
            )
        one = measure(case, BUDGETS[0] * MB, BUDGETS[0] * MB)
        ratio = first / one["peak"]
        missed += ratio > TARGET
        print(
            f"{case:24} 8x the voxels, same budget: peak x {ratio:.2f} "
            f"(target <= 1.10)  "
            f"{'met' if ratio <= TARGET else 'MISSED'}",
            flush=True,
        )
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
