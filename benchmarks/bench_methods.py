"""Compare learning methods on three phantoms with two kinds of noise.

Every method is trained on one specimen and tested on another of the same kind. All use
the same network, steps, batch and seed; classical methods are tuned with the ground
truth of the training specimen. Adversarial methods use their own generators and are
trained for three times as long as the supervised method. Prints Markdown tables and
whether the ranking is as expected, or writes both into a document with ``--out``.

    python benchmarks/bench_methods.py --steps 400 --out docs/evidence/methods_tables.md

Rows are stored in the folder ``--work``, so an interrupted run can be resumed.

BM3D and BM4D run in a separate environment, because their licence does not allow
commercial use. bm4d 4.2.5 needs functions that were removed in numpy 2.4:

    python -m venv bm && bm/bin/pip install bm3d bm4d "numpy<2.4"
    python benchmarks/bench_methods.py --bm-python bm/bin/python
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _block_matching import block_matching
from _document import replace_section
from _ranking import BLOCK_MATCHING, order_table, table
from _specimens import (
    NOISE,
    PHANTOMS,
    SHAPE,
    SPLITS,
    TEST_SEED,
    TRAIN_SEED,
    Array,
    Specimen,
    figures,
    specimen,
)
from napari_geosr import io, restore
from napari_geosr.core.steps import TrainingProgress, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.quality import psnr
from napari_geosr.models.bundle import read_card
from napari_geosr.operations.train import (
    TrainingConfig,
    TrainJob,
    config_class,
    train_steps,
)
from napari_geosr.operations.train.noise import correlated_noise_warning

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from pretraining.baselines import DENOISERS

#: Training time of an adversarial method, relative to that of the supervised one.
ADVERSARIAL_BUDGET = 3.0
#: Steps of the short training from which the number of steps is calculated.
_TIMED_STEPS = 40


@dataclass(frozen=True)
class Recipe:
    """A row: a method, its training data and its settings."""

    label: str
    method: str
    source: str = "first"
    target: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    adversarial: bool = False


RECIPES = (
    Recipe("supervised", "supervised", target="clean"),
    Recipe("Noise2Noise", "noise2noise", target="second"),
    Recipe("Noise2Inverse", "noise2inverse", source="parts"),
    Recipe("Noise2Void", "noise2void"),
    Recipe("Neighbor2Neighbor", "neighbor2neighbor"),
    Recipe("TomoGAN, Jensen-Shannon", "tomogan", target="clean", adversarial=True),
    Recipe(
        "TomoGAN, Wasserstein",
        "tomogan",
        target="clean",
        settings=(("distance", "wasserstein"),),
        adversarial=True,
    ),
    Recipe("Pix2Pix", "pix2pix", target="clean", adversarial=True),
    Recipe("CycleGAN", "cyclegan", target="clean", adversarial=True),
)


def classical(train: Specimen, test: Specimen, noise: str) -> list[dict[str, Any]]:
    """Rows of classical methods with the best setting for the training specimen."""
    rows = []
    sd = NOISE[noise]
    crop = (slice(4, 20), slice(24, 104), slice(24, 104))
    for baseline in DENOISERS:
        scores = [
            psnr(baseline.run(train.first[crop], sd, s), train.clean[crop], 1.0)
            for s in baseline.settings
        ]
        best = baseline.settings[int(np.argmax(scores))]
        began = time.process_time()
        result = baseline.run(test.first, sd, best)
        seconds = time.process_time() - began
        row = {"method": f"{baseline.name} {best:g}", **figures(result, test)}
        rows.append(row | {"seconds": seconds})
    return rows


def by_blocks(
    train: Specimen, test: Specimen, noise: str, python: Path
) -> list[dict[str, Any]]:
    """Return the rows of BM3D and BM4D, computed by another Python."""
    found = block_matching(
        python,
        noisy=train.first,
        clean=train.clean,
        noise=(train.second - train.first) / np.sqrt(2),
        test=test.first,
        sd=NOISE[noise],
        correlated=noise != "independent",
    )
    return [row | figures(row.pop("volume"), test) for row in found]


def config_of(recipe: Recipe, train: Specimen, folder: Path) -> TrainingConfig:
    """Write the training volumes of a recipe to files, and return the settings."""

    def written(name: str | None) -> list[Path]:
        if name is None:
            return []
        given = getattr(train, name)
        volumes = given if isinstance(given, tuple) else (given,)
        paths = [folder / f"{name}{i}.tif" for i in range(len(volumes))]
        for path, data in zip(paths, volumes, strict=True):
            io.write(Volume(data, "ZYX"), path, overwrite=True)
        return paths

    return config_class(recipe.method).create(
        source=written(recipe.source),
        target=written(recipe.target),
        name="m",
        device="cpu",
        precision="bfloat16",
        threads=1,
        **dict(recipe.settings),
    )


def steps_within(seconds: float, method: str, config: TrainingConfig) -> int:
    """Number of steps for a given time, from a short training with all its phases."""
    timed = config.model_copy(update={"steps": _TIMED_STEPS})
    with tempfile.TemporaryDirectory() as folder:
        began, done = time.process_time(), 0
        steps = train_steps(TrainJob(method=method, training=timed), Path(folder) / "t")
        for step in steps:
            if isinstance(step, TrainingProgress) and not done:
                began, done = time.process_time(), step.done
            elif isinstance(step, TrainingProgress) and step.done == _TIMED_STEPS:
                break
        each = (time.process_time() - began) / (_TIMED_STEPS - done)
        steps.close()
    return max(20, round(seconds / each))


def learned(
    recipe: Recipe, train: Specimen, test: Specimen, steps: int, seconds: float | None
) -> dict[str, Any]:
    """Train as a user would, restore the test specimen, and evaluate it.

    Parameters
    ----------
    seconds : float, optional
        Time budget, which replaces `steps`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = config_of(recipe, train, folder)
        if seconds is not None:
            steps = steps_within(seconds, recipe.method, config)
        config = config.model_copy(update={"steps": steps})
        job = TrainJob(method=recipe.method, training=config)
        began = time.process_time()
        bundle = run_to_end(train_steps(job, folder / "job"))
        taken = time.process_time() - began
        if recipe.source == "parts":
            result = _mean_over_parts(test, str(bundle))
        else:
            result = np.asarray(restore(Volume(test.first, "ZYX"), str(bundle)).data)
        parameters = read_card(bundle).n_parameters
    return {
        "method": recipe.label,
        **figures(result, test),
        "parameters": parameters,
        "steps": steps,
        "seconds": taken,
    }


def _mean_over_parts(test: Specimen, bundle: str) -> Array:
    """Restore every mean of K - 1 parts by Noise2Inverse, and average the results."""
    total = np.zeros(SHAPE, np.float32)
    for left_out in range(SPLITS):
        others = [p for k, p in enumerate(test.parts) if k != left_out]
        given = np.asarray(np.mean(others, axis=0), np.float32)
        total += np.asarray(restore(Volume(given, "ZYX"), bundle).data) / SPLITS
    return total


class Bench:
    """Result rows, stored in a file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        arguments.work.mkdir(parents=True, exist_ok=True)
        self.kept = arguments.work / f"rows-{arguments.steps}.json"
        self.rows: list[dict[str, Any]] = (
            json.loads(self.kept.read_text()) if self.kept.exists() else []
        )

    def add(self, case: str, found: Sequence[dict[str, Any]]) -> None:
        """Store rows and print their PSNR."""
        self.rows.extend({"case": case, **row} for row in found)
        self.kept.write_text(json.dumps(self.rows, indent=1))
        for row in found:
            print(f"{case}: {row['method']} {row['psnr']:.2f} dB", flush=True)

    def has(self, case: str, *methods: str) -> bool:
        """Whether there is a row of a method that begins with one of these names."""
        return any(
            row["case"] == case and str(row["method"]).startswith(methods)
            for row in self.rows
        )

    def is_selected(self, label: str) -> bool:
        """Whether the command line selects this row."""
        only = self.arguments.only
        return not only or any(part in label for part in only)

    def run(self, kind: str, noise: str) -> str:
        """Compute the missing rows of a case; return the warning for Noise2Void."""
        case, options = f"{kind}, {noise} noise", self.arguments
        train, test = (specimen(kind, noise, s) for s in (TRAIN_SEED, TEST_SEED))
        if not self.has(case, "input"):
            given = {"method": "input", **figures(test.first, test)}
            self.add(case, [given, *classical(train, test, noise)])
        blocks = self.is_selected("BM3D") and not self.has(case, *BLOCK_MATCHING)
        if options.bm_python and blocks:
            self.add(case, by_blocks(train, test, noise, options.bm_python))
        for recipe in RECIPES:
            if self.has(case, recipe.label) or not self.is_selected(recipe.label):
                continue
            budget = self._budget(case) if recipe.adversarial else None
            self.add(case, [learned(recipe, train, test, options.steps, budget)])
        return correlated_noise_warning(
            Volume(train.first, "ZYX", name="scan"), "Noise2Void"
        )

    def _budget(self, case: str) -> float:
        """Return the time limit of an adversarial training in seconds."""
        for row in self.rows:
            if row["case"] == case and row["method"] == "supervised":
                return ADVERSARIAL_BUDGET * float(row["seconds"])
        raise SystemExit(
            "Run the supervised method first: it sets the time for adversarial methods."
        )


def head(command: str) -> str:
    """Return the introduction to the tables."""
    return (
        f"Generated with `{command}`. All methods are trained on one simulated "
        f"specimen of {' × '.join(map(str, SHAPE))} voxels and tested on another of "
        "the same kind, with noise of 35 % of the contrast. They use the same MSD-net, "
        "seed and batches of 8 patches of 64² pixels. The adversarial methods are an "
        "exception: they use their own generators and are trained for "
        f"{ADVERSARIAL_BUDGET:g} times as long as the supervised method. *Seconds* is "
        "the CPU time on one thread. Classical methods were tuned with the "
        "ground truth of the training specimen, which favours them; the number after "
        "their name is the chosen setting. Errors are signed and relative to the known "
        "mask, with Otsu's threshold throughout; *volumes* is the Wasserstein-1 "
        "distance between the distributions of log10 pore volumes in the result and in "
        "the ground truth. There is no row for bicubic interpolation, because it "
        "equals the input at a factor of 1.\n"
    )


def main() -> None:
    """Run the missing rows, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("build/methods"))
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    parser.add_argument("--phantom", choices=PHANTOMS, action="append")
    parser.add_argument("--noise", choices=NOISE, action="append")
    parser.add_argument(
        "--only", action="append", help="run only rows with this text in the label"
    )
    parser.add_argument(
        "--bm-python", type=Path, help="Python executable with bm3d and bm4d"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    warnings = {
        f"{kind}, {noise} noise": bench.run(kind, noise)
        for kind in arguments.phantom or PHANTOMS
        for noise in arguments.noise or NOISE
    }
    shown = [row for row in bench.rows if row["case"] in warnings]
    command = f"python benchmarks/bench_methods.py --steps {arguments.steps}"
    text = "\n".join(
        (
            head(command),
            "### The expected ranking\n",
            "The first method of each row is expected to be at least as good as the "
            "second. Each difference is the value of the first method minus that of "
            "the second. A PSNR that is lower by less than 0.5 dB counts as a tie, as "
            "does a difference of less than 2.5 percentage points in the absolute "
            "porosity error.\n",
            order_table(shown, warnings),
            table(shown, [recipe.label for recipe in RECIPES]),
        )
    )
    if arguments.out:
        replace_section(arguments.out, "methods", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
