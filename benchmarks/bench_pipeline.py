"""Overlap of reading, computing and writing: target P11.

The bound is max(sum of reads, of computations, of writes) + first read + last write.
The pipeline and the serial loop run in turn in one process; best of three runs.

    python benchmarks/bench_pipeline.py
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from napari_geosr.inference.pipeline import Pipeline

TARGET = 0.92
N = 30


def serial(read: Callable, compute: Callable, write: Callable, n: int) -> float:
    start = time.perf_counter()
    for i in range(n):
        write(i, compute(read(i)))
    return time.perf_counter() - start


def overlapped(read: Callable, compute: Callable, write: Callable, n: int) -> float:
    start = time.perf_counter()
    with Pipeline(read, write) as pipe:
        pipe.start_reading(range(n))
        for _ in range(n):
            item, block = pipe.take(lambda: None)
            pipe.put(item, compute(block))
        pipe.flush()
    return time.perf_counter() - start


def timed(stage: Callable, spent: list[float]) -> Callable:
    def run(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = stage(*arguments)
        spent.append(time.perf_counter() - start)
        return result

    return run


def sleeping(read: float, compute: float, write: float) -> tuple[Callable, ...]:
    return (
        lambda i: time.sleep(read),
        lambda b: time.sleep(compute),
        lambda i, r: time.sleep(write),
    )


def real() -> tuple[Callable, ...]:
    """Decompress, run a small convolutional network on one thread, and compress."""
    import torch

    rng = np.random.default_rng(0)
    packed = zlib.compress(
        rng.integers(0, 50, (384, 384)).astype("float32").tobytes(), 1
    )
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 1, 3, padding=1),
    ).eval()

    def read(i: int) -> np.ndarray:
        return (
            np.frombuffer(zlib.decompress(packed), "float32").reshape(384, 384).copy()
        )

    def compute(block: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(block)[None, None])[0, 0].numpy()

    def write(i: int, result: np.ndarray) -> None:
        zlib.compress(result.round().tobytes(), 1)

    return read, compute, write


def main() -> int:
    import torch

    torch.set_num_threads(1)
    missed = 0
    cases = {
        "sleeps 30/20/10 ms": (sleeping(0.03, 0.02, 0.01), True),
        "sleeps 20/20/20 ms": (sleeping(0.02, 0.02, 0.02), True),
        "sleeps 5/40/5 ms": (sleeping(0.005, 0.04, 0.005), True),
        "zlib, convolutions, zlib": (real(), False),
    }
    for name, (stages, counts) in cases.items():
        best_serial = best = float("inf")
        ideal = float("inf")
        for _ in range(3):
            spent: list[list[float]] = [[], [], []]
            run = [timed(s, t) for s, t in zip(stages, spent, strict=True)]
            best_serial = min(best_serial, serial(*run, N))
            bound = max(sum(t) for t in spent) + spent[0][0] + spent[2][-1]
            ideal = min(ideal, bound)
            best = min(best, overlapped(*stages, N))
        reached = ideal / best
        verdict = "met" if reached >= TARGET else "MISSED"
        if not counts:  # computing stages share the cores, so there is no bound
            verdict = f"informative: {threading.active_count()} threads remain"
        missed += verdict == "MISSED"
        print(
            f"{name:26} n={N}  serial {best_serial:.2f} s, overlapped {best:.2f} s "
            f"(x {best_serial / best:.2f}), bound {ideal:.2f} s, reached {reached:.2f} "
            f"(target >= {TARGET})  {verdict}",
            flush=True,
        )
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
