"""Speed of the backends of ``restore`` on the same windows, and their differences.

    python benchmarks/bench_backends.py [--threads 1] [--repeat 5] [--cpu-time]
        [--quick]

Both backends compute the same window in turn, in one process. The first call is not
timed; the shortest of the other times is used. Differences are in units of the
standard deviation of the volume. Requires the extra ``openvino``. Use ``--cpu-time``
with one thread on machines that run other programs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_geosr.core.noise import Noise
from napari_geosr.inference import backends
from napari_geosr.inference.backends import openvino
from napari_geosr.inference.compute import exact_settings
from napari_geosr.models import zoo
from napari_geosr.networks import set_network_noise

MODELS = ("ct-denoise", "fluo-denoise", "porous-denoise", "foam-denoise", "foam-sr-x2")
#: Edges of the windows, similar to those of a run.
WINDOWS = {"YX": (512, 512), "ZYX": (64, 80, 80)}
QUICK = {"YX": (128, 128), "ZYX": (24, 40, 40)}


def scan(shape: tuple[int, ...], noise: float) -> torch.Tensor:
    """Smooth structure with edges and noise; about mean 0 and standard deviation 1."""
    rng = np.random.default_rng(0)
    waves = np.ones(shape)
    for axis, n in enumerate(shape):
        wave = np.sin(np.linspace(0, 20 * n / 512, n) + axis)
        waves = waves * wave.reshape([-1 if i == axis else 1 for i in range(3)])
    grey = np.sign(waves) + rng.normal(0, noise, shape)
    return torch.from_numpy(grey.astype(np.float32))


def compare(
    name: str,
    windows: dict[str, tuple[int, ...]],
    threads: int,
    repeat: int,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Return the speed of both backends (Mvoxel of input per s), and differences."""
    network = zoo.find(name).restorer()
    set_network_noise(
        network, Noise(0.25, 1.0, (-1.0, 1.0), (0.2, 0.3), {"y": 0.1, "x": 0.1})
    )
    spec = network.spec
    window = windows[spec.axes]
    if spec.axes == "YX":
        x = scan((spec.adjacent_slices, *window), 0.25)[None]
    else:
        x = scan(window, 0.25)[None, None]
    start = clock()
    converted = openvino.convert(network, threads)
    conversion = clock() - start
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: network(x),
        lambda: converted(x),
    ]
    best = [math.inf, math.inf]
    with exact_settings(threads):
        ours, theirs = (call().numpy() for call in calls)
        for _ in range(repeat):
            for i, call in enumerate(calls):
                start = clock()
                call()
                best[i] = min(best[i], clock() - start)
    n = math.prod(window) / 1e6
    largest, rms = backends.differences(theirs, ours)
    return {
        "model": name,
        "window": list(window),
        "torch": n / best[0],
        "openvino": n / best[1],
        "ratio": best[0] / best[1],
        "largest_difference": largest,
        "rms_difference": rms,
        "conversion_s": conversion,
    }


def main() -> None:
    """Print a table and, last, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure CPU time instead of wall-clock time",
    )
    parser.add_argument("--quick", action="store_true", help="small windows")
    options = parser.parse_args()
    if not backends.installed():
        print('openvino is not installed: pip install "napari-geosr[openvino]"')
        return
    clock = time.process_time if options.cpu_time else time.perf_counter
    windows = QUICK if options.quick else WINDOWS
    print(f"openvino {backends.openvino_version()}, torch {torch.__version__}")
    print("| model | torch, Mvoxel/s | openvino, Mvoxel/s | ratio | difference |")
    print("|---|---|---|---|---|")
    rows = []
    for name in MODELS:
        row = compare(name, windows, options.threads, options.repeat, clock)
        rows.append(row)
        print(
            f"| `{name}` | {row['torch']:.2f} | {row['openvino']:.2f} "
            f"| {row['ratio']:.2f} | {row['largest_difference']:.0e} |",
            flush=True,
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
