"""Evaluate models on scans for which earlier models failed without a warning.

    python benchmarks/bench_hard_cases.py --data FOLDER
        [--out docs/evidence/hard_cases.md]

`FOLDER` contains ``berea.zip`` (a segmented sandstone). There are three kinds of scans:
its pores, blurred by 0.7 voxel, with noise that is correlated along all axes or in the
plane; a physical simulation of the same pores, from few photons and with a blurring
scintillator; and clean felts, weaves and volumes of several grey phases, which should
remain unchanged. The last three are also averaged over 2 × 2 × 2 voxels and
super-resolved.

A result is judged twice: by its number of pores of at least 8 voxels (clean volumes: by
its porosity), and by its number of pores above the size that the remark before the run
states.
"""

from __future__ import annotations

import argparse
import io
import itertools
import zipfile
from collections.abc import Iterator, Sequence
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
from napari_geosr.measure.comparison.quality import (
    compare_pores,
    psnr,
    relative_error,
)
from napari_geosr.operations.restore import (
    RestorationResult,
    RestoreConfig,
    restore_steps,
)
from napari_geosr.operations.restore.verdict.run_verdict import LOST_SIZE
from napari_geosr.physics.sampling import area_downsample
from napari_geosr.physics.specimens import textiles

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
MODELS = ("ct-denoise", "porous-denoise", "foam-denoise", "gaussian", "auto")
UPSCALING_MODELS = ("ct-sr-x2", "foam-sr-x2")
SHAPE, EDGE = (32, 112, 112), 8
#: Shape of the phantoms that are averaged and super-resolved.
FINE_SHAPE = (48, 192, 192)
FACTOR = 2
VIEWS, PHOTONS, BLUR = 180, 20, 0.7
#: Line integral through the thickest part of the sample.
THICKEST = 1.5
#: Smaller pores are not counted.
MIN_PORE_VOXELS = 8
RIGHT_PORES, RIGHT_POROSITY = 0.2, 0.01
#: Gain in dB below which super-resolution counts as worse than interpolation.
MIN_GAIN = -0.1
#: Part of the remark that pores cannot be counted with Otsu's threshold.
INSEPARABLE = "threshold does not separate pores from the other voxels of the result"


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
    for name, clean in clean_volumes(SHAPE):
        yield Case(f"{name}, clean", clean, clean < threshold_otsu(clean), True)


def clean_volumes(shape: tuple[int, int, int]) -> Iterator[tuple[str, Array]]:
    """Generate blurred phantoms without noise."""
    for seed in (3, 4):
        for name, made in (
            ("felt", textiles.felt(shape, seed=seed).fraction),
            ("weave", textiles.weave(shape, seed=seed).fraction),
            ("several phases", 1 - textiles.several_phases(shape, seed=seed).grey),
        ):
            solid = 1 - made.astype(np.float32)
            yield name, 100 * ndimage.gaussian_filter(solid, BLUR)


@dataclass(frozen=True)
class Countable:
    """Pores above the size that the remark before the run states.

    Attributes
    ----------
    true : int
        Number of these pores in the ground truth.
    shown : int
        Number of pores above this size in the result.
    found : int
        Number of the true pores of which the result shows at least half.
    invented : int
        Number of pores above this size in the result where there is no true pore.
    """

    true: int
    shown: int
    found: int
    invented: int

    @classmethod
    def of(cls, result: Mask, truth: Mask, smallest: float) -> Countable:
        """Compare the pores of a result with the true ones."""
        (labels, sizes), (true_labels, true_sizes) = (
            labelled(mask) for mask in (result, truth)
        )
        numbers = 1 + np.flatnonzero(sizes >= smallest)
        true_numbers = 1 + np.flatnonzero(true_sizes >= smallest)
        kept = ndimage.mean(result.astype(float), true_labels, true_numbers)
        overlap = ndimage.sum(truth, labels, numbers)
        return cls(
            true=len(true_numbers),
            shown=len(numbers),
            found=int(np.sum(np.asarray(kept) >= 0.5)),
            invented=int(np.sum(np.asarray(overlap) == 0)),
        )

    @property
    def error(self) -> float:
        """Relative error of the number of pores."""
        return relative_error(self.shown, self.true)

    @property
    def is_right(self) -> bool:
        """Whether the number of pores is correct."""
        return abs(self.error) <= RIGHT_PORES

    @property
    def are_divided(self) -> bool:
        """Whether there are too many pores only because some were divided."""
        return self.shown > self.true == self.found and self.invented == 0


def labelled(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """Label pores, connected across faces, edges and corners; return their sizes."""
    labels, n = ndimage.label(mask, np.ones((3, 3, 3)))
    return labels, np.bincount(labels.ravel(), minlength=n + 1)[1:]


@dataclass(frozen=True)
class Evaluation:
    """Errors of one result.

    Attributes
    ----------
    text : str
        Line of the table.
    level : str
        Level of the verdict before the run.
    is_clean : bool
        Whether the scan is free of noise.
    is_limited : bool
        Whether a remark states that pores of the default size cannot be counted.
    is_right : bool
        Whether the number of pores of at least `MIN_PORE_VOXELS` voxels (clean volumes:
        the porosity) is correct.
    countable : Countable or None
        Pores above the size that the remark states; None if no pores can be
        counted with Otsu's threshold.
    """

    text: str
    level: str
    is_clean: bool
    is_limited: bool
    is_right: bool
    countable: Countable | None


def run(scan: Array, model: str) -> tuple[RestorationResult, Array, str]:
    """Restore a scan; return the run, the result and the level of the verdict."""
    volume = Volume(scan, "ZYX", name="scan")
    steps = restore_steps(volume, RestoreConfig.create(model=model), look=True)
    made = run_to_end(steps)
    level = "ok" if made.verdict is None else str(made.verdict.level)
    return made, np.asarray(made.volume.data, np.float32), level


def evaluate(case: Case, model: str) -> Evaluation:
    """Evaluate one denoiser on one case."""
    made, result, level = run(case.scan, model)
    found = result < threshold_otsu(case.scan if case.is_clean else result)
    pores = compare_pores(found, case.truth, smallest=MIN_PORE_VOXELS)
    before = compare_pores(
        case.scan < threshold_otsu(case.scan), case.truth, smallest=MIN_PORE_VOXELS
    )
    figures = {} if made.verdict is None else made.verdict.figures
    limits = () if made.verdict is None else made.verdict.limits
    lost = figures.get(LOST_SIZE, 0.0)
    verdict = f"{level}, none up to {lost:.0f}" if lost else level
    limit = RIGHT_POROSITY if case.is_clean else RIGHT_PORES
    error = pores.porosity_error if case.is_clean else pores.pores_per_mm3_error
    is_right = abs(error) <= limit
    countable = None
    cells = "– | – | –"
    if any(INSEPARABLE in each.sentence for each in limits):
        verdict = f"{level}, threshold by hand"
    else:
        smallest = max(MIN_PORE_VOXELS, lost + 1)
        countable = Countable.of(found, case.truth, smallest)
        cells = (
            f"{countable.shown}, {countable.true} ({countable.error:+.0%}) | "
            f"{countable.found}, {countable.invented} | "
            f"{correctness(countable.is_right)}"
        )
    name = model
    if model == "auto":
        record = made.volume.provenance[-1].get("model") or {}
        name = f"auto ({record.get('name', '')})"
    text = (
        f"| {case.name} | {name} | {before.porosity_error:+.1%} | "
        f"{pores.porosity_error:+.1%} | {before.pores_per_mm3_error:+.0%} | "
        f"{pores.pores_per_mm3_error:+.0%} | {verdict} | {correctness(is_right)} | "
        f"{cells} |"
    )
    is_limited = lost >= MIN_PORE_VOXELS
    return Evaluation(text, level, case.is_clean, is_limited, is_right, countable)


def correctness(is_right: bool) -> str:
    """Return the word for the table."""
    return "correct" if is_right else "wrong"


def denoising_table(data: Path) -> Iterator[str]:
    """Yield the lines about denoisers."""
    yield (
        "The table gives the errors of the porosity and of the number of pores per mm³ "
        f"(pores of at least {MIN_PORE_VOXELS} voxels, Otsu's threshold) relative to "
        "the ground truth, for the scan and for the result. In the column *verdict*, "
        "*none up to 81* stands for the remark that pores of up to 81 voxels cannot be "
        "counted, and *threshold by hand* for the remark that Otsu's threshold does "
        "not separate pores. Every result is judged twice:"
    )
    yield ""
    yield (
        f"- *all pores*: correct if the number of pores of at least {MIN_PORE_VOXELS} "
        f"voxels is within {RIGHT_PORES:.0%} of the ground truth (for clean volumes: "
        f"if the porosity is within {RIGHT_POROSITY:.0%});"
    )
    yield (
        "- *larger pores*: correct if the number of pores above the size stated by "
        f"the remark (without a remark: of at least {MIN_PORE_VOXELS} voxels) is "
        f"within {RIGHT_PORES:.0%} of the ground truth. The two columns before give "
        "their number in the result and in the ground truth, how many of the true ones "
        "are *found* (the result shows at least half of their voxels), and how many "
        "are *invented* (no true pore is there)."
    )
    yield ""
    yield (
        "| scan | model | porosity error of scan | porosity error of result | "
        "pores/mm³ error of scan | pores/mm³ error of result | verdict | all pores | "
        "larger pores in result, truth | found, invented | larger pores |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    evaluations = []
    for case in cases(data):
        for model in MODELS:
            evaluations.append(evaluate(case, model))
            yield evaluations[-1].text
    yield ""
    yield summary(evaluations)


def summary(evaluations: Sequence[Evaluation]) -> str:
    """State how many results are wrong, with and without a flag."""
    fine = [each for each in evaluations if each.level == "ok"]
    wrong = [each for each in fine if not each.is_right]
    limited = sum(each.is_limited for each in wrong)
    noisy = [each.countable for each in fine if not each.is_clean and each.countable]
    clean = [each.countable for each in fine if each.is_clean and each.countable]
    miscounted = [each for each in noisy if not each.is_right]
    divided = sum(each.are_divided for each in miscounted)
    invented = sum(each.invented for each in noisy)
    return (
        f"Of {len(evaluations)} results, {len(wrong) - limited} are wrong in the "
        f"number of all pores without any flag, and {limited} are wrong with the "
        "verdict *ok*, but with the remark that pores of this size cannot be counted. "
        "The number of larger pores, which the remark calls uncertain, is wrong "
        f"in {len(miscounted)} of the {len(noisy)} results of scans with noise that "
        f"had the verdict *ok*, and in {sum(not each.is_right for each in clean)} of "
        f"the {len(clean)} of clean volumes. In {divided} of these {len(miscounted)}, "
        "all true pores are found and none is invented, but large pores are divided "
        f"at narrow throats. All {len(noisy)} together contain {invented} invented "
        f"and lack {sum(each.true - each.found for each in noisy)} of "
        f"{sum(each.true for each in noisy)} true pores of these sizes."
    )


def upscaling_table() -> Iterator[str]:
    """Yield the lines about super-resolution."""
    shape = " × ".join(str(n) for n in FINE_SHAPE)
    yield (
        f"For super-resolution, clean volumes of the same kinds ({shape} voxels) are "
        f"averaged over {FACTOR} × {FACTOR} × {FACTOR} voxels and super-resolved. The "
        "next table gives the PSNR relative to the original volume (range: 2nd to 98th "
        "percentile) and the gain over cubic interpolation. A result is *worse* if its "
        f"PSNR is more than {-MIN_GAIN} dB below that of the interpolation."
    )
    yield ""
    yield (
        "| scan | model | PSNR of cubic interpolation | PSNR of model | gain | "
        "expected gain (interval) | verdict | compared with cubic |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    n = worse = silent = false = 0
    for name, truth in clean_volumes(FINE_SHAPE):
        low, high = np.percentile(truth, [2, 98])
        scan = area_downsample(truth, FACTOR)
        cubic = psnr(run(scan, "cubic-x2")[1], truth, high - low)
        for model in UPSCALING_MODELS:
            made, result, level = run(scan, model)
            found = psnr(result, truth, high - low)
            expected = "–"
            if made.verdict is not None and made.verdict.gain is not None:
                gain, least, most = made.verdict.gain
                expected = f"{gain:+.1f} dB ({least:+.1f} to {most:+.1f})"
            is_worse = found - cubic < MIN_GAIN
            n, worse = n + 1, worse + is_worse
            silent += is_worse and level == "ok"
            false += not is_worse and level != "ok"
            yield (
                f"| {name} | {model} | {cubic:.1f} dB | {found:.1f} dB | "
                f"{found - cubic:+.1f} dB | {expected} | {level} | "
                f"{'worse' if is_worse else 'not worse'} |"
            )
    yield ""
    yield (
        f"Of {n} super-resolved results, {worse} are worse than cubic interpolation, "
        f"{silent} of them with the verdict *ok*. {false} of the others had the "
        "verdict *caution* or *harmful*."
    )


def main() -> None:
    """Print the tables, and write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for line in itertools.chain(denoising_table(given.data), [""], upscaling_table()):
        print(line, flush=True)
        lines.append(line)
    if given.out:
        replace_section(given.out, "hard cases", "\n".join(lines))


if __name__ == "__main__":
    main()
