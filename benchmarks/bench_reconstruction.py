"""Time of FBP and SIRT, for one slice and for a batch, compared with ASTRA on the CPU.

    python benchmarks/bench_reconstruction.py --size 512 --angles 512 --threads 2

All algorithms run in turn in one process, and the best time of each is used. The target
is to be no slower than ASTRA for one slice on the same cores. ASTRA reconstructs one
slice in one thread, so CPU times are printed as well as wall-clock times. On a CUDA
device, the CUDA algorithms of ASTRA are used instead; the target is at most twice their
time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_geosr.physics.projection.geometry import ParallelGeometry
from napari_geosr.physics.projection.projector import project
from napari_geosr.tomography.algorithms import config_class, reconstruct_slices

Times = tuple[float, float]


def _in_turn(calls: dict[str, Callable[[], Any]], repeat: int) -> dict[str, Times]:
    """Return the shortest wall-clock and CPU time per call, in seconds."""
    best = {name: (float("inf"), float("inf")) for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            wall, worked = time.perf_counter(), time.process_time()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            spent = time.perf_counter() - wall, time.process_time() - worked
            best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    return best


def _phantom(size: int) -> torch.Tensor:
    y, x = np.mgrid[:size, :size] * (2 / size) - 1
    solid = (y**2 + x**2 < 0.8).astype(np.float32)
    for k in range(12):
        at = 0.6 * np.array([np.cos(2.4 * k), np.sin(2.4 * k)]) * (k + 1) / 12
        solid[(y - at[0]) ** 2 + (x - at[1]) ** 2 < 0.008] = 0
    return torch.from_numpy(solid / size)


def _astra_calls(
    sinogram: np.ndarray[Any, Any], size: int, angles: Any, iterations: int, cuda: bool
) -> dict[str, Callable[[], Any]]:
    try:
        import astra
    except ImportError:
        return {}
    cuda = cuda and astra.use_cuda()
    suffix = "_CUDA" if cuda else ""
    scan = astra.create_proj_geom(
        "parallel", 1.0, sinogram.shape[1], np.deg2rad(angles)
    )
    slices = astra.create_vol_geom(size, size)
    kind = "cuda" if cuda else "linear"
    operator = astra.OpTomo(astra.create_projector(kind, scan, slices))
    return {
        "fbp, ASTRA": lambda: operator.reconstruct("FBP" + suffix, sinogram),
        "sirt, ASTRA": lambda: operator.reconstruct(
            "SIRT" + suffix, sinogram, iterations=iterations
        ),
    }


def main() -> None:
    """Print the times and ratios as one line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--angles", type=int, default=512)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    angles = np.linspace(0, 180, options.angles, endpoint=False)
    geometry = ParallelGeometry(angles, options.size)
    phantom = _phantom(options.size).to(options.device)
    one = project(phantom, geometry)[None]
    many = one.repeat(options.batch, 1, 1)
    sirt = config_class("sirt").create(iterations=options.iterations)

    def ours(name: str, sinogram: torch.Tensor) -> Callable[[], Any]:
        config = sirt if name == "sirt" else None
        return lambda: reconstruct_slices(name, sinogram, geometry, config)

    for name in ("fbp", "sirt"):  # compile
        ours(name, one)()
    calls = {"fbp": ours("fbp", one), "sirt": ours("sirt", one)}
    if options.batch > 1:
        calls |= {"fbp, batch": ours("fbp", many), "sirt, batch": ours("sirt", many)}
    peers = _astra_calls(
        one[0].cpu().numpy(),
        options.size,
        angles,
        options.iterations,
        options.device != "cpu",
    )
    if not peers:
        print("ASTRA: not installed")
    best = _in_turn(calls | peers, options.repeat)
    for name, (wall, worked) in best.items():
        share = options.batch if "batch" in name else 1
        row: dict[str, Any] = {
            "what": name,
            "seconds_per_slice": round(wall / share, 3),
            "cpu_seconds_per_slice": round(worked / share, 3),
        }
        peer = best.get(name.split(",")[0] + ", ASTRA")
        if peer is not None and "ASTRA" not in name:
            row["times_as_fast_as_astra"] = round(peer[0] * share / wall, 2)
            row["times_as_fast_in_cpu_time"] = round(peer[1] * share / worked, 2)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
