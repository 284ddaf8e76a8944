"""Figures of a model on the named test sets, beside tuned classical methods."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from skimage.filters import threshold_otsu
from torch import nn

from napari_geosr.measure.quality import compare_pores, psnr
from napari_geosr.physics.scans import Scan
from pretraining import baselines, testsets
from pretraining.data import adjacent
from pretraining.recipes import Recipe
from pretraining.testsets import TestSet

FloatArray = npt.NDArray[np.float32]
_SMALLEST_VOXELS = 8


def restore(network: nn.Module, noisy: FloatArray) -> FloatArray:
    """Restore a whole volume, standardised by its own mean and deviation."""
    mean, std = float(noisy.mean()), float(noisy.std())
    x = (noisy - np.float32(mean)) / np.float32(std)
    with torch.no_grad():
        if network.spec.axes == "ZYX":
            y = network(torch.from_numpy(x)[None, None])[0, 0].numpy()
        else:
            n = network.spec.adjacent_slices
            planes = [torch.from_numpy(adjacent(x, z, n))[None] for z in range(len(x))]
            y = np.stack([network(plane)[0, 0].numpy() for plane in planes])
    result: FloatArray = y * np.float32(std) + np.float32(mean)
    return result


def figures(volume: FloatArray, scan: Scan, factor: int) -> dict[str, float | None]:
    """All figures of one restored (or degraded) volume; grid coarse or fine."""
    threshold = threshold_otsu(volume)
    mask = volume < threshold if scan.contrast > 0 else volume > threshold
    coarse = volume.shape != scan.clean.shape
    quality = compare_pores(
        mask,
        scan.mask,
        voxel_volume=float(factor**3) if coarse else 1.0,
        smallest=float(_SMALLEST_VOXELS * factor**3),
    )
    found: dict[str, float | None] = dict(asdict(quality))
    value = math.inf
    if not coarse:
        value = psnr(volume, scan.clean, abs(scan.contrast))
    return {"psnr": value if math.isfinite(value) else None, **found}


def mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Mean over scans; of relative errors the mean size, with the common sign."""
    out: dict[str, float | None] = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        if any(v is None or not math.isfinite(v) for v in values):
            out[key] = None
            continue
        array = np.array(values, dtype=float)
        sign = np.sign(array.sum()) if key.endswith("_error") else 1.0
        size = np.abs(array).mean() if key.endswith("_error") else array.mean()
        out[key] = round(float((sign or 1.0) * size), 4)
    return out


def sets_of(recipe: Recipe) -> tuple[tuple[TestSet, ...], tuple[int, int, int]]:
    """Test sets of the recipe's task and the shape of their scans."""
    if recipe.task == "denoise":
        return testsets.DENOISE_SETS, testsets.DENOISE_SHAPE
    return testsets.SR_SETS, testsets.SR_SHAPE


def classical_rows(recipe: Recipe, cache: Path) -> list[dict[str, Any]]:
    """Rows of input, tuned baselines and noise-free ideal; computed once, then kept."""
    if cache.exists():
        rows: list[dict[str, Any]] = yaml.safe_load(cache.read_text())
        return rows
    sets, shape = sets_of(recipe)
    factor = recipe.downsample
    rows = []
    for test in sets:
        scans = [test.scan(shape, seed) for seed in testsets.TEST_SEEDS]
        validation = test.scan(shape, testsets.VALIDATION_SEED)
        noise = baselines.noise_level(validation, test.imaging.noise)
        crop = (
            slice(4, 28),
            slice(16, min(96, shape[1])),
            slice(16, min(96, shape[2])),
        )
        methods = [
            baselines.tune(baseline, validation, noise, factor, crop)
            for baseline in baselines.DENOISERS
        ]
        if factor > 1:
            methods.insert(
                0, baselines.Tuned("cubic", lambda v, _: baselines.enlarge(v, factor))
            )
        runs: list[tuple[str, list[FloatArray]]] = [("input", [s.noisy for s in scans])]
        runs += [(m.label, [m.apply(s.noisy, noise) for s in scans]) for m in methods]
        runs.append(("noise-free", [s.clean for s in scans]))
        for label, volumes in runs:
            each = [figures(v, s, factor) for v, s in zip(volumes, scans, strict=True)]
            rows.append({"test_set": test.name, "method": label, **mean(each)})
            print(rows[-1], flush=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(yaml.safe_dump(rows, sort_keys=False, allow_unicode=True))
    return rows


def model_rows(recipe: Recipe, network: nn.Module) -> list[dict[str, Any]]:
    """The model's own rows, one a test set."""
    sets, shape = sets_of(recipe)
    rows = []
    for test in sets:
        scans = [test.scan(shape, seed) for seed in testsets.TEST_SEEDS]
        each = [
            figures(restore(network, scan.noisy), scan, recipe.downsample)
            for scan in scans
        ]
        rows.append({"test_set": test.name, "method": "model", **mean(each)})
    return rows


def merge(
    classical: list[dict[str, Any]], model: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """All rows, those of a test set together, the noise-free one last."""
    merged = []
    for row in model:
        of_set = [r for r in classical if r["test_set"] == row["test_set"]]
        merged += [*of_set[:-1], row, of_set[-1]]
    return merged


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = []
    for row in rows:
        cells = [
            f"{v:9.3f}" if isinstance(v, float) else f"{'-':>9}"
            for k, v in row.items()
            if k not in ("test_set", "method")
        ]
        lines.append(f"{row['test_set']:34s} {row['method']:30s}" + "".join(cells))
    return "\n".join(lines)
