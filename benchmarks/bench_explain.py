"""Test how well the values of ``explain`` separate true from invented pores.

Foams with known pores are scanned with voxels four times larger, blur and noise, and
super-resolved by ``foam-sr-x4``. A pore of the result is true if at least a quarter of
its voxels are pore voxels of the object, and invented if none is. The values of
``napari-geosr explain --method evidence`` are computed for each pore and compared with
the deviation over flips and rotations (``restore --uncertainty tta``). Prints a
Markdown table, or writes it into a document with ``--out``.

    python benchmarks/bench_explain.py --out docs/evidence/explanations.md

Takes about three minutes on one thread. ``--of-each`` is the number of pores of each
kind and scan for which the network is run without their input and with added noise;
the support is computed for all pores.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu

from _document import replace_section
from napari_geosr import Volume, restore_with_uncertainty
from napari_geosr.attribution import METHODS, AttributionRequest, evidence
from napari_geosr.attribution._patches import NoiseGenerator
from napari_geosr.attribution._window import Window
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.explain import ExplainConfig, prepare_steps
from napari_geosr.operations.explain.run import _request
from napari_geosr.operations.explain.targets import ExplainedRegion
from napari_geosr.physics.sampling import coarse_scan
from napari_geosr.physics.specimens.phantoms import sphere_foam

MODEL, FACTOR = "foam-sr-x4", 4
SHAPE = (96, 128, 128)
#: Standard deviations of the noise, in units of the contrast.
NOISES = (0.3, 0.4)
SEEDS = (901, 902)
BLUR = 0.5
#: Minimum number of voxels of a pore; smaller objects are not counted.
LEAST = 27
TRUE_SHARE = 0.25
#: Largest size of a small pore, in fine voxels: about ten voxels of the scan.
SMALL = 600

#: Scores by title; larger values should indicate a true pore.
SCORES = {
    "support (contrast in the scan ÷ noise)": lambda f: f["support"],
    "log-ratio of contrast with and without the input": lambda f: f.get("log_ratio"),
    "contrast remaining after noise is added": lambda f: f.get("survival"),
    "tta: deviation": lambda f: f["deviation"],
    "tta: deviation, sign reversed": lambda f: -f["deviation"],
    "tta: contrast ÷ deviation": lambda f: f["darkness"] / f["deviation"],
    "contrast alone": lambda f: f["darkness"],
    "size alone": lambda f: f["voxels"],
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--of-each",
        type=int,
        default=3,
        help="pores of each kind and scan for which all values are computed",
    )
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--work", type=Path, default=Path("build/explain"))
    parser.add_argument("--out", type=Path, help="document to write the table into")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    options.work.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    found = [
        row
        for noise in NOISES
        for seed in options.seeds
        for row in kept_rows(noise, seed, options)
    ]
    text = table(found)
    print(f"{time.process_time() - began:.0f} s of CPU time\n\n{text}")
    if options.out is not None:
        replace_section(options.out, "evidence", text)
    return 0


def kept_rows(
    noise: float, seed: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the rows of one phantom, read from the work folder if they exist."""
    name = f"rows-{noise:g}-{seed}-{options.of_each}-{options.draws}.json"
    path = options.work / name
    if path.exists():
        kept: list[dict[str, Any]] = json.loads(path.read_text())
        return kept
    made = list(rows(noise, seed, options))
    path.write_text(json.dumps(made))
    return made


def rows(
    noise: float, seed: int, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield the values of the true and the invented pores of one phantom."""
    foam = sphere_foam(SHAPE, porosity=0.06, radius=(2, 7), gap=2.0, seed=seed)
    solid = 1 - foam.fraction
    rng = np.random.default_rng([seed, int(100 * noise)])
    scan = coarse_scan(solid, FACTOR, BLUR)
    scan = (scan + rng.normal(0, noise, scan.shape)).astype(np.float32)
    volume = Volume(scan, "ZYX", (4.0,) * 3, "µm", name="scan")
    config = ExplainConfig(
        model=MODEL, method=("evidence",), draws=options.draws, threads=1
    )
    prepared = run_to_end(prepare_steps(volume, config))
    _, deviation = restore_with_uncertainty(volume, MODEL, threads=1)
    spread = np.asarray(deviation)
    window = prepared.scene.window(
        tuple(slice(0, n) for n in prepared.scene.result_shape)
    )
    values = window.values()
    result = np.asarray(window.grey(values))
    threshold = float(threshold_otsu(result))
    labels, n = ndimage.label(result <= threshold, np.ones((3, 3, 3)))
    counts = np.bincount(labels.ravel())[1:]
    overlap = ndimage.sum(foam.mask, labels, range(1, n + 1)) / counts
    boxes = ndimage.find_objects(labels)
    for kind, is_candidate in (
        ("true", overlap >= TRUE_SHARE),
        ("invented", overlap == 0),
    ):
        chosen = rng.permutation(np.flatnonzero(is_candidate & (counts >= LEAST)))
        for number, i in enumerate(chosen):
            mask = labels[boxes[i]] == i + 1
            target = ExplainedRegion("pore", boxes[i], mask, (0, 0, 0), threshold)
            request = _request(prepared, target)
            figures = support(request, values)
            if figures is None:
                continue
            if number < options.of_each:
                steps = METHODS.load("evidence").explain(request)
                figures |= dict(run_to_end(steps).figures)
            figures["deviation"] = float(spread[boxes[i]][mask].mean())
            print(noise, seed, kind, figures, flush=True)
            yield {**figures, "kind": kind, "noise": noise, "seed": seed}


def support(request: AttributionRequest, whole: np.ndarray) -> dict[str, Any] | None:
    """Values of a pore without running the network; None if no solid is next to it.

    The results of windows are cut from the whole result, which has the same values.
    """
    own = Window.values

    def cut(window: Window, seen: np.ndarray | None = None) -> np.ndarray:
        return whole[window.region] if seen is None else own(window, seen)

    Window.values = cut  # type: ignore[method-assign]
    try:
        pore = evidence._pore(request)
        found = evidence._support(pore, NoiseGenerator(pore.request))
        darkness = pore.contrast(pore.request.window.values())
    except VolumeError:
        return None
    finally:
        Window.values = own  # type: ignore[method-assign]
    scale = request.scene.statistics.output_std
    return {
        "support": found,
        "darkness": darkness * scale,
        "voxels": int(request.mask.sum()),
    }


def auc(scores: list[float], is_true: list[bool]) -> float:
    """Return the probability that a true pore scores higher than an invented one."""
    values, flags = np.asarray(scores, float), np.asarray(is_true)
    high, low = values[flags], values[~flags]
    above = (high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean()
    return float(above)


def table(found: list[dict[str, Any]]) -> str:
    """Return one row per score, and the verdicts for true and invented pores."""
    heads = [f"AUC, noise {n:g}" for n in NOISES]
    heads += ["AUC, all pores", f"AUC, pores up to {SMALL} voxels"]
    lines = [
        f"| score | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    for title, score in SCORES.items():
        known = [f for f in found if score(f) is not None]
        parts = [[f for f in known if f["noise"] == noise] for noise in NOISES]
        parts += [known, [f for f in known if f["voxels"] <= SMALL]]
        cells = [_cell(own, score) for own in parts]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += [
        "",
        "| pores | well supported | weak | prior only |",
        "|---|---|---|---|",
    ]
    for kind in ("true", "invented"):
        own = [f["verdict"] for f in found if f["kind"] == kind and "verdict" in f]
        cells = [str(own.count(v)) for v in ("well supported", "weak", "prior only")]
        lines.append(f"| {kind} ({len(own)}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(own: list[dict[str, Any]], score: Callable[[Any], Any]) -> str:
    """The area under the ROC curve, and the numbers of true and invented pores."""
    kinds = [f["kind"] == "true" for f in own]
    if all(kinds) or not any(kinds):
        return "–"
    found = auc([score(f) for f in own], kinds)
    return f"{found:.2f} ({sum(kinds)}, {len(kinds) - sum(kinds)})"


if __name__ == "__main__":
    raise SystemExit(main())
