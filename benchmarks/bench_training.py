"""Check that training never waits for patches (P14), and previews cost at most 5 %.

Prints ratios. The same training runs in turn with newly drawn patches and with a single
cached batch, and then with and without a preview every few seconds.

    python benchmarks/bench_training.py [--steps N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from napari_geosr import io
from napari_geosr.core.steps import CheckpointSaved, PreviewReady
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.training.preview import TrainingPreview
from napari_geosr.learning.training.trainer import Trainer

SHAPE = (64, 256, 256)
ROUNDS = 3


def trainer(paths: list[Path], steps: int, preview: bool) -> Trainer:
    """A Noise2Noise training with default settings on files that are read lazily."""
    config = config_class("noise2noise").create(
        source=[paths[0]], target=[paths[1]], steps=steps, device="cpu", threads=1
    )
    method = METHODS.load("noise2noise").Method(config)
    volumes = {
        role: [io.read(p) for p in getattr(config, role)] for role in method.roles
    }
    patches = Patches(volumes, config)
    shown = TrainingPreview(patches, "source", patches.grey["source"], 1, None)
    return Trainer(method, patches, None, shown if preview else None)


def seconds(run: Trainer, cached: bool = False) -> float:
    """Return the wall-clock seconds per step, from the first step to the last.

    Previews before the first and after the last step are not part of this time.
    """
    if cached:
        batch = run.batches.draw(0)
        run.batches.draw = lambda _step: batch  # type: ignore[method-assign]
    began = ended = time.perf_counter()
    for event in run.run():
        if isinstance(event, PreviewReady) and not event.done:
            began = time.perf_counter()
        if isinstance(event, CheckpointSaved) and event.done == event.total:
            ended = time.perf_counter()
    return (ended - began) / run.steps


def main() -> int:
    """Print the ratios; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.tif" for name in "ab"]
        for path in paths:
            data = rng.normal(size=SHAPE).astype(np.float32)
            io.write(Volume(data, "ZYX"), path)
        seconds(trainer(paths, 5, preview=False))  # warm up
        drawn, kept, shown = [], [], []
        for _ in range(ROUNDS):
            kept.append(seconds(trainer(paths, steps, preview=False), cached=True))
            drawn.append(seconds(trainer(paths, steps, preview=False)))
            shown.append(seconds(trainer(paths, steps, preview=True)))
    ratio = statistics.median(drawn) / statistics.median(kept)
    share = statistics.median(shown) / statistics.median(drawn) - 1
    fine = ratio <= 1.1
    print(
        f"{'pass' if fine else 'FAIL'}  P14  step ÷ step on a cached batch {ratio:.2f}"
    )
    cheap = share <= 0.05
    print(f"{'pass' if cheap else 'FAIL'}       previews add {share:.1%}")
    return 0 if fine and cheap else 1


if __name__ == "__main__":
    sys.exit(main())
