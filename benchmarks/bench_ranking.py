"""Compare the ranking of denoisers by expected error with the true ranking.

Noise of known level is added to structures with a known noise-free version: real
volumes (bone, cement, and sandstone blurred by 0.7 voxels; the noise of the volumes
themselves counts as structure) and simulated ones. `models rank` then ranks the
candidates from the noisy version alone; the true error of each candidate is measured on
the same blocks. Prints Markdown tables, or writes them into a document with ``--out``.

    python benchmarks/bench_ranking.py --out docs/evidence/ranking.md
    python benchmarks/bench_ranking.py --images --out docs/evidence/ranking.md

With ``--images``, the structures are images: parts of real ones, and simulated cells.
Uses one thread by default. Real volumes are read from ``--data`` and omitted if they do
not exist. Rows are stored in ``--work``, so an interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from scipy import ndimage, stats
from skimage.io import imread

from _document import replace_section
from napari_geosr.core.noise import FLOOR
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import scan_steps
from napari_geosr.inference.risk.evaluation import draw_sample
from napari_geosr.inference.risk.probes import noise_like
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.restore.ranking import RankConfig, rank_steps
from napari_geosr.operations.restore.ranking.tune import TrialSetup
from napari_geosr.operations.restore.scale import scaled
from napari_geosr.physics import fluorescence
from napari_geosr.physics.noise import reconstruction_noise
from napari_geosr.physics.simulated import open_simulated

SHAPE = (16, 96, 96)
KINDS = ("independent", "of a reconstruction", "blurred, 3D")
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4)
#: Kinds of noise in images, and the correlation of adjacent pixels.
IMAGE_LAGS = {"independent": 0.0, "blurred": 0.67}
IMAGE_EDGE = 256
#: Accepted losses relative to the best candidate, and relative to the scan (dB).
CLOSE, HARM = 0.3, 0.1
#: Error of a stated gain from rounding (dB).
ROUNDED = 0.05
MODELS = ("ct-denoise", "gaussian", "tv", "nlm")
IMAGE_MODELS = ("fluo-denoise", *MODELS)

Array = np.ndarray


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--images", action="store_true", help="images, not volumes")
    parser.add_argument("--levels", type=float, nargs="*", default=list(LEVELS))
    parser.add_argument("--work", type=Path, default=Path("build/ranking"))
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one level, one structure")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.models = options.models or (IMAGE_MODELS if options.images else MODELS)
    if options.quick:
        options.levels = options.levels[-2:-1]
    options.work.mkdir(parents=True, exist_ok=True)
    rows = list(all_rows(options))
    text = table(rows)
    print(f"\n{text}")
    if options.out is not None:
        name = "ranking of images" if options.images else "ranking"
        replace_section(options.out, name, text)
    return 0


def all_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per structure, noise and level; stored rows are not computed again."""
    known = list((images if options.images else structures)(options.data))
    known = known[: 1 if options.quick else None]
    own = {name: estimate_noise(_volume(c)).relative for name, c in known}
    kinds = tuple(IMAGE_LAGS) if options.images else KINDS
    for level, kind, (name, clean) in itertools.product(options.levels, kinds, known):
        label = f"{name}-{kind}-{level:g}".replace(" ", "_")
        kept = options.work / f"{label}.json"
        if kept.exists():
            yield json.loads(kept.read_text())
            continue
        row = judged(clean, kind, level, options)
        row |= {"structure": name, "kind": kind, "level": level, "own": own[name]}
        kept.write_text(json.dumps(row))
        print(
            f"{label}: {row['choice']}, loss {row['loss']:.2f} dB, gain "
            f"{row['gain']:+.2f} dB, rank correlation {row['rho']:.2f}",
            flush=True,
        )
        yield row


def structures(data: Path) -> Iterator[tuple[str, Array]]:
    """Noise-free volumes, float32."""
    cut = tuple(slice(40, 40 + n) for n in SHAPE)
    for name in ("bone", "cement"):
        path = data / "ct_volumes" / f"{name}_128x128x128.tif"
        if path.exists():
            yield name, tifffile.imread(path)[cut[0], 16:112, 16:112].astype(np.float32)
    path = data / "ct_volumes" / "berea.zip"
    if path.exists():
        yield "sandstone", berea(path)
    for number in (90_001, 90_002):
        (volume,) = open_simulated(f"simulated:ct-scan-clean:{number}-{number}")
        yield f"simulated {number - 90_000}", np.asarray(volume.data[:, 16:112, 16:112])


def images(data: Path) -> Iterator[tuple[str, Array]]:
    """Images with little noise, float32."""

    def part(image: Array, y: int, x: int) -> Array:
        return image[y : y + IMAGE_EDGE, x : x + IMAGE_EDGE].astype(np.float32)

    path = data / "microscopy" / "hela-cells.tif"
    if path.exists():
        cells = tifffile.imread(path)
        yield "HeLa cells, channel 1", part(cells[..., 0], 256, 380)
        yield "HeLa cells, channel 3", part(cells[..., 2], 200, 300)
    for number in (1, 24):
        path = data / "sim" / f"semisynthetic_microtubules_{number}_groundtruth.png"
        if path.exists():
            yield f"microtubules {number}", part(imread(path, as_gray=True), 100, 100)
    path = data / "radiographs" / "chest_00000001_000.png"
    if path.exists():
        yield "chest radiograph", part(imread(path, as_gray=True), 128, 128)
    path = data / "projections" / "shale_recon_reference.tiff"
    if path.exists():
        yield "slice of shale", part(tifffile.imread(path)[..., 0], 55, 55)
    for seed in (11, 12, 13, 14):
        rng = np.random.default_rng([777, seed])
        microscope = fluorescence.random_microscope(rng)
        shape = (9, IMAGE_EDGE, IMAGE_EDGE)
        light = fluorescence.random_phantom(shape, rng, step=microscope.step)
        image = 100 * fluorescence.blurred_image(light, microscope)[4]
        yield f"simulated cells {seed - 10}", image.astype(np.float32)


def _volume(data: Array) -> Volume:
    return Volume(data, "ZYX"[3 - data.ndim :], name="scan")


def berea(path: Path) -> Array:
    """A part of the segmented sandstone, blurred by 0.7 voxels."""
    with zipfile.ZipFile(path) as archive:
        found = [n for n in archive.namelist() if n.lower().endswith((".tif", ".raw"))]
        content = archive.read(found[0])
    if found[0].lower().endswith(".tif"):
        import io

        whole = tifffile.imread(io.BytesIO(content))
    else:
        whole = np.frombuffer(content, np.uint8)
        edge = round(len(whole) ** (1 / 3))
        whole = whole.reshape((edge,) * 3)
    part = whole[40:56, 100:196, 100:196].astype(np.float32)
    return ndimage.gaussian_filter(part / max(float(part.max()), 1.0), 0.7)


def judged(
    clean: Array, kind: str, level: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Rank the candidates on a noisy version, then measure their true errors."""
    contrast = float(np.subtract(*np.percentile(clean, [98, 2])))
    rng = np.random.default_rng([20_814, round(1000 * level), len(kind)])
    if kind == "of a reconstruction":
        unit = reconstruction_noise(clean.shape, 1.0, rng)
    else:
        along = {"blurred, 3D": 0.5, **IMAGE_LAGS}[kind]
        unit = noise_like(clean.shape, dict.fromkeys("zyx"[-clean.ndim :], along), rng)
    noisy = (clean + level * contrast * unit).astype(np.float32)
    volume = _volume(noisy)
    config = RankConfig(models=tuple(options.models), threads=options.threads)
    ranking = run_to_end(rank_steps(volume, config))
    statistics = run_to_end(scan_steps(noisy))
    sample = draw_sample(noisy, ranking.noise, second=clean)
    setup = TrialSetup(sample, statistics, ranking.noise, "cpu", options.threads)
    true, expected = {"none": 0.0}, {"none": 0.0}
    intervals = {"none": (0.0, 0.0)}
    for row in ranking.rows:
        if row.model is None:
            continue
        scale = scaled(statistics, row.model.card, volume)
        cells = replace(setup, strength=row.run_strength).cells(row.model, scale)
        assert cells.second is not None
        before, after = cells.mean(cells.second), cells.mean(cells.removed)
        true[row.name] = 10 * float(np.log10(before / after))
        expected[row.name] = max(row.gain, -30.0)
        intervals[row.name] = tuple(max(end, -30.0) for end in row.interval)
    names = list(true)
    rho = 1.0
    if len(names) > 2:
        rho = float(
            stats.spearmanr([true[n] for n in names], [expected[n] for n in names])[0]
        )
    best = max(true, key=lambda name: true[name])
    return {
        "choice": ranking.choice,
        "best": best,
        "gain": true[ranking.choice],
        "loss": true[best] - true[ranking.choice],
        "rho": rho,
        "true": true,
        "expected": expected,
        "intervals": intervals,
        "strength": ranking.chosen.run_strength,
        "measured": ranking.noise.relative,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Loss of the chosen candidate, for each noise level and in total."""
    lines = [
        "| added noise | cases | within 0.3 dB of the best | worst loss | worse than "
        "the scan by > 0.1 dB | rank correlation | gain of the chosen candidate | "
        "gain of the best candidate | within the stated interval: chosen | all |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    judged_ = [row for row in rows if row["level"] > max(row["own"], FLOOR)]
    levels = sorted({row["level"] for row in judged_})
    lines += [_line(f"{100 * level:g} %", judged_, level) for level in levels]
    lines.append(_line("all", judged_, None))
    aside = len(rows) - len(judged_)
    lines += [
        "",
        f"In {aside} further cases, the added noise is weaker than the original noise. "
        "These cases are excluded, because removing the original noise would count as "
        "an error.",
    ]
    wrong = [row for row in judged_ if row["loss"] > CLOSE]
    if wrong:
        lines += [
            "",
            "The next table lists the cases with a loss of more than 0.3 dB:",
            "",
            "| structure | kind of noise | added | measured | chosen candidate (gain) "
            "| best candidate (gain) |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['structure']} | {row['kind'].removeprefix('of a ')} "
            f"| {100 * row['level']:g} % | {100 * row['measured']:.1f} % "
            f"| {row['choice']} ({row['gain']:+.1f} dB) "
            f"| {row['best']} ({row['true'][row['best']]:+.1f} dB) |"
            for row in wrong
        ]
    return "\n".join(lines)


def _covered(rows: list[dict[str, Any]], *, only_chosen: bool) -> str:
    """Return how many true gains are within the interval that the ranking states."""
    inside = [
        low - ROUNDED <= row["true"][name] <= high + ROUNDED
        for row in rows
        for name, (low, high) in row["intervals"].items()
        if name != "none" and (name == row["choice"] or not only_chosen)
    ]
    return f"{sum(inside)} of {len(inside)}"


def _line(name: str, rows: list[dict[str, Any]], level: float | None) -> str:
    found = [row for row in rows if level is None or row["level"] == level]
    close = sum(row["loss"] <= CLOSE for row in found)
    harmful = sum(row["gain"] < -HARM for row in found)
    cells = [
        name,
        str(len(found)),
        f"{close} ({close / len(found):.0%})",
        f"{max(row['loss'] for row in found):.1f} dB",
        str(harmful),
        f"{np.mean([row['rho'] for row in found]):.2f}",
        f"{np.mean([row['gain'] for row in found]):+.1f} dB",
        f"{np.mean([row['gain'] + row['loss'] for row in found]):+.1f} dB",
        _covered([row for row in found if row["choice"] != "none"], only_chosen=True),
        _covered(found, only_chosen=False),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    raise SystemExit(main())
