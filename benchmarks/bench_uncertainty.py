"""Coverage of porosity intervals, and reliability of the consistency check.

The simulated scans are used neither for training nor for calibration. They have four
kinds of structure at two resolutions, with random noise, blur, contrast and porosity
(``scripts/pretraining/uncertain_scans.py``). Each scan is restored with eight flips and
rotations and measured with its standard deviations, as by ``restore --uncertainty tta``
and ``measure --uncertainty``, with the calibration on the model's card. Prints Markdown
tables, or writes them into the documents of a folder with ``--out``.

    python benchmarks/bench_uncertainty.py --out docs/evidence
    python benchmarks/bench_uncertainty.py --only-check --out docs/evidence

The second command skips the intervals, which take longest. Finished scans are stored in
the folder ``--work``, so an interrupted run can be resumed; if a model is recalibrated,
they are computed again. Uses one thread by default.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from _document import replace_section
from _wrong_results import WRONG, Scene
from napari_geosr import check_consistency, restore
from napari_geosr.core.volume import Volume
from napari_geosr.measure.interval import conformal_factor
from napari_geosr.models import zoo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from pretraining.coverage import Outcome, outcomes
from pretraining.uncertain_scans import (
    CONDITIONS,
    KINDS,
    RESOLUTIONS,
    TEST_SEED,
    Case,
    cases,
    draw,
)

#: Radii of invented pores, in voxels of the scan.
_FAKES = (2.0, 3.0)
#: Largest distance between an invented pore and a mark that counts as finding it, in
#: scan voxels.
_NEAR = 3.0
#: Smallest distance of an invented pore from real pores and from the border.
_APART = 3.0
#: Offset between the case numbers of an object and of the object that replaces it.
_OTHERS = 500
_KNOWN, _OWN = "the known object itself", "the result of the model"

Array = np.ndarray


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=list(CONDITIONS))
    parser.add_argument("--of-each", type=int, default=7, help="scans of each kind")
    parser.add_argument(
        "--checked", type=int, default=2, help="scans of each kind for the check"
    )
    parser.add_argument("--work", type=Path, default=Path("build/uncertainty"))
    parser.add_argument(
        "--out", type=Path, help="folder of the documents to write into"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--only-check", action="store_true", help="skip the porosity intervals"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only one scan of each kind"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.quick:
        options.of_each = options.checked = 1
    began = time.process_time()
    sections = {} if options.only_check else interval_sections(options)
    checks = {
        name: list(check(name, options.checked, options.threads))
        for name in options.models
    }
    sections |= {"check": check_table(checks), "check all over": wrong_table(checks)}
    print(f"{time.process_time() - began:.0f} s of CPU time", flush=True)
    for name, text in sections.items():
        print(f"\n{text}")
        if options.out is not None:
            page = "consistency.md" if name.startswith("check") else "intervals.md"
            replace_section(options.out / page, name, text)
    return 0


def interval_sections(options: argparse.Namespace) -> dict[str, str]:
    """Tables of the porosity intervals, by the name of their section."""
    found = {
        name: list(
            outcomes(name, TEST_SEED, options.of_each, options.work, options.threads)
        )
        for name in options.models
    }
    return {
        "coverage": coverage_table(found),
        "coverage by kind": kinds_table(found),
        "other kinds": other_kinds_table(found),
    }


def coverage_table(found: dict[str, list[Outcome]]) -> str:
    """Return one row per model: coverage and width of the intervals, and the errors."""
    rows = [
        "| model | scans | deviations | true porosity in the interval | "
        "median relative half-width | relative error: median; 90th percentile | "
        "true pores/mm³ in the interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        card = zoo.find(name).card.uncertainty
        if card is None:
            rows.append(f"| {name} | {len(each)} | not calibrated | – | – | – | – |")
            continue
        widths = [
            (o.interval[1] - o.interval[0]) / 2 / o.truth for o in each if o.interval
        ]
        errors = [abs(o.porosity - o.truth) / o.truth for o in each]
        rows.append(
            f"| {name} | {len(each)} | {card.factor:g} | "
            f"{share(o.is_held for o in each)}, nominal {card.nominal:.0%} | "
            f"{np.median(widths):.1%} | {np.median(errors):.1%}; "
            f"{np.quantile(errors, 0.9):.1%} | {share(o.holds_pores for o in each)} |"
        )
    return "\n".join(rows)


def kinds_table(found: dict[str, list[Outcome]]) -> str:
    """Number of scans with the true value in the interval, by kind and resolution."""
    rows = [
        "| kind of scan | " + " | ".join(found) + " |",
        "|---|" + "---|" * len(found),
    ]
    for kind in KINDS:
        for resolution in RESOLUTIONS:
            cells = []
            for each in found.values():
                own = [o for o in each if (o.kind, o.resolution) == (kind, resolution)]
                errors = [(o.porosity - o.truth) / o.truth for o in own]
                held = sum(o.is_held for o in own)
                cells.append(f"{held} of {len(own)} (error {np.median(errors):+.1%})")
            rows.append(f"| {kind}, {resolution} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def other_kinds_table(found: dict[str, list[Outcome]]) -> str:
    """Return the coverage for each kind with a calibration on all other kinds."""
    rows = [
        "| kind left out | " + " | ".join(found) + " |",
        "|---|" + "---|" * len(found),
    ]
    for kind in KINDS:
        cells = []
        for each in found.values():
            others = [o.needed for o in each if o.kind != kind]
            own = [abs(o.needed) for o in each if o.kind == kind]
            try:
                factor = conformal_factor(others, 0.9)
            except ValueError:
                cells.append("too few scans")
                continue
            held = sum(size <= factor for size in own)
            cells.append(f"{held} of {len(own)} ({factor:.1f} deviations)")
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


@dataclass(frozen=True)
class Check:
    """Marks of the consistency check in one result, with and without invented pores.

    Attributes
    ----------
    places : int
        Number of marks in the unmodified result.
    real : int
        Number of these marks at real errors: there, the result differs by more than a
        quarter of the contrast from the known object as imaged by the scanner.
    fakes : dict
        By radius, whether an invented pore was found; None if there was no space for
        one.
    fits : dict
        By name, whether a result is classified as consistent: the known object, the
        result of the model, and wrong results (``_wrong_results.py``).
    """

    case: Case
    places: int
    real: int
    fakes: dict[float, bool | None]
    fits: dict[str, bool]


def check(name: str, n_of_each: int, threads: int) -> Iterator[Check]:
    conditions = CONDITIONS[name]
    for case in cases(n_of_each):
        scan = draw(case, conditions, TEST_SEED)
        volume = Volume(scan.noisy, "ZYX", name="scan")
        result = restore(volume, name, threads=threads)
        honest = check_consistency(volume, result)
        rng = np.random.default_rng([case.number, 1])
        fakes: dict[float, bool | None] = {}
        for radius in _FAKES:
            painted = paint(result, scan.mask, radius, conditions.factor, rng)
            if painted is None:
                fakes[radius] = None
                continue
            changed, place = painted
            found = check_consistency(volume, changed).figures.places
            fakes[radius] = any(
                np.linalg.norm(np.array(p.index) - place) <= _NEAR for p in found
            )
        known = result.replace(data=scan.clean)
        error = errors_as_seen(volume, known, result, abs(scan.contrast))
        places = honest.figures.places
        real = sum(error(place.index) > 0.25 for place in places)
        fits = {
            _KNOWN: check_consistency(volume, known).figures.is_consistent,
            _OWN: honest.figures.is_consistent,
        }
        other = draw(replace(case, number=case.number + _OTHERS), conditions, TEST_SEED)
        scene = Scene(np.asarray(result.data), scan.mask, other.clean, other.mask)
        for wrong, make in WRONG.items():
            changed = result.replace(data=make(scene))
            fits[wrong] = check_consistency(volume, changed).figures.is_consistent
        yield Check(case, len(places), real, fakes, fits)


def errors_as_seen(
    volume: Volume, known: Volume, result: Volume, contrast: float
) -> Callable[[tuple[int, ...]], float]:
    """Function that gives the relative error of the result at a voxel of the scan."""
    residuals = [check_consistency(volume, v).residual.data for v in (known, result)]
    difference = ndimage.uniform_filter(residuals[0] - residuals[1], 3) / contrast
    return lambda index: float(abs(difference[index]))


def paint(
    result: Volume, mask: Array, radius: float, factor: int, rng: np.random.Generator
) -> tuple[Volume, Array] | None:
    """Add an invented pore to the solid; return its centre in voxels of the scan."""
    reach = (radius + _APART) * factor
    room = ndimage.distance_transform_edt(~mask) > reach
    edge = int(reach)
    inside = np.zeros_like(room)
    inside[edge:-edge, edge:-edge, edge:-edge] = True
    free = np.argwhere(room & inside)
    if not len(free) or not mask.any():
        return None
    centre = free[rng.integers(len(free))]
    grid = np.ogrid[tuple(slice(0, n) for n in mask.shape)]
    squares = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
    data = np.array(result.data)
    data[squares <= (radius * factor) ** 2] = np.median(data[mask])
    return result.replace(data=data), (centre + 0.5) / factor - 0.5


def check_table(checks: dict[str, list[Check]]) -> str:
    """One row per model: correct and false marks, and the invented pores found."""
    rows = [
        "| model | scans | scans with marks in the unmodified result "
        "| marks at real errors | "
        + " | ".join(f"invented pores of radius {r:g} found" for r in _FAKES)
        + " |",
        "|---|---|---|---|" + "---|" * len(_FAKES),
    ]
    for name, each in checks.items():
        marked = sum(c.places > 0 for c in each)
        cells = [
            share(c.fakes[radius] for c in each if c.fakes[radius] is not None)
            for radius in _FAKES
        ]
        marks, real = sum(c.places for c in each), sum(c.real for c in each)
        rows.append(
            f"| {name} | {len(each)} | {marked} | {real} of {marks} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(rows)


def wrong_table(checks: dict[str, list[Check]]) -> str:
    """Return one row per kind of result: how many are classified as consistent."""
    rows = [
        "| classified as consistent | " + " | ".join(checks) + " |",
        "|---|" + "---|" * len(checks),
    ]
    for kind in (_KNOWN, _OWN, *WRONG):
        cells = [share(c.fits[kind] for c in each) for each in checks.values()]
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def share(answers: Iterator[bool | None] | Sequence[bool]) -> str:
    """Return the number and the percentage of true answers, as text."""
    known = [bool(answer) for answer in answers]
    if not known:
        return "–"
    return f"{sum(known)} of {len(known)} ({np.mean(known):.0%})"


if __name__ == "__main__":
    sys.exit(main())
