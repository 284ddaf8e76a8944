"""CPU times of SIM reconstructions and segmentations, for lower limits of run times.

A job that keeps nothing when it is stopped is refused if it cannot end within the
walltime (``napari_geosr.jobs.feasibility.undivided``). The lower limits are half of
the times printed here, which are CPU times on one core without finding patterns and
without checks. Prints Markdown tables; takes about half a minute of CPU time.

    python benchmarks/bench_least_times.py
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.segment import (
    SegmentConfig,
    open_segmenter,
    segmented_layer_steps,
    warm_up,
)
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.inputs import open_frames
from napari_geosr.operations.sim.run import run_steps
from napari_geosr.operations.sim.simulation import SimulateSimConfig, simulate_sim_steps

#: Edges of the frames, in camera pixels.
EDGES = (256, 512)
#: Settings of the reconstructions.
METHODS = (
    {"method": "wiener"},
    {"method": "joint-rl", "iterations": 5},
    {"method": "joint-rl", "iterations": 20},
)
#: Shapes of the scans, and numbers of painted classes.
SCANS = (
    ((8, 256, 256), 2),
    ((8, 512, 512), 2),
    ((4, 1024, 1024), 2),
    ((8, 512, 512), 3),
)


def reconstructions(folder: Path) -> None:
    """Print the time per camera pixel and frame."""
    print("| frames | method | CPU time per pixel and frame |\n|---|---|---|")
    for edge in EDGES:
        made = folder / str(edge)
        config = SimulateSimConfig.create(structure="er", size=edge, snr=50)
        run_to_end(simulate_sim_steps(made, config))
        for method in METHODS:
            known = {"patterns": made / "patterns_truth.yaml", "threads": 1}
            chosen = SimConfig.create(**method, **known, checks=False)
            frames = open_frames(made / "raw.ome.tif", chosen, None)
            began = time.process_time()
            run_to_end(run_steps(frames, chosen))
            each = (time.process_time() - began) / math.prod(frames.volume.shape)
            text = ", ".join(map(str, method.values()))
            print(f"| 9 × {edge} × {edge} | {text} | {1e9 * each:.0f} ns |", flush=True)


def segmentations() -> None:
    """Print the time per voxel."""
    warm_up()
    config = SegmentConfig()
    print("\n| scan | classes | CPU time per voxel |\n|---|---|---|")
    for shape, n_classes in SCANS:
        rng = np.random.default_rng(0)
        field = ndimage.gaussian_filter(rng.standard_normal(shape), 4)
        edges = np.quantile(field, np.arange(1, n_classes) / n_classes)
        phases = np.digitize(field, edges) + 1
        noise = rng.normal(0, 20, shape)
        scan = Volume((60 * phases + noise).astype(np.float32), "ZYX", (1.0,) * 3)
        painted = np.zeros(shape, np.uint8)
        painted[1::3, ::9] = phases[1::3, ::9]
        labels = scan.replace(data=painted)
        segmenter = open_segmenter(scan, config)
        began = time.process_time()
        run_to_end(segmented_layer_steps(segmenter, labels, config, lambda: False))
        each = (time.process_time() - began) / math.prod(shape)
        size = " × ".join(map(str, shape))
        print(f"| {size} | {n_classes} | {1e6 * each:.2f} µs |", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        reconstructions(Path(name))
    segmentations()


if __name__ == "__main__":
    main()
