"""Evaluate models on scans for which earlier models failed without a warning.

    python benchmarks/bench_hard_cases.py --data FOLDER
        [--out docs/evidence/verdicts.md]

`FOLDER` contains ``berea.zip`` (a segmented sandstone). There are three kinds of scans:
its pores, blurred by 0.7 voxel, with noise that is correlated along all axes or in the
plane; a physical simulation of the same pores, from few photons and with a blurring
scintillator; and clean felts, weaves and volumes of several grey phases, which should
remain unchanged.

A result is correct if its number of pores per mm³ is within 20 % of the ground truth
(clean volumes: if its porosity is within 1 %). It is flagged if the verdict before the
run is not ``ok``, or if a remark states that pores of the counted size cannot be
counted.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.transform import iradon, radon

from _document import replace_section
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.probes import noise_like
from napari_geosr.measure.comparison.quality import compare_pores
from napari_geosr.operations.restore import RestoreConfig, restore_steps
from napari_geosr.operations.restore.verdict.run_verdict import LOST_SIZE
from napari_geosr.physics.specimens import textiles

Array = npt.NDArray[np.float32]
MODELS = ("ct-denoise", "porous-denoise", "foam-denoise", "gaussian", "auto")
SHAPE, EDGE = (32, 112, 112), 8
VIEWS, PHOTONS, BLUR = 180, 20, 0.7
#: Line integral through the thickest part of the sample.
THICKEST = 1.5
#: Smaller pores are not counted.
MIN_PORE_VOXELS = 8
RIGHT_PORES, RIGHT_POROSITY = 0.2, 0.01


@dataclass(frozen=True)
class Case:
    """A scan with dark pores, its ground truth, and whether it is free of noise."""

    name: str
    scan: Array
    truth: npt.NDArray[np.bool_]
    is_clean: bool = False


def rock(data: Path, first: int) -> npt.NDArray[np.bool_]:
    """Pores of a part of the sandstone, with a margin; True inside pores."""
    with zipfile.ZipFile(data / "berea.zip") as packed:
        volume = tifffile.imread(io.BytesIO(packed.read("berea.tif")))
    size = [n + 2 * EDGE for n in SHAPE]
    part = volume[first : first + size[0], 100 : 100 + size[1], 120 : 120 + size[2]]
    pores: npt.NDArray[np.bool_] = part == part.min()
    return pores if pores.mean() < 0.5 else ~pores


def cut(volume: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Remove the margin from a volume."""
    return volume[tuple(slice(EDGE, EDGE + n) for n in SHAPE)]


def by_physics(pores: npt.NDArray[np.bool_], seed: int) -> Array:
    """Simulate few photons and the blur of a scintillator, and reconstruct by FBP."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 180, VIEWS, endpoint=False)
    solid = (~pores).astype(np.float64)
    paths = np.stack([radon(plane, angles, circle=False) for plane in solid])
    scale = THICKEST / paths.max()
    photons = rng.poisson(PHOTONS * np.exp(-scale * paths)).astype(np.float64)
    # The light of each photon spreads over neighbouring pixels, also across rows.
    seen = ndimage.gaussian_filter(photons, (BLUR, BLUR, 0))
    integrals = -np.log(np.maximum(seen, 0.3) / PHOTONS)
    slices = [
        iradon(plane, angles, pores.shape[1], "hann", circle=False)
        for plane in integrals
    ]
    return (np.stack(slices) / scale).astype(np.float32)


def cases(data: Path) -> Iterator[Case]:
    """Simulate all scans."""
    for first in (60, 220):
        pores = rock(data, first)
        clean = ndimage.gaussian_filter((~pores).astype(np.float32), BLUR)
        seen = np.asarray(cut(clean), np.float32)
        truth = seen < threshold_otsu(seen)  # from the scan without noise
        for name, z in (("in the plane", 0.01), ("along all axes", 0.5)):
            rng = np.random.default_rng(first)
            noise = noise_like(clean.shape, {"z": z, "y": 0.5, "x": 0.5}, rng)
            scan = np.asarray(cut(clean + 0.3 * noise), np.float32)
            yield Case(f"sandstone, 30 % noise correlated {name}", scan, truth)
        scan = np.asarray(cut(by_physics(pores, first)), np.float32)
        yield Case("sandstone, 20 photons per pixel, 180 projections", scan, truth)
    for seed in (3, 4):
        for name, made in (
            ("felt", textiles.felt(SHAPE, seed=seed).fraction),
            ("weave", textiles.weave(SHAPE, seed=seed).fraction),
            ("several phases", 1 - textiles.several_phases(SHAPE, seed=seed).grey),
        ):
            scan = 100 * ndimage.gaussian_filter(1 - made.astype(np.float32), 0.7)
            yield Case(f"{name}, clean", scan, scan < threshold_otsu(scan), True)


def row(case: Case, model: str) -> tuple[str, bool, str, bool]:
    """Evaluate one model on one case.

    Returns the line of the table, whether the result is correct, the verdict, and
    whether a remark states that pores of the counted size cannot be counted.
    """
    volume = Volume(case.scan, "ZYX", name="scan")
    steps = restore_steps(volume, RestoreConfig.create(model=model), look=True)
    made = run_to_end(steps)
    result = np.asarray(made.volume.data, np.float32)
    threshold = threshold_otsu(case.scan if case.is_clean else result)
    pores = compare_pores(result < threshold, case.truth, smallest=MIN_PORE_VOXELS)
    before = compare_pores(
        case.scan < threshold_otsu(case.scan), case.truth, smallest=MIN_PORE_VOXELS
    )
    level = "ok" if made.verdict is None else str(made.verdict.level)
    figures = {} if made.verdict is None else made.verdict.figures
    lost = figures.get(LOST_SIZE, 0.0)
    verdict = f"{level}, none up to {lost:.0f}" if lost else level
    limit = RIGHT_POROSITY if case.is_clean else RIGHT_PORES
    error = pores.porosity_error if case.is_clean else pores.pores_per_mm3_error
    name = model
    if model == "auto":
        record = made.volume.provenance[-1].get("model") or {}
        name = f"auto ({record.get('name', '')})"
    right = abs(error) <= limit
    text = (
        f"| {case.name} | {name} | {before.porosity_error:+.1%} | "
        f"{pores.porosity_error:+.1%} | {before.pores_per_mm3_error:+.0%} | "
        f"{pores.pores_per_mm3_error:+.0%} | {verdict} | "
        f"{'correct' if right else 'wrong'} |"
    )
    return text, right, level, lost >= MIN_PORE_VOXELS


def main() -> None:
    """Print the table, and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "The table gives the errors of the porosity and of the number of pores per mm³ "
        f"(pores of at least {MIN_PORE_VOXELS} voxels, Otsu's threshold) relative to "
        "the ground truth, for the scan and for the result. In the column *verdict*, "
        "*none up to 81* stands for the remark that pores of up to 81 voxels cannot be "
        "counted. A result is "
        f"correct if its number of pores per mm³ is within {RIGHT_PORES:.0%} of the "
        "ground truth (for clean volumes: if its porosity is within "
        f"{RIGHT_POROSITY:.0%}).",
        "",
        "| scan | model | porosity error of scan | porosity error of result | "
        "pores/mm³ error of scan | pores/mm³ error of result | verdict | result |",
        "|---|---|---|---|---|---|---|---|",
    ]
    silent = limited = n = 0
    for case in cases(given.data):
        for model in MODELS:
            text, right, level, is_limited = row(case, model)
            print(text, flush=True)
            lines.append(text)
            n += 1
            if not right and level == "ok":
                limited += is_limited
                silent += not is_limited
    lines += [
        "",
        f"Of {n} results, {silent} are wrong without any flag, and {limited} are wrong "
        "with the verdict *ok*, but with the remark that pores of this size cannot be "
        "counted.",
    ]
    print(lines[-1])
    if given.out:
        replace_section(given.out, "hard cases", "\n".join(lines))


if __name__ == "__main__":
    main()
