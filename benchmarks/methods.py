"""Learning methods side by side: three phantoms, two kinds of noise, one budget.

Every method trains on one specimen and is judged on another one of the same kind. All
have the same network, steps, batch and seed; classical methods are tuned with the truth
of the training specimen. Prints a Markdown table, or writes it with ``--out``.

    python benchmarks/methods.py --steps 400 --out docs/methods.md

Rows are kept in ``build/methods`` as they come, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage.filters import threshold_otsu

from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.quality import compare_pores, psnr, ssim
from napari_geosr.models.bundle import read_card
from napari_geosr.operations.restore import restore
from napari_geosr.operations.train import TrainJob, config_class, train_steps
from napari_geosr.physics import phantoms
from napari_geosr.physics.phantoms import Phantom
from napari_geosr.physics.radon import parallel_beam

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from pretraining.baselines import DENOISERS

Array = npt.NDArray[np.float32]
SHAPE = (24, 128, 128)
SPLITS, ANGLES = 4, 120
TRAIN_SEED, TEST_SEED = 41, 42
NOISE = {"independent": 0.35, "filtered back-projection": 0.35}
PHANTOMS: dict[str, Callable[[int], Phantom]] = {
    "foam": lambda seed: phantoms.sphere_foam(
        SHAPE, porosity=0.2, radius=(3.0, 8.0), gap=1.0, seed=seed
    ),
    "trabecular": lambda seed: phantoms.bicontinuous(
        SHAPE, porosity=0.7, wavelength=24.0, seed=seed
    ),
    "rare pores": lambda seed: phantoms.rare_pores(
        SHAPE, porosity=0.01, radius=(2.0, 5.0), seed=seed
    ),
}


@dataclass(frozen=True)
class Specimen:
    """An object, two scans of it, and K partial scans that the first is the mean of."""

    clean: Array
    mask: npt.NDArray[np.bool_]
    first: Array
    second: Array
    parts: tuple[Array, ...]


@dataclass(frozen=True)
class Recipe:
    """A row: a method, what it reads and its settings."""

    label: str
    method: str
    source: str = "first"
    target: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    slower: int = 1
    """Steps are divided by this: adversarial steps cost several plain ones."""


RECIPES = (
    Recipe("supervised", "supervised", target="clean"),
    Recipe("Noise2Noise", "noise2noise", target="second"),
    Recipe("Noise2Inverse", "noise2inverse", source="parts"),
    Recipe("Noise2Void (N2V2)", "noise2void"),
    Recipe("Neighbor2Neighbor", "neighbor2neighbor"),
    Recipe("TomoGAN, Jensen-Shannon", "tomogan", target="clean", slower=4),
    Recipe(
        "TomoGAN, Wasserstein",
        "tomogan",
        target="clean",
        settings=(("distance", "wasserstein"),),
        slower=4,
    ),
    Recipe("Pix2Pix", "pix2pix", target="clean", slower=2),
    Recipe("CycleGAN", "cyclegan", target="clean", slower=4),
)


def specimen(kind: str, noise: str, seed: int) -> Specimen:
    """Simulate the scans of one object of contrast 1."""
    phantom = PHANTOMS[kind](seed)
    clean = (1 - phantom.fraction).astype(np.float32)
    sd = NOISE[noise]
    scans = [
        _independent(clean, sd, seed + 100 * k)
        if noise == "independent"
        else _projected(clean, sd, seed + 100 * k)
        for k in (1, 2)
    ]
    (first, parts), (second, _) = scans
    return Specimen(clean, phantom.mask, first, second, parts)


def _independent(clean: Array, sd: float, seed: int) -> tuple[Array, tuple[Array, ...]]:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sd * math.sqrt(SPLITS), (SPLITS, *clean.shape))
    parts = tuple((clean + n).astype(np.float32) for n in noise)
    return np.mean(parts, axis=0, dtype=np.float32), parts


def _projected(clean: Array, sd: float, seed: int) -> tuple[Array, tuple[Array, ...]]:
    """Noise on projections; the parts are reconstructed from every K-th of them."""
    beam = parallel_beam(clean.shape[-1], ANGLES)
    sinogram = beam.project(clean)
    rng = np.random.default_rng(seed)
    white = rng.standard_normal(sinogram.shape, dtype=np.float32)
    gain = float(beam.reconstruct(white[..., :1]).std())
    noisy = sinogram + white * np.float32(sd / gain)
    parts = []
    for k in range(SPLITS):
        kept = np.zeros_like(noisy)
        kept[k::SPLITS] = noisy[k::SPLITS] * SPLITS
        parts.append(beam.reconstruct(kept))
    return np.mean(parts, axis=0, dtype=np.float32), tuple(parts)


def figures(volume: Array, true: Specimen) -> dict[str, float | None]:
    """What is reported of a volume; dark pores, Otsu."""
    mask = volume < threshold_otsu(volume)
    pores = asdict(compare_pores(mask, true.mask))
    return {
        "psnr": psnr(volume, true.clean, 1.0),
        "ssim": ssim(volume, true.clean, 1.0),
        **{k: v for k, v in pores.items() if v is None or math.isfinite(v)},
    }


def classical(train: Specimen, test: Specimen, noise: str) -> list[dict[str, Any]]:
    """Classical rows, each with the setting that is best on the training specimen."""
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


def learned(
    recipe: Recipe, train: Specimen, test: Specimen, steps: int, folder: Path
) -> dict[str, Any]:
    """Train as people do, restore the test specimen, and judge it."""

    def written(name: str | None) -> list[Path]:
        if name is None:
            return []
        given = getattr(train, name)
        volumes = given if isinstance(given, tuple) else (given,)
        paths = [folder / f"{name}{i}.tif" for i in range(len(volumes))]
        for path, data in zip(paths, volumes, strict=True):
            io.write(Volume(data, "ZYX"), path, overwrite=True)
        return paths

    config = config_class(recipe.method).create(
        source=written(recipe.source),
        target=written(recipe.target),
        steps=max(20, steps // recipe.slower),
        name="m",
        device="cpu",
        precision="bfloat16",
        threads=1,
        **dict(recipe.settings),
    )
    job = TrainJob(method=recipe.method, training=config)
    began = time.process_time()
    bundle = run_to_end(train_steps(job, folder / "job"))
    seconds = time.process_time() - began
    if recipe.source == "parts":
        result = _mean_over_parts(test, str(bundle))
    else:
        result = np.asarray(restore(Volume(test.first, "ZYX"), str(bundle)).data)
    return {
        "method": recipe.label,
        **figures(result, test),
        "parameters": read_card(bundle).n_parameters,
        "steps": config.steps,
        "seconds": seconds,
    }


def _mean_over_parts(test: Specimen, bundle: str) -> Array:
    """Noise2Inverse restores every mean of K - 1 parts and averages the results."""
    total = np.zeros(SHAPE, np.float32)
    for left_out in range(SPLITS):
        others = [p for k, p in enumerate(test.parts) if k != left_out]
        given = Volume(np.mean(others, axis=0, dtype=np.float32), "ZYX")
        total += np.asarray(restore(given, bundle).data) / SPLITS
    return total


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One Markdown table for each phantom and noise."""
    columns = {
        "psnr": ("PSNR (dB)", "{:.1f}"),
        "ssim": ("SSIM", "{:.3f}"),
        "porosity_error": ("porosity error", "{:+.1%}"),
        "pores_per_mm3_error": ("pores/mm³ error", "{:+.1%}"),
        "volume_histogram_distance": ("volumes", "{:.3f}"),
        "euler_error": ("Euler error", "{:+.2f}"),
        "dice": ("Dice", "{:.3f}"),
        "parameters": ("parameters", "{:,}"),
        "steps": ("steps", "{}"),
        "seconds": ("seconds", "{:.0f}"),
    }
    lines: list[str] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        head = ["", *(title for title, _ in columns.values())]
        lines += ["", f"## {case}", "", "| " + " | ".join(head) + " |"]
        lines.append("|" + "---|" * len(head))
        for row in (r for r in rows if r["case"] == case):
            cells = [
                "–" if row.get(key) is None else form.format(row[key])
                for key, (_, form) in columns.items()
            ]
            lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join(lines).strip() + "\n"


def head(steps: int) -> str:
    """What a reader has to know before the figures."""
    return (
        "# Learning methods side by side\n\n"
        f"Written by `python benchmarks/methods.py --steps {steps} --out "
        "docs/methods.md`. Trained on one simulated specimen of "
        f"{' × '.join(map(str, SHAPE))} voxels, judged on another of the same kind; "
        "noise of 35 % of the contrast; the same MSD-net, batch and seed for all but "
        "the generators of the adversarial methods. *Seconds* are processor time on "
        "one thread. Classical methods were tuned with the truth of the training "
        "specimen, which favours them. Errors are signed and relative to the known "
        "mask, Otsu's threshold for all; *volumes* is the Wasserstein-1 distance of "
        "the log10 pore volumes.\n\n"
    )


def main() -> None:
    """Run what is missing, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("build/methods"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--phantom", choices=PHANTOMS, action="append")
    parser.add_argument("--only", help="part of a row's label")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    kept = arguments.work / f"rows-{arguments.steps}.json"
    rows = json.loads(kept.read_text()) if kept.exists() else []
    done = {(row["case"], row["method"]) for row in rows}

    def add(case: str, found: Sequence[dict[str, Any]]) -> None:
        rows.extend({"case": case, **row} for row in found)
        kept.write_text(json.dumps(rows, indent=1))
        for row in found:
            print(f"{case}: {row['method']} {row['psnr']:.2f} dB", flush=True)

    for kind in arguments.phantom or PHANTOMS:
        for noise in NOISE:
            case = f"{kind}, {noise} noise"
            train, test = (specimen(kind, noise, s) for s in (TRAIN_SEED, TEST_SEED))
            if (case, "input") not in done:
                add(case, [{"method": "input", **figures(test.first, test)}])
                add(case, classical(train, test, noise))
            for recipe in RECIPES:
                wanted = not arguments.only or arguments.only in recipe.label
                if (case, recipe.label) in done or not wanted:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    row = learned(recipe, train, test, arguments.steps, Path(folder))
                add(case, [row])
    text = head(arguments.steps) + table(rows)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
