"""Figures of tuned classical methods and of a model on held-out scans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import nn

from napari_geosr.measure.quality import psnr
from napari_geosr.physics.phantoms import FloatArray
from napari_geosr.physics.scans import Scan
from pretraining import baselines, evaluation
from pretraining.baselines import Baseline
from pretraining.heldout import HeldOut
from pretraining.testsets import TEST_SEEDS, VALIDATION_SEED

_CROP = (slice(4, 16), slice(16, 96), slice(16, 96))
Filter = Callable[[FloatArray], FloatArray]


def rows(
    sets: tuple[HeldOut, ...], network: nn.Module, cache: Path
) -> list[dict[str, Any]]:
    """All rows of a card; those of the classical methods are kept in `cache`."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    classical = yaml.safe_load(cache.read_text()) if cache.exists() else {}
    found = []
    for test in sets:
        scans = [test.scan(seed) for seed in TEST_SEEDS]
        if test.name not in classical:
            classical[test.name] = _classical(test, scans)
            cache.write_text(yaml.safe_dump(classical, sort_keys=False))
        *before, ideal = classical[test.name]
        model = _row(test, scans, "model", lambda v: evaluation.restore(network, v))
        found += [*before, model, ideal]
    return found


def _classical(test: HeldOut, scans: list[Scan]) -> list[dict[str, Any]]:
    """Input, tuned methods, and the scan free of noise."""
    methods: list[tuple[str, Filter]] = [("input", lambda v: v)]
    validation = test.scan(VALIDATION_SEED)
    methods += [_tuned(test, baseline, validation) for baseline in baselines.DENOISERS]
    made = [_row(test, scans, name, run) for name, run in methods]
    ideal = _row(test, scans, "noise-free", None)
    for row in (*made, ideal):
        print(row, flush=True)
    return [*made, ideal]


def _tuned(test: HeldOut, baseline: Baseline, scan: Scan) -> tuple[str, Filter]:
    """The setting of highest PSNR on a validation scan, of all ways to apply it.

    Where slices are few and thick, plane by plane may be better; where the noise grows
    with the signal, after Anscombe's transform, whose gain is given away.
    """
    crop = tuple(
        slice(*c.indices(n)[:2]) if n > 1 else slice(0, 1)
        for c, n in zip(_CROP, scan.noisy.shape, strict=True)
    )
    noisy, clean = scan.noisy[crop], scan.clean[crop]
    best: tuple[float, str, Filter] | None = None
    for planes in (False, True) if test.gain and len(noisy) > 1 else (False,):
        for stabilised in (False, True) if test.gain else (False,):
            for setting in baseline.settings:
                run = _filter(test, baseline, setting, planes, stabilised)
                score = psnr(run(noisy), clean, abs(scan.contrast))
                name = f"{baseline.name.removesuffix(' (3D)')} {setting:g}"
                name += ", by planes" if planes else ""
                name += ", Anscombe" if stabilised else ""
                if best is None or score > best[0]:
                    best = (score, name, run)
    assert best is not None
    return best[1:]


def _filter(
    test: HeldOut, baseline: Baseline, setting: float, planes: bool, stabilised: bool
) -> Filter:
    def plain(volume: FloatArray, noise: float) -> FloatArray:
        if planes or len(volume) == 1:
            return np.stack([baseline.run(v, noise, setting) for v in volume])
        return baseline.run(volume, noise, setting)

    def run(volume: FloatArray) -> FloatArray:
        if not stabilised:
            return plain(volume, test.noise)
        shifted = np.maximum(volume + np.float32(0.375 + test.offset), 0)
        filtered = plain(2 * np.sqrt(shifted), 1.0)
        # The asymptotically unbiased inverse.
        return np.maximum(filtered, 0) ** 2 / 4 - np.float32(0.125 + test.offset)

    return run


def _row(
    test: HeldOut, scans: list[Scan], name: str, run: Filter | None
) -> dict[str, Any]:
    each = []
    for scan in scans:
        volume = scan.clean if run is None else run(scan.noisy)
        if test.has_pores:
            each.append(evaluation.figures(volume, scan, 1))
        elif run is None:
            each.append({"psnr": None})
        else:
            each.append({"psnr": psnr(volume, scan.clean, abs(scan.contrast))})
    return {"test_set": test.name, "method": name, **evaluation.mean(each)}


def shortfalls(found: list[dict[str, Any]], least: float) -> list[str]:
    """Test sets where the model is not `least` dB above the best classical method."""
    missing = []
    for name in dict.fromkeys(row["test_set"] for row in found):
        of_set = {r["method"]: r["psnr"] for r in found if r["test_set"] == name}
        model = of_set.pop("model")
        best = max(value for value in of_set.values() if value is not None)
        if model < best + least:
            missing.append(f"{name}: {model:.2f} dB, best other {best:.2f} dB")
    return missing
