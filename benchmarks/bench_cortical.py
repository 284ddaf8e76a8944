"""Recovery of cortical pores by super-resolution, by pore width.

Simulated Haversian and Volkmann canals, 20 to 330 µm wide, are imaged as a clinical
HR-pQCT scanner with voxels of 82 µm would, and super-resolved by a factor of eight, to
voxels of 10.25 µm. The same lightweight network is trained with a loss on grey
values alone and with additional geometry-aware losses. Prints, for each class of canal
widths, the fractions of found and invented voxels and the error of the porosity, and
the width below which less than half is found; or writes this into a document with
``--out``.

    python benchmarks/bench_cortical.py --out docs/geometry.md
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from _document import replace_section
from bench_geometry import AWARE, GENERIC, cubic, super_resolved, write_pairs
from napari_geosr.core.volume import Volume
from napari_geosr.learning.phases import find_phases
from napari_geosr.measure.comparison.quality import dice, psnr
from napari_geosr.measure.local_thickness.spheres import local_thickness
from napari_geosr.physics import scans
from napari_geosr.physics.scans import Imaging, Scan
from napari_geosr.physics.specimens import tubes

FACTOR = 8
COARSE_MICROMETRES = 82.0
FINE_MICROMETRES = COARSE_MICROMETRES / FACTOR
#: Number of coarse voxels along each edge.
EDGE = 20
TRAINED_ON, JUDGED_ON = 12, 2
_TEST_SEED = 70_000
#: Radii of the canals in fine voxels.
RADII = (1.0, 16.0)
IMAGING = Imaging(noise=0.05, noise_kind="independent", blur=0.5, downsample=FACTOR)
#: Upper limits of the width classes, in micrometres.
CLASSES = (41.0, 82.0, 123.0, 164.0, 246.0, np.inf)
FOUND = 0.5

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


def specimen(seed: int) -> Scan:
    """Return a coarse scan of canals, and the object."""
    n = EDGE * FACTOR
    phantom = tubes.cortical_canals(
        (n, n, n), number=16, radius=RADII, links=10, seed=seed
    )
    return scans.scan(phantom, IMAGING, seed=seed)


@dataclass
class Widths:
    """Numbers of pore voxels by the width of their canal.

    Attributes
    ----------
    true, found, made : ndarray of shape (classes,), int
        Pore voxels of the object; those that are also pores in the result; and false
        pore voxels of the result, by their width in the result.
    own : ndarray of shape (classes,), int
        All pore voxels of the result, by their width in the result.
    """

    true: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    made: npt.NDArray[np.int64]
    own: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pores: Mask, scan: Scan, true_width: Floats) -> Widths:
        """Count the pore voxels of one volume."""
        width = local_thickness(pores) * FINE_MICROMETRES
        return cls(
            _by_class(true_width[scan.mask]),
            _by_class(true_width[scan.mask & pores]),
            _by_class(width[pores & ~scan.mask]),
            _by_class(width[pores]),
        )

    def __add__(self, other: Widths) -> Widths:
        return Widths(
            self.true + other.true,
            self.found + other.found,
            self.made + other.made,
            self.own + other.own,
        )


def _by_class(widths: Floats) -> npt.NDArray[np.int64]:
    edges = [0.0, *CLASSES]
    return np.histogram(widths, bins=edges)[0].astype(np.int64)


def limit(widths: Widths) -> float:
    """Return the width in µm above which at least half of the pore voxels are found."""
    share = widths.found / np.maximum(widths.true, 1)
    least = np.inf
    for i in reversed(range(len(CLASSES))):
        if share[i] < FOUND:
            break
        least = 0.0 if i == 0 else CLASSES[i - 1]
    return least


def table(found: Mapping[str, Widths]) -> str:
    """Return one row for each width class."""
    head = " | ".join(f"{way}: found | invented | porosity" for way in found)
    lines = [
        f"| width (µm) | fraction of the pores | {head} |",
        "|---|---|" + "---|" * 3 * len(found),
    ]
    first = next(iter(found.values()))
    for i, upper in enumerate(CLASSES):
        low = 0 if i == 0 else CLASSES[i - 1]
        word = f"over {low:.0f}" if np.isinf(upper) else f"{low:.0f} to {upper:.0f}"
        cells = [word, f"{first.true[i] / first.true.sum():.0%}"]
        for widths in found.values():
            true = max(int(widths.true[i]), 1)
            cells += [
                f"{widths.found[i] / true:.0%}",
                f"{widths.made[i] / true:.0%}",
                f"{widths.own[i] / true - 1:+.0%}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def summary(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table of the results for whole volumes."""
    lines = [
        "| | PSNR (dB) | porosity error | Dice "
        "| width above which at least half is found |",
        "|---|---|---|---|---|",
    ]
    for way, row in rows.items():
        least = row["limit"]
        word = "nowhere" if np.isinf(least) else f"{least:.0f} µm"
        if least == 0:
            word = "all widths"
        lines.append(
            f"| {way} | {row['psnr']:.2f} | {row['porosity']:+.1%} | "
            f"{row['dice']:.3f} | {word} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, restore and count; print the tables, or write them into a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--aware", default=AWARE, help="geometry-aware losses of the second network"
    )
    parser.add_argument("--out", type=Path, help="document to write the tables into")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = [specimen(i) for i in range(TRAINED_ON)]
    tests = [specimen(_TEST_SEED + i) for i in range(JUDGED_ON)]
    widths = [local_thickness(t.mask) * np.float32(FINE_MICROMETRES) for t in tests]
    threshold = find_phases([Volume(one.clean, "ZYX") for one in made]).threshold
    found: dict[str, Widths] = {}
    rows: dict[str, dict[str, float]] = {}

    def judge(way: str, volumes: Sequence[Floats]) -> None:
        masks = [volume <= threshold for volume in volumes]
        parts = [
            Widths.of(m, t, w) for m, t, w in zip(masks, tests, widths, strict=True)
        ]
        found[way] = sum(parts[1:], start=parts[0])
        true = sum(int(t.mask.sum()) for t in tests)
        rows[way] = {
            "psnr": float(
                np.mean(
                    [psnr(v, t.clean, 1.0) for v, t in zip(volumes, tests, strict=True)]
                )
            ),
            "porosity": sum(int(m.sum()) for m in masks) / true - 1,
            "dice": float(
                np.mean([dice(m, t.mask) for m, t in zip(masks, tests, strict=True)])
            ),
            "limit": limit(found[way]),
        }
        print(way, rows[way], flush=True)

    judge("cubic", [cubic(t.noisy, FACTOR) for t in tests])
    with tempfile.TemporaryDirectory() as name:
        source, target = write_pairs(made, FACTOR, Path(name))
        for way, loss in (("grey values", GENERIC), ("geometry", arguments.aware)):
            learned = super_resolved(
                [t.noisy for t in tests],
                Path(name),
                loss,
                source=source,
                target=target,
                upscale_factor=FACTOR,
                steps=arguments.steps,
                patch=8,
                seed=arguments.seed,
            )
            judge(way, learned.volumes)
    n = EDGE * FACTOR
    text = "\n".join(
        (
            "Generated with `python benchmarks/bench_cortical.py "
            f"--steps {arguments.steps} --seed {arguments.seed} "
            f"--aware {arguments.aware}`. The networks were tested on {JUDGED_ON} "
            f"volumes of {n}³ voxels of {FINE_MICROMETRES:.2f} µm, super-resolved from "
            f"voxels of {COARSE_MICROMETRES:g} µm (blur of {IMAGING.blur} voxel; noise "
            f"of {IMAGING.noise:.0%} of the contrast), and trained on {TRAINED_ON} "
            "others. The width at a voxel is the diameter of the largest sphere in "
            "the pore that contains the voxel. "
            "*Found*: fraction of the true pore voxels that are pores in the result. "
            "*Invented*: false pore voxels of that width in the result, relative to "
            "the true pore voxels of that class. *Porosity*: error in the porosity of "
            "pores of that class, where the pores of the result are classified by "
            "their width in the result.\n",
            summary(rows),
            table(found),
        )
    )
    if arguments.out:
        replace_section(arguments.out, "cortical bone", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
