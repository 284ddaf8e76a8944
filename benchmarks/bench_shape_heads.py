"""Heads of shape super-resolution: learn the phase of voxels, or their distance.

Run ``python benchmarks/bench_shape_heads.py --folder F``. Models with both heads are
trained with the same seeds for the same number of steps, on the same simulated shapes,
each on one thread; then all of them refine the same unseen shapes. Trained models are
kept in the folder and used again.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench_shapes import KINDS, SEEDS, ShapeFigures, format_cells

HEADS = ("occupancy", "distance")
#: Names of the values in `ShapeFigures.compared` that are shown, and their signs and
#: digits in the table.
_COLUMNS = ("Dice", "Dice (surface)", "volume error", "thickness error")
_SIGNS, _DIGITS = ("", "", "+", "+"), (4, 4, 1, 1)
#: Decay of the moving average of the weights, as for the bundled model; the default is
#: suitable for longer training.
_AVERAGING = 0.99

Row = list[float]
#: Figures by head (or "trilinear"), kind of shape, factor, and seed of the training.
Results = dict[tuple[str, str, int, int], list[Row]]


def train(head: str, seed: int, steps: int, folder: Path) -> str:
    """Train a model, unless it is in the folder; return a line on the CPU time."""
    import torch

    from napari_geosr.learning.shapes import SHAPE_METHODS
    from napari_geosr.learning.shapes.data import ShapeSet
    from napari_geosr.learning.training.trainer import Trainer

    path = folder / f"{head}_{seed}_{steps}.pt"
    if path.exists():
        return f"{path.name} exists"
    module = SHAPE_METHODS.load("shape_sr")
    config = module.Config.create(
        simulated="mixed",
        head=head,
        seed=seed,
        steps=steps,
        averaging=_AVERAGING,
        validate_every=steps,
        device="cpu",
        threads=1,
    )
    trainer = Trainer(module.Method(config), ShapeSet(config), None)
    began = time.process_time()
    for _ in trainer.run():
        pass
    torch.save(trainer.average.state_dict(), path)
    return f"{path.name}: {time.process_time() - began:.0f} s of CPU time"


def evaluate(
    kind: str, edge: int, factors: Sequence[int], number: int, models: Sequence[Path]
) -> Results:
    """Refine unseen shapes of one kind with all models, and by interpolation."""
    import torch

    from napari_geosr.core.steps import run_to_end
    from napari_geosr.inference.shapes import plan_refinement
    from napari_geosr.operations.shapes.refine import (
        load_refiner,
        refined_in_memory_steps,
    )
    from napari_geosr.physics.shapes import SOLIDS, coarsened, sampled

    torch.set_num_threads(1)
    refiners = {("trilinear", 0): load_refiner("trilinear", "cpu")[:2]}
    for path in models:
        network, n, _ = load_refiner("shape-sr-x2", "cpu")  # the same architecture
        assert isinstance(network, torch.nn.Module)
        network.load_state_dict(torch.load(path))
        head, seed, _ = path.stem.split("_")
        refiners[head, int(seed)] = network, n
    results: Results = {}
    for shape_seed in SEEDS[:number]:
        truth = sampled(SOLIDS[kind](np.random.default_rng(shape_seed)), (edge,) * 3)
        known = ShapeFigures(truth)
        for factor, (name, (refiner, n)) in itertools.product(
            factors, refiners.items()
        ):
            coarse = coarsened(truth, factor)
            stages = factor.bit_length() - 1
            plan = plan_refinement(coarse, stages, refiner.spec, n, 4 * 10**9)
            steps = refined_in_memory_steps(coarse, refiner, plan, "cpu", 1)
            row = known.compared(run_to_end(steps))[: len(_COLUMNS)]
            results.setdefault((name[0], kind, factor, name[1]), []).append(row)
    return results


def print_table(results: Results, factors: Sequence[int], kinds: Sequence[str]) -> None:
    """Print means and standard deviations over shapes and training seeds."""
    print(f"| shape | factor | head | {' | '.join(_COLUMNS)} |")
    print("|---|---|---|" + "---|" * len(_COLUMNS))
    for kind, factor, head in itertools.product(kinds, factors, (*HEADS, "trilinear")):
        rows = [
            row
            for key, found in results.items()
            if key[:3] == (head, kind, factor)
            for row in found
        ]
        cells = format_cells(np.asarray(rows), _SIGNS, _DIGITS)
        print(f"| {kind} | ×{factor} | {head} | {cells} |")


def print_summary(results: Results, factors: Sequence[int]) -> None:
    """Print the mean absolute errors for each factor, head and training seed."""
    print(f"\n| factor | head | seed | {' | '.join(_COLUMNS)} |")
    print("|---|---|---|" + "---|" * len(_COLUMNS))
    for factor, head in itertools.product(factors, (*HEADS, "trilinear")):
        seeds = sorted({key[3] for key in results if key[0] == head})
        for seed in seeds:
            rows = [
                row
                for key, found in results.items()
                if (key[0], key[2], key[3]) == (head, factor, seed)
                for row in found
            ]
            means = np.abs(rows).mean(0)
            cells = (f"{m:.{n}f}" for m, n in zip(means, (4, 4, 2, 2), strict=True))
            print(f"| ×{factor} | {head} | {seed} | {' | '.join(cells)} |")


def main() -> None:
    """Train the models and compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--factors", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--number", type=int, default=3, help="shapes of each kind")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    runs = list(itertools.product(HEADS, given.seeds))
    models = [given.folder / f"{h}_{seed}_{given.steps}.pt" for h, seed in runs]
    results: Results = {}
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        training = [pool.submit(train, *r, given.steps, given.folder) for r in runs]
        for each in training:
            print(each.result(), flush=True)
        comparison = [
            pool.submit(evaluate, k, given.edge, given.factors, given.number, models)
            for k in given.kinds
        ]
        for found in comparison:
            results |= found.result()
    print_table(results, given.factors, given.kinds)
    print_summary(results, given.factors)


if __name__ == "__main__":
    main()
