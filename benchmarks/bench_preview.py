"""Time of the first preview of a 512 × 512 slice: target P12.

In a separate process, the model is loaded and the volume prepared (the dock does this
in the background). Then the first preview, later previews, and the network alone are
timed; the network alone runs on the window that the preview needs (the region and its
halo), with the same number of threads. The target is for CPU time, which depends
less on other programs; wall-clock time is printed as well.

    python benchmarks/bench_preview.py [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import time
from collections.abc import Callable

EDGE, PLANE, MODEL = 512, 1024, "foam-denoise"
TARGET, WALL_TARGET = 1.3, 1.5


def timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - processor, time.perf_counter() - wall


def child(profile: bool) -> None:
    """Time one first preview, and print the result as a JSON object."""
    import numpy as np
    import torch

    from napari_geosr.core.steps import run_to_end
    from napari_geosr.core.volume import Volume
    from napari_geosr.inference.compute import default_threads, exact_settings
    from napari_geosr.operations.restore import (
        RestoreConfig,
        prepare_steps,
        preview_steps,
    )

    rng = np.random.default_rng(0)
    data = rng.normal(100, 20, (9, PLANE, PLANE)).astype("float32")
    volume = Volume(data, "ZYX", (1.0, 1.0, 1.0), "µm", name="noise")
    config = RestoreConfig(model=MODEL, device="cpu")
    prepared = run_to_end(prepare_steps(volume, config))
    start = (PLANE - EDGE) // 2
    region = (slice(4, 5), *[slice(start, start + EDGE)] * 2)

    def preview() -> None:
        run_to_end(preview_steps(prepared, region))

    if profile:
        profiler = cProfile.Profile()
        profiler.runcall(preview)
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumtime").print_stats(40)
    first = timed(preview)
    spec = prepared.network.spec
    window = [EDGE + 2 * h for h in spec.halo]
    x = torch.randn(1, spec.adjacent_slices, *window)

    def bare() -> None:
        with exact_settings(default_threads()):
            prepared.network(x)

    bare()
    later, bares = [], []
    for _ in range(4):
        bares.append(timed(bare))
        later.append(timed(preview))
    best = {
        "first": first,
        "later": [min(t) for t in zip(*later, strict=True)],
        "bare": [min(t) for t in zip(*bares, strict=True)],
    }
    print(json.dumps(best))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="print a profile")
    parser.add_argument(
        "--quick", action="store_true", help="use one process instead of three"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.profile)
        return 0
    more = ["--profile"] if options.profile else []
    rows = []
    for _ in range(1 if options.quick or options.profile else 3):
        done = subprocess.run(
            [sys.executable, __file__, "--child", *more],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    missed = 0
    print(f"{MODEL}, a region of {EDGE} x {EDGE} in planes of {PLANE} x {PLANE}")
    for kind in ("first", "later"):
        processor = min(r[kind][0] / r["bare"][0] for r in rows)
        wall = min(r[kind][1] / r["bare"][1] for r in rows)
        seconds = min(r[kind][1] for r in rows)
        missed += processor > TARGET
        print(
            f"{kind:5} preview / bare forward: CPU time {processor:.2f} (target <= "
            f"{TARGET}), wall {wall:.2f}; {seconds:.2f} s on this machine now (target "
            f"{WALL_TARGET} s on an idle one)  "
            f"{'met' if processor <= TARGET else 'MISSED'}"
        )
    bare = min(r["bare"][0] for r in rows)
    print(f"bare forward: {bare:.2f} s of CPU time")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
