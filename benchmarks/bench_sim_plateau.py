"""Structured illumination: the plateau of the loss of the recipe `published`.

    python benchmarks/bench_sim_plateau.py [--steps 400] [--out docs/evidence/sim.md]
        [--data ../shared/data]

Burns and Liu fit their network to semi-synthetic microtubules; the loss in their
notebook, 1 − SSIM, levels off at about 0.066 after about 300 steps. Here, the same loss
for frames of the same kind is recorded step by step, together with the loss of the true
object. Because of the noise, even the true object does not explain the frames
completely, so the network cannot be expected to reach a lower loss. Only the middle of
each frame is used, because the U-Net is slow on a CPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from _document import replace_section
from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.compute import exact_settings
from napari_geosr.learning import frame_fit
from napari_geosr.operations.sim import SimConfig, estimate_steps, open_frames
from napari_geosr.operations.sim.planes import fit_steps, frame_fit_of
from napari_geosr.sim.noise import frame_noise

ROOT = Path(__file__).resolve().parents[1]
#: Edge of the part of the frames in camera pixels, and object pixels per camera pixel.
EDGE, UPSCALE = 32, 4
#: Steps in the table of the loss.
SHOWN = (1, 100, 200, 300, 400, 600, 1000)
#: Number of steps over which the loss is averaged.
MEAN = 10


def curve(data: Path, stack: int, steps: int) -> tuple[list[float], float, float]:
    """Losses of all steps, the loss of the ground truth, and the seconds."""
    name = f"semisynthetic_microtubules_{stack}"
    config = SimConfig.create(
        method="pinn", recipe="published", psf=data / "sim/psf.png", psf_sampling=4,
        upscale_factor=UPSCALE, threads=1, patterns_after=None,
    )  # fmt: skip
    frames = open_frames(data / f"sim/{name}_9frames.tif", config)
    estimate = run_to_end(estimate_steps(frames, config))
    start = (frames.plane_shape[0] - EDGE) // 2
    place = (slice(start, start + EDGE),) * 2
    block = estimate.block[(..., *place)]
    plane = block, estimate.patterns.cropped(place), estimate.otf
    fit = run_to_end(fit_steps(*plane, config, 1))
    noise = frame_noise(estimate.block, estimate.otf)
    network = frame_fit_of(fit, block, plane[1], noise, config)
    losses = []
    begun = time.process_time()
    for _ in range(steps):
        with exact_settings(1, gradients=True):
            losses.append(network.step())
    seconds = time.process_time() - begun
    truth = np.squeeze(np.asarray(io.read(data / f"sim/{name}_groundtruth.png").data))
    # The object extends beyond the part, up to the margin of the operator.
    grid = network.operator.grid
    low = [UPSCALE * (start - m) for m in grid.margin]
    part = truth[low[0] : low[0] + grid.fine[0], low[1] : low[1] + grid.fine[1]]
    known = part.astype(np.float32)
    with exact_settings(1):
        seen = network.operator.forward(torch.from_numpy(known))
        floor = 1 - float(frame_fit.frames_similarity(seen, network.frames))
    return losses, floor, seconds


def plateau_table(data: Path, steps: int, stacks: Sequence[int]) -> str:
    """Return the table of the loss by step, and of the loss of the ground truth."""
    shown = [n for n in SHOWN if n <= steps]
    lines = [
        f"| stack | {' | '.join(f'step {n}' for n in shown)} | ground truth | time |",
        "|---|" + "---|" * (len(shown) + 2),
    ]
    for stack in stacks:
        losses, floor, seconds = curve(data, stack, steps)
        cells = [f"{np.mean(losses[max(0, n - MEAN) : n]):.3f}" for n in shown]
        lines.append(
            f"| {stack} | {' | '.join(cells)} | {floor:.3f} | {seconds:.0f} s |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--stacks", type=int, nargs="+", default=(1, 24))
    parser.add_argument("--out", type=Path, help="document to write the table into")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    table = plateau_table(options.data, options.steps, options.stacks)
    print(table)
    if options.out is not None:
        replace_section(options.out, "benchmark network plateau", table)


if __name__ == "__main__":
    main()
