"""Few labels: fine-tuning a diffusion model beside the same network from scratch.

The segmented Berea sandstone (400³) is blurred and made noisy. Its first third is
unlabelled training data of `ddpm`; 1, 2 or 5 slices of the second third are labelled
for `ptdr`; slices of the last third are segmented. Prints the mean intersection over
union of pore and solid, mean and standard deviation over draws of the slices, which are
the same for all methods, as are the numbers of steps. Otsu's threshold after the best
Gaussian filter uses the truth to choose its width.

    python benchmarks/bench_few_labels.py BEREA.zip [--quick]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

import napari_geosr as geosr

COUNTS = (1, 2, 5)
#: Blur in voxels, and noise, in units of the contrast.
BLUR, NOISE = 1.0, 0.6
UNPAINTED = 255
#: Slices of the three parts, with gaps.
PRIOR, LABELLED, TESTED = slice(0, 130), slice(135, 265), slice(270, 400)

Array = np.ndarray[Any, Any]


def scan_and_truth(path: Path, edge: int) -> tuple[Array, Array]:
    """A simulated scan of the sandstone, and its pores."""
    with zipfile.ZipFile(path) as files, tempfile.TemporaryDirectory() as folder:
        name = next(n for n in files.namelist() if n.endswith(".tif"))
        solid = tifffile.imread(files.extract(name, folder)) > 0
    start = (solid.shape[1] - edge) // 2
    solid = solid[:, start : start + edge, start : start + edge]
    rng = np.random.default_rng(0)
    scan = gaussian_filter(solid.astype(np.float32), BLUR)
    scan += rng.normal(0, NOISE, scan.shape).astype(np.float32)
    return scan, (~solid).astype(np.uint8)


def mean_iou(found: Array, truth: Array) -> float:
    """Mean intersection over union of pore and solid."""
    values = []
    for label in (0, 1):
        one, other = found == label, truth == label
        values.append((one & other).sum() / (one | other).sum())
    return float(np.mean(values))


def otsu(scan: Array, truth: Array) -> float:
    """Of the filter width that is best for this truth."""
    best = 0.0
    for sigma in (0.5, 1.0, 1.5, 2.0, 3.0):
        smooth = np.stack([gaussian_filter(plane, sigma) for plane in scan])
        best = max(best, mean_iou(smooth < threshold_otsu(smooth), truth))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("berea", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true", help="a light network")
    parser.add_argument("--prior-steps", type=int, help="training steps of ddpm")
    parser.add_argument("--rate", type=float, default=2e-4, help="of PTDR")
    options = parser.parse_args()
    if options.berea is None:
        print("Give the path of berea.zip (LukasMosser/PorousMediaGan).")
        return
    warnings.simplefilter("ignore")
    quick = options.quick
    edge, width, patch = (128, 8, 32) if quick else (256, 24, 64)
    prior_steps, steps, draws = (600, 120, 2) if quick else (20_000, 600, 5)
    prior_steps = options.prior_steps or prior_steps
    shared: dict[str, Any] = {
        "patch": patch,
        "width": width,
        "layers": 2,
        "network": "diffusion_unet",
        "dimensions": "2D",
        "batch_size": 8,
    }
    scan, pores = scan_and_truth(options.berea, edge)
    tested = range(TESTED.start, TESTED.stop, 26)
    test, truth = scan[list(tested)], pores[list(tested)]
    print(f"Otsu after the best Gaussian filter: {100 * otsu(test, truth):.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.perf_counter()
        prior = geosr.train(
            "ddpm", folder / "prior", scan[PRIOR], steps=prior_steps, **shared
        )
        print(
            f"ddpm: {prior_steps} steps in {time.perf_counter() - began:.0f} s;", end=""
        )
        for row in prior.card.figures:
            print(f" {row.method} {row.noise_error:.3f}", end="")
        print(f"\n{prior.card.n_parameters} weights; {steps} steps for the labels")
        for count in COUNTS:
            found: dict[str, list[float]] = {"from scratch": [], "PTDR": []}
            for draw in range(draws):
                rng = np.random.default_rng([count, draw])
                slices = rng.choice(
                    range(LABELLED.start, LABELLED.stop), count, replace=False
                )
                labels = np.full(scan.shape, UNPAINTED, np.uint8)
                labels[slices] = pores[slices]
                for method, start in (("from scratch", None), ("PTDR", prior)):
                    # without a prior, all layers have the rate of the last layer
                    rate = options.rate if start else 2e-4
                    model = geosr.train(
                        "ptdr",
                        folder / f"{method}{count}{draw}",
                        scan,
                        labels,
                        from_model=start,
                        steps=steps,
                        learning_rate=rate,
                        seed=draw,
                        **shared,
                    )
                    result = np.asarray(geosr.restore(test, model).data)
                    found[method].append(mean_iou(result, truth))
            for method, values in found.items():
                each = 100 * np.array(values)
                print(
                    f"{count} labels, {method}: {each.mean():.1f} ± {each.std():.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
