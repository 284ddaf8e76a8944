"""Peak memory of ``napari-geosr restore BIG.tif --memory …`` and its budget: P9.

Each row is measured in its own process. The process imports all modules, restores a
volume of 6 × 32 × 32 voxels to a file of the same kind, returns free memory to the
system (malloc_trim), resets the kernel's high-water mark (VmHWM) and records the memory
it holds (VmRSS) as the baseline. Then the command runs on the big volume. "Peak" is the
high-water mark minus the baseline. It includes all stages, from reading the intensities
to the coarser levels of an OME-Zarr, as well as mapped pages and the reserves of the C
library. The volume is uint16; the result is float32 and eight times the budget. The
memory depends on the feature maps and the halo of a network, not on its weights, so
most rows use models with random weights that are faster than the bundled ones.
``--bundled`` adds the bundled models, which takes a long time.

    python benchmarks/bench_memory_command.py [--quick] [--bundled] [--only TEXT]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MB = 10**6
TARGET = 1.10
#: Bundled model from which each light model is derived, and the changed settings.
LIGHT: dict[str, tuple[str, dict[str, Any], int]] = {
    "2.5D": ("foam-denoise", {"depth": 2, "width": 4}, 3),
    "3D x2": ("foam-sr-x2", {"features": 4, "blocks": 1}, 4),
}
PLANES = {"2.5D": 1024, "foam-denoise": 1024, "3D x2": 384, "foam-sr-x2": 384}
GROWTH = {"2.5D": 1, "foam-denoise": 1, "3D x2": 8, "foam-sr-x2": 8}


@dataclass(frozen=True)
class Row:
    """One process: `budget` in MB, and the size of the result as a multiple of it."""

    case: str
    suffix: str
    budget: int
    times: float


def make_bundle(folder: Path, case: str) -> str:
    """Write a lightweight bundle; for a bundled model, return its name."""
    if case not in LIGHT:
        return case
    import torch

    from napari_geosr.models import bundle, zoo
    from napari_geosr.networks import build_network

    like, changes, halo = LIGHT[case]
    card = zoo.find(like).card
    kwargs = {**card.network_kwargs, **changes}
    card = card.model_copy(
        update={"name": "light", "network_kwargs": kwargs, "halo": halo}
    )
    torch.manual_seed(0)
    bundle.save(folder, card, build_network(card.network, **kwargs))
    return str(folder)


def make_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """Write noise with shifted planes to a memory-mapped TIFF."""
    import numpy as np
    import tifffile

    rng = np.random.default_rng(0)
    plane = rng.normal(3000, 500, shape[1:]).astype("uint16")
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for i in range(shape[0]):
            tif.write(np.roll(plane, i, axis=0), contiguous=True)


def child(row: Row) -> None:
    """Run one case in this process, and print the result as a JSON object."""
    import ctypes

    from napari_geosr.cli.app import run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_bundle(folder / "light", row.case)
        edge = PLANES[row.case]
        n_voxels = row.times * row.budget * MB / 4 / GROWTH[row.case]
        make_volume(folder / "tiny.tif", (6, 32, 32))
        make_volume(
            folder / "big.tif", (max(8, math.ceil(n_voxels / edge**2)), edge, edge)
        )

        def restore(stem: str) -> Path:
            out = folder / (stem + row.suffix)
            arguments = ["restore", str(folder / f"{stem}.tif"), "--out", str(out)]
            arguments += ["--model", model, "--memory", f"{row.budget}MB"]
            with contextlib.redirect_stdout(sys.stderr):
                if run([*arguments, "--device", "cpu"]):
                    raise SystemExit("the command failed")
            return out

        restore("tiny")
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before, start = _status("VmRSS"), time.perf_counter()
        out = restore("big")
        seconds, peak = time.perf_counter() - start, _status("VmHWM") - before
        from napari_geosr import io

        volume = io.read(out)
        found = volume.provenance[-1]["run"]
    print(
        json.dumps({"peak": peak, "seconds": seconds, "bytes": volume.nbytes, **found})
    )


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def measure(row: Row) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(asdict(row))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only 100 MB, with a result of twice this size",
    )
    parser.add_argument("--bundled", action="store_true", help="add the bundled models")
    parser.add_argument(
        "--only", default="", help="run only rows with this text in their name"
    )
    parser.add_argument(
        "--times",
        type=float,
        default=8.0,
        help="size of the result divided by the budget",
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Row(**json.loads(options.child)))
        return 0
    budget, times = (100, 2.0) if options.quick else (300, options.times)
    cases = ("foam-denoise", "foam-sr-x2") if options.bundled else tuple(LIGHT)
    missed = 0
    for case in cases:
        for suffix in (".ome.tif", ".ome.zarr"):
            if options.only not in case + suffix:
                continue
            found = measure(Row(case, suffix, budget, times))
            ratio = found["peak"] / (budget * MB)
            missed += ratio > TARGET
            print(
                f"{case:12} to {suffix:9} budget {budget} MB  result "
                f"{found['bytes'] / MB:5.0f} MB  peak/budget {ratio:.2f} (target <= "
                f"{TARGET})  tile {tuple(found['tile'])}  work "
                f"{found['cost_factor']:.2f}  {found['seconds']:.0f} s  "
                f"{'met' if ratio <= TARGET else 'MISSED'}",
                flush=True,
            )
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
