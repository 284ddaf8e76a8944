"""Quality after few training steps: 400 steps with 8 patches of 64², on one thread.

Denoising uses the foam of ``bench_methods.py``. Super-resolution is done in the plane:
the slices of the same foam are 2 or 4 times coarser, with the blur and the noise of
``bench_sr_networks.py``. Each setting is trained with the defaults of the program,
restores a foam that was not used for training, and is compared with a 2D U-Net of
336,000 weights trained for the same number of steps. *As before* denotes the defaults
before these results were available: a learning rate of 0.002, and a network that
returns its input before training. *Weak noise* is a seventh of the usual noise, 5 % of
the contrast. Prints Markdown tables, or writes them into documents with ``--write``.

    python benchmarks/bench_efficiency.py --write

Rows are stored in the folder ``--work``, so an interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

import bench_methods as methods
from _document import replace_section
from _specimens import (
    TEST_SEED,
    TRAIN_SEED,
    Array,
    Specimen,
    figures,
    specimen,
)
from bench_sr_networks import IMAGING
from napari_geosr import io, restore
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.training import linear_start
from napari_geosr.models.bundle import read_card
from napari_geosr.operations.train import TrainJob, config_class, train_steps

#: Edge of a patch in voxels of the result.
PATCH = 64
WEAK = "weak independent"
#: Level of the weak noise as a fraction of the usual level.
WEAKER = 1 / 7
FACTORS = (2, 4)
DOCS = Path(__file__).resolve().parents[1] / "docs"
COLUMNS = {
    "psnr": ("PSNR (dB)", "{:.2f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "porosity_error": ("porosity error", "{:+.1%}"),
    "dice": ("Dice", "{:.3f}"),
    "parameters": ("parameters", "{:,.0f}"),
    "seconds": ("training (s)", "{:.0f}"),
}


@dataclass(frozen=True)
class Setting:
    """Differences from the training defaults; if `old`, networks start as identity."""

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    old: bool = False


#: The size of the U-Net that CAREamics trains by default.
LARGE = {"network": "unet", "dimensions": "2D", "network_options": {"features": 27}}
SLOW = {"learning_rate": 2e-3}
BEFORE = Setting("MSD-net, as before", SLOW, old=True)
AFTER = Setting("MSD-net")
U_NET = Setting("2D U-Net", LARGE)
U_NET_SLOW = Setting("2D U-Net, rate 0.002", LARGE | SLOW)
#: Settings that change a single factor, for Noise2Noise with independent noise.
APART = (
    BEFORE,
    Setting("MSD-net, begins with its input", old=True),
    Setting("MSD-net, rate 0.002", SLOW),
    AFTER,
    U_NET_SLOW,
    U_NET,
)
#: Method, kind of noise and compared settings.
DENOISING = (
    ("noise2noise", "independent", APART),
    ("noise2noise", WEAK, (BEFORE, AFTER)),
    ("noise2noise", "filtered back-projection", (BEFORE, AFTER)),
    ("supervised", "independent", (BEFORE, AFTER)),
    ("noise2inverse", "independent", (BEFORE, AFTER)),
    ("noise2void", "independent", (BEFORE, AFTER)),
)
WIDER = {"features": 64, "inner": 24, "blocks": 10}
FINER = (
    Setting("light_sr, as before", {"network": "light_sr", **SLOW}),
    Setting("light_sr", {"network": "light_sr"}),
    Setting("bottleneck_sr", {"network": "bottleneck_sr"}),
    Setting(
        "bottleneck_sr, wider",
        {"network": "bottleneck_sr", "network_options": WIDER, "learning_rate": 2e-2},
    ),
    Setting(
        "light 2.5D U-Net, 9 slices",
        {
            "network": "unet",
            "network_options": {"features": 14},
            "adjacent_slices": 9,
            "learning_rate": 1.5e-2,
        },
    ),
    U_NET,
)


@contextmanager
def beginning_with_its_input() -> Iterator[None]:
    """Let untrained MSD-nets return their input, as in earlier versions."""
    begin = linear_start.fit_last_layer
    linear_start.fit_last_layer = lambda *_, **__: False
    try:
        yield
    finally:
        linear_start.fit_last_layer = begin


def seen(noise: str, seed: int) -> Specimen:
    """Return the foam of a seed with noise of one kind."""
    if noise != WEAK:
        return specimen("foam", noise, seed)
    usual = specimen("foam", "independent", seed)

    def weaker(scan: Array) -> Array:
        return usual.clean + WEAKER * (scan - usual.clean)

    return replace(
        usual,
        first=weaker(usual.first),
        second=weaker(usual.second),
        parts=tuple(weaker(part) for part in usual.parts),
    )


def denoised(
    method: str, setting: Setting, train: Specimen, test: Specimen, options: Any
) -> dict[str, Any]:
    """Train as in ``bench_methods.py``, and evaluate the restored test foam."""
    (usual,) = (r for r in methods.RECIPES if r.method == method)
    chosen = {**setting.options, "seed": options.seed}
    recipe = methods.Recipe(
        setting.label, method, usual.source, usual.target, tuple(chosen.items())
    )
    if not setting.old:
        return methods.learned(recipe, train, test, options.steps, None)
    with beginning_with_its_input():
        return methods.learned(recipe, train, test, options.steps, None)


def coarser(clean: Array, factor: int, seed: int) -> Array:
    """Return the scan with voxels that are `factor` times larger in the plane."""
    blur = IMAGING.blur * factor
    seen = gaussian_filter(clean, (0, blur, blur), mode="nearest")
    z, y, x = clean.shape
    seen = seen.reshape(z, y // factor, factor, x // factor, factor).mean((2, 4))
    noise = np.random.default_rng([seed, 7]).normal(0, IMAGING.noise, seen.shape)
    return np.asarray(seen + noise, np.float32)


def enlarged(
    setting: Setting, train: Specimen, test: Specimen, factor: int, options: Any
) -> dict[str, Any]:
    """Train for super-resolution in the plane, and evaluate the restored test foam."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target = folder / "source.tif", folder / "target.tif"
        given = coarser(train.clean, factor, TRAIN_SEED)
        io.write(Volume(given, "ZYX"), source)
        io.write(Volume(train.clean, "ZYX"), target)
        training = config_class("supervised").create(
            **{
                "source": [source],
                "target": [target],
                "name": "m",
                "device": "cpu",
                "precision": "bfloat16",
                "threads": 1,
                "steps": options.steps,
                "patch": PATCH // factor,
                "upscale_factor": factor,
                "seed": options.seed,
                **setting.options,
            }
        )
        job = TrainJob(method="supervised", training=training)
        began = time.process_time()
        bundle = run_to_end(train_steps(job, folder / "job"))
        seconds = time.process_time() - began
        coarse = Volume(coarser(test.clean, factor, TEST_SEED), "ZYX")
        fine = np.asarray(restore(coarse, str(bundle)).data)
        parameters = read_card(bundle).n_parameters
    return {**figures(fine, test), "parameters": parameters, "seconds": seconds}


class Bench:
    """Result rows, stored in a file."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        options.work.mkdir(parents=True, exist_ok=True)
        self.kept = options.work / f"rows-{options.steps}.json"
        self.rows: list[dict[str, Any]] = (
            json.loads(self.kept.read_text()) if self.kept.exists() else []
        )

    def run(self) -> None:
        """Compute the missing rows."""
        for method, noise, settings in DENOISING:
            case = f"{method}, {noise} noise"
            missing = [each for each in settings if self._is_missing(case, each)]
            if not missing:
                continue
            train, test = (seen(noise, seed) for seed in (TRAIN_SEED, TEST_SEED))
            for setting in missing:
                row = denoised(method, setting, train, test, self.options)
                self._add(case, setting, row)
        train, test = (seen("independent", s) for s in (TRAIN_SEED, TEST_SEED))
        for factor in FACTORS:
            for setting in FINER:
                if self._is_missing(f"upscale factor {factor}", setting):
                    row = enlarged(setting, train, test, factor, self.options)
                    self._add(f"upscale factor {factor}", setting, row)

    def _is_missing(self, case: str, setting: Setting) -> bool:
        only, seed = self.options.only, self.options.seed
        there = any(
            (r["case"], r["setting"], r["seed"]) == (case, setting.label, seed)
            for r in self.rows
        )
        return not there and (not only or only in f"{case}: {setting.label}")

    def _add(self, case: str, setting: Setting, row: Mapping[str, Any]) -> None:
        known = {key: row[key] for key in COLUMNS}
        begin = {"case": case, "setting": setting.label, "seed": self.options.seed}
        self.rows.append(begin | known)
        self.kept.write_text(json.dumps(self.rows, indent=1))
        print(f"{case}: {setting.label} {row['psnr']:.2f} dB", flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the means over the seeds for each case, in the order of the rows."""
    titles = ["", "", *(title for title, _ in COLUMNS.values())]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for case, setting in dict.fromkeys((r["case"], r["setting"]) for r in rows):
        own = [r for r in rows if (r["case"], r["setting"]) == (case, setting)]
        cells = [
            form.format(statistics.fmean(r[key] for r in own))
            for key, (_, form) in COLUMNS.items()
        ]
        if len(own) > 1:
            psnr = [r["psnr"] for r in own]
            cells[0] += f" ± {(max(psnr) - min(psnr)) / 2:.2f}"
        lines.append(f"| {case} | {setting} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", help="run only rows with this text in 'case: setting'"
    )
    parser.add_argument("--work", type=Path, default=Path("build/efficiency"))
    parser.add_argument(
        "--write", action="store_true", help="write the tables into the documents"
    )
    parser.add_argument(
        "--quick", action="store_true", help="train for a few steps only"
    )
    options = parser.parse_args()
    if options.quick:
        options.steps = 2
    torch.set_num_threads(1)
    bench = Bench(options)
    bench.run()
    command = "Generated with `python benchmarks/bench_efficiency.py --write`"
    if options.steps != parser.get_default("steps"):
        command += f" with `--steps {options.steps}`"
    head = (
        f"{command}. Each training run has {options.steps} steps with 8 patches "
        f"each; a patch has {PATCH}² voxels in the result. All runs used one "
        "thread on a computer that was also running other programs. "
        "Training times are CPU times. "
    )
    seeds = {r["seed"] for r in bench.rows}
    if len(seeds) > 1:
        head += "± is half the range of the seeds.\n\n"
    else:
        head += "Each row is a single run with one seed.\n\n"
    finer = [r for r in bench.rows if "upscale factor" in r["case"]]
    rest = [r for r in bench.rows if "upscale factor" not in r["case"]]
    for name, document, rows in (
        ("efficiency", DOCS / "methods.md", rest),
        ("efficiency", DOCS / "super_resolution_networks.md", finer),
    ):
        rows = sorted(rows, key=lambda r: r["case"])
        if options.write and rows:
            replace_section(document, name, head + table(rows))
        else:
            print(head + table(rows))


if __name__ == "__main__":
    main()
