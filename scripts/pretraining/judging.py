"""Evaluation of tuned classical methods and of a model on the test sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from skimage.filters import threshold_otsu

from napari_geosr import restore
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.quality import compare_pores, psnr
from napari_geosr.physics.scans import Scan
from napari_geosr.physics.specimens.phantoms import FloatArray
from pretraining import baselines
from pretraining.baselines import Baseline
from pretraining.testsets import TEST_SEEDS, TUNING_SEED, TestSet

Figures = dict[str, float | None]
#: Results of one method on the scans of a test set.
Judged = dict[str, Any]
Filter = Callable[[FloatArray], FloatArray]

_SMALLEST_VOXELS = 8
#: Largest part of a scan that is used for tuning settings, in voxels.
_TUNED = (24, 80, 80)
#: Smaller differences between relative errors count as a tie.
_TIE = 0.025
MODEL, INPUT, IDEAL = "model", "input", "noise-free"


def judge(sets: tuple[TestSet, ...], model: str, cache: Path) -> list[Judged]:
    """Results of all methods for all scans; classical ones are stored in `cache`.

    Parameters
    ----------
    model : str
        Name or folder of the model.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    classical = yaml.safe_load(cache.read_text()) if cache.exists() else {}
    found = []
    for test in sets:
        scans = [test.scan(seed) for seed in TEST_SEEDS]
        if test.name not in classical:
            classical[test.name] = list(_classical(test, scans))
            cache.write_text(yaml.safe_dump(classical, sort_keys=False))
        *before, ideal = classical[test.name]
        run = _model(model)
        found += [*before, _judged(test, scans, MODEL, run), ideal]
    return found


def judged(test: TestSet, scans: list[Scan], model: str) -> Judged:
    """Return the results of a model for the scans of one test set."""
    return _judged(test, scans, MODEL, _model(model))


def _model(name: str) -> Filter:
    return lambda volume: np.asarray(restore(Volume(volume, "ZYX"), name).data)


def _classical(test: TestSet, scans: list[Scan]) -> Iterator[Judged]:
    """Yield the results of the input, of tuned methods and of a perfect restoration."""
    tuning = test.scan(TUNING_SEED)
    methods: list[tuple[str, Filter]] = [(INPUT, lambda volume: volume)]
    if test.is_finer:
        methods.append(("cubic", lambda v: baselines.enlarge(v, test.factors)))
    methods += [_tuned(test, baseline, tuning) for baseline in baselines.DENOISERS]
    for name, run in methods:
        yield _judged(test, scans, name, run)
    yield _judged(test, scans, IDEAL, None)


def _tuned(test: TestSet, baseline: Baseline, scan: Scan) -> tuple[str, Filter]:
    """Choose the setting with the highest PSNR on a part of a scan.

    With few and thick slices, it may be better to filter plane by plane. If the noise
    increases with the signal, it may be better to filter after an Anscombe transform,
    which is given the true gain.
    """
    part, fine = _middle(scan.noisy.shape, test.factors)
    noisy, clean = scan.noisy[part], scan.clean[fine]
    best: tuple[float, str, Filter] | None = None
    for planes in (False, True) if test.gain and len(noisy) > 1 else (False,):
        for stabilised in (False, True) if test.gain else (False,):
            for setting in baseline.settings:
                run = _filter(test, baseline, setting, planes, stabilised)
                score = psnr(run(noisy), clean, abs(scan.contrast))
                name = f"{baseline.name} {setting:g}"
                if planes or len(noisy) == 1:
                    name = name.replace(" (3D)", "") + ", plane by plane"
                name += ", Anscombe" if stabilised else ""
                name += " + cubic" if test.is_finer else ""
                if best is None or score > best[0]:
                    best = (score, name, run)
    assert best is not None
    return best[1:]


def _middle(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[Any, Any]:
    """Index of the middle of a scan, and of the same region in its ground truth."""
    sizes = [min(n, most) for n, most in zip(shape, _TUNED, strict=True)]
    starts = [(n - size) // 2 for n, size in zip(shape, sizes, strict=True)]
    return tuple(
        tuple(
            slice(f * start, f * (start + size))
            for f, start, size in zip(of_axes, starts, sizes, strict=True)
        )
        for of_axes in ((1,) * len(shape), factors)
    )


def _filter(
    test: TestSet, baseline: Baseline, setting: float, planes: bool, stabilised: bool
) -> Filter:
    def plain(volume: FloatArray, noise: float) -> FloatArray:
        if planes or len(volume) == 1:
            return np.stack([baseline.run(v, noise, setting) for v in volume])
        return baseline.run(volume, noise, setting)

    def run(volume: FloatArray) -> FloatArray:
        if not stabilised:
            filtered = plain(volume, test.noise)
            return baselines.enlarge(filtered, test.factors)
        shifted = np.maximum(volume + np.float32(0.375 + test.offset), 0)
        filtered = plain(2 * np.sqrt(shifted), 1.0)
        # Asymptotically unbiased inverse of the Anscombe transform.
        inverse = np.maximum(filtered, 0) ** 2 / 4 - np.float32(0.125 + test.offset)
        return baselines.enlarge(inverse, test.factors)

    return run


def _judged(test: TestSet, scans: list[Scan], name: str, run: Filter | None) -> Judged:
    each = [
        figures(scan.clean if run is None else run(scan.noisy), scan, test)
        for scan in scans
    ]
    row = {"test_set": test.name, "method": name, "scans": each}
    print(test.name, name, mean(each), flush=True)
    return row


def figures(volume: FloatArray, scan: Scan, test: TestSet) -> Figures:
    """All measures of one restored (or degraded) volume on the coarse or fine grid."""
    coarse = volume.shape != scan.clean.shape
    value = math.inf if coarse else psnr(volume, scan.clean, abs(scan.contrast))
    found: Figures = {"psnr": value if math.isfinite(value) else None}
    if not test.has_pores:
        return found
    threshold = threshold_otsu(volume)
    mask = volume < threshold if scan.contrast > 0 else volume > threshold
    fine = float(math.prod(test.factors))
    quality = compare_pores(
        mask,
        scan.mask,
        voxel_volume=fine if coarse else 1.0,
        smallest=_SMALLEST_VOXELS * fine,
    )
    return found | {key: float(value) for key, value in asdict(quality).items()}


def mean(each: list[Figures]) -> Figures:
    """Mean over scans; for errors, the mean magnitude with the sign of the mean."""
    out: Figures = {}
    for key in each[0]:
        values = [row[key] for row in each]
        known = [v for v in values if v is not None and math.isfinite(v)]
        if len(known) < len(values):
            out[key] = None
            continue
        array = np.array(known, dtype=float)
        sign = np.sign(array.sum()) if key.endswith("_error") else 1.0
        size = np.abs(array).mean() if key.endswith("_error") else array.mean()
        out[key] = round(float((sign or 1.0) * size), 4)
    return out


def best_classical(judged: list[Judged], test_set: str) -> Judged:
    """Return the tuned classical method with the highest mean PSNR on a test set."""
    rows = [
        row
        for row in judged
        if row["test_set"] == test_set and row["method"] not in (MODEL, INPUT, IDEAL)
    ]
    return max(rows, key=lambda row: mean(row["scans"])["psnr"] or -math.inf)


def shortfalls(judged: list[Judged], least_gain: float) -> list[str]:
    """Return the requirements that the model does not meet, in sentences.

    The PSNR must be at least `least_gain` dB above that of the best classical method.
    Pores/mm³, volume histogram, Euler number and Dice must not be worse than those of
    this method by more than a tie and more than twice the standard error of the
    difference over the scans. The porosity error must be at most a third of that of the
    input, or a tie with the ground truth.
    """
    missing = []
    for name in dict.fromkeys(row["test_set"] for row in judged):
        of_set = {r["method"]: r["scans"] for r in judged if r["test_set"] == name}
        best = best_classical(judged, name)
        model, classical = of_set[MODEL], best["scans"]
        gain = _mean(model, "psnr") - _mean(classical, "psnr")
        if gain < least_gain:
            missing.append(f"{name}: {gain:+.2f} dB against {best['method']}")
        for key in model[0]:
            if key in ("psnr", "porosity_error"):
                continue
            worse = np.array(
                [
                    _badness(ours, key) - _badness(theirs, key)
                    for ours, theirs in zip(model, classical, strict=True)
                ]
            )
            error = worse.std(ddof=1) / math.sqrt(len(worse))
            tie = _TIE if key.endswith("_error") else 0.0
            if worse.mean() > max(2 * error, tie, 1e-9):
                missing.append(
                    f"{name}: {key} worse by {worse.mean():.4f} ± {error:.4f} than "
                    f"{best['method']}"
                )
        if "porosity_error" in model[0]:
            ours, given = (
                float(np.mean([_badness(s, "porosity_error") for s in rows]))
                for rows in (model, of_set[INPUT])
            )
            if ours > max(given / 3, _TIE):
                missing.append(
                    f"{name}: porosity error {ours:.1%}, the input's {given:.1%}"
                )
    return missing


def _mean(rows: list[Figures], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))  # type: ignore[arg-type]


def _badness(row: Figures, key: str) -> float:
    value = row[key]
    assert value is not None
    return 1 - value if key == "dice" else abs(value)
