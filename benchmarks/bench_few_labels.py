"""Few labels: a pre-trained diffusion model compared with training from scratch.

**Radiographs.** ``ddpm``, and a denoising autoencoder with the same number of steps,
are trained on 600 simulated dental radiographs without labels; 1, 2 or 5 of 40 others
are labelled for ``ptdr``. For comparison, the same network and ``msdnet`` are trained
from scratch, and random forests use filters, or filters and features of ``ddpm`` as in
the Segment dock. The learning rate of each method is chosen from the same three values,
on 20 further radiographs and with labelled images drawn only for this purpose. Prints
the mean intersection over union of six tissues in 60 others. Results are stored in
``--folder``, and an interrupted run is resumed. ``table`` makes a table of the results
in one or several folders.

**Berea.** The segmented Berea sandstone (400³) is blurred and made noisy. The
first third is the unlabelled training data of ``ddpm``; 1, 2 or 5 slices of the second
third are labelled for ``ptdr``; slices of the last third are segmented. Prints mean and
standard deviation, over several draws of the labelled slices, of the intersection over
union averaged over pore and solid. All methods use the same slices and the same number
of steps. For comparison, Otsu's threshold is applied after a Gaussian filter; its width
is chosen with the ground truth.

    python benchmarks/bench_few_labels.py radiographs --folder FOLDER
    python benchmarks/bench_few_labels.py table --folder FOLDER … --out DOCUMENT
    python benchmarks/bench_few_labels.py BEREA.zip [--quick]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

import napari_geosr as geosr
from _few_labels_baselines import UNPAINTED, PixelClassifier, PixelForest, train_msdnet
from _few_labels_table import (
    CHOSEN,
    FILE,
    SEARCH_DRAW,
    TESTED,
    Results,
    in_per_cent,
    key,
    write_table,
)
from napari_geosr.models.bundle import load
from napari_geosr.physics.shapes.radiographs import RESTORATION, TISSUES, radiographs

COUNTS = (1, 2, 5)
#: Blur in voxels, and noise, in units of the contrast.
BLUR, NOISE = 1.0, 0.6
#: Slices of the three thirds, with gaps between them.
PRIOR, LABELLED, JUDGED = slice(0, 130), slice(135, 265), slice(270, 400)

Array = np.ndarray[Any, Any]


def scan_and_truth(path: Path, edge: int) -> tuple[Array, Array]:
    """Return a simulated scan of the sandstone, and its pores."""
    with zipfile.ZipFile(path) as files, tempfile.TemporaryDirectory() as folder:
        name = next(n for n in files.namelist() if n.endswith(".tif"))
        solid = tifffile.imread(files.extract(name, folder)) > 0
    start = (solid.shape[1] - edge) // 2
    solid = solid[:, start : start + edge, start : start + edge]
    rng = np.random.default_rng(0)
    scan = gaussian_filter(solid.astype(np.float32), BLUR)
    scan += rng.normal(0, NOISE, scan.shape).astype(np.float32)
    return scan, (~solid).astype(np.uint8)


def overlaps(found: Array, truth: Array, classes: int) -> list[float]:
    """Intersection over union of each class, over all pixels with a known class."""
    known = truth != UNPAINTED
    values = []
    for label in range(classes):
        one, other = (found == label) & known, truth == label
        values.append(float((one & other).sum() / (one | other).sum()))
    return values


def mean_iou(found: Array, truth: Array) -> float:
    """Return the mean intersection over union of pore and solid."""
    return float(np.mean(overlaps(found, truth, 2)))


def otsu(scan: Array, truth: Array) -> float:
    """Score of Otsu's threshold with the filter width that is best for this truth."""
    best = 0.0
    for sigma in (0.5, 1.0, 1.5, 2.0, 3.0):
        smooth = np.stack([gaussian_filter(plane, sigma) for plane in scan])
        best = max(best, mean_iou(smooth < threshold_otsu(smooth), truth))
    return best


def berea(options: argparse.Namespace) -> None:
    """Print the table for the sandstone."""
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
    scan, pores = scan_and_truth(Path(options.data), edge)
    tested = range(JUDGED.start, JUDGED.stop, 26)
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
                    # Learning rate of pre-trained layers; that of new layers (from
                    # scratch, of all layers) is multiplied by `head_rate`.
                    rate = 2e-5
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


#: Methods compared on radiographs.
SCRATCH, DENOISER, DIFFUSION = "from scratch", "denoiser", "ddpm"
FOREST, MSDNET = "forest", "msdnet"
#: Suffix of variants that train a small pixel classifier on features of the unchanged
#: model.
FROZEN = ", frozen"
#: Random forest on filters and features of the unchanged model.
PRIOR_FOREST = f"{DIFFUSION}, {FOREST}"
#: Number and seed of the images of each set.
SETS = {"unlabelled": (600, 0), "pool": (40, 1), TESTED: (60, 2), CHOSEN: (20, 3)}
#: Learning rates to try: from scratch, for all layers; after pre-training, for the new
#: last layer (the rate of the other layers is a hundredth).
RATES = (1e-3, 3e-3, 1e-2)
#: Numbers of labelled images with which the learning rate is chosen.
SEARCH = (1, 2, 5)
#: Noise of the denoising autoencoder, in standard deviations of the grey values.
DENOISER_NOISE = 0.5


class Radiographs:
    """The data, the pre-trained models and the results so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, Path(options.folder[0])
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known = self.folder / FILE
        self.results: Results = {}
        self.starts: dict[str, Any] = {}
        if self.known.exists():
            self.results = json.loads(self.known.read_text())
        self.data = {name: self._images(*each) for name, each in SETS.items()}
        self.shared: dict[str, Any] = {
            "width": 16,
            "layers": 3,
            "network": "diffusion_unet",
            "dimensions": "2D",
            "threads": options.threads,
        }

    def _images(self, number: int, seed: int) -> tuple[Array, Array]:
        edge = self.options.edge
        path = self.folder / f"radiographs_{edge}_{seed}.npz"
        if not path.exists():
            made = list(radiographs(number, edge, seed=seed))
            grey, labels = (
                np.stack([getattr(each, name) for each in made])
                for name in ("grey", "labels")
            )
            np.savez_compressed(path, grey=grey, labels=labels)
        files = np.load(path)
        return files["grey"], files["labels"]

    def start(self, method: str) -> Any:
        """Return the pre-trained model of a method; None for training from scratch."""
        if method == SCRATCH:
            return None
        if method in self.starts:
            return self.starts[method]
        given = getattr(self.options, f"{method}_model")
        if given:
            return self.starts.setdefault(method, load(given))
        folder = self.folder / f"{method}_{self.options.edge}"
        grey = self.data["unlabelled"][0]
        settings: dict[str, Any] = {
            "steps": self.options.prior_steps,
            "patch": 3 * self.options.edge // 4,
            "batch_size": 4,
            "learning_rate": 1e-3,
            **self.shared,
        }
        began = time.perf_counter()
        if method == DIFFUSION:
            model = geosr.train("ddpm", folder, grey, **settings)
        else:
            rng, scale = np.random.default_rng(0), DENOISER_NOISE * grey.std()
            noisy = grey + rng.normal(0, scale, grey.shape).astype(np.float32)
            clean = grey.astype(np.float32)
            model = geosr.train("supervised", folder, noisy, clean, **settings)
        print(f"{method}: trained in {time.perf_counter() - began:.0f} s", flush=True)
        self.starts[method] = model
        return model

    def overlap(
        self, method: str, count: int, draw: int, rate: float | None, tested: str
    ) -> float:
        """Mean intersection over union with the labelled images of one draw.

        The learning rate is None for methods without one.
        """
        name = key(method, count, draw, rate, tested)
        if name not in self.results:
            test, truth = self.data[tested]
            found = self._segmented(test, method, count, draw, rate)
            self.results[name] = overlaps(found, truth, len(TISSUES))
            self.known.write_text(json.dumps(self.results, indent=1))
            values = self.results[name]
            each = " ".join(f"{100 * v:.0f}" for v in values)
            print(f"{name}: {100 * np.mean(values):.1f} ({each})", flush=True)
        return float(np.mean(self.results[name]))

    def _segmented(
        self, test: Array, method: str, count: int, draw: int, rate: float | None
    ) -> Array:
        grey, truth = self.data["pool"]
        rng = np.random.default_rng([count, draw])
        picked = rng.choice(len(grey), count, replace=False)
        if method.endswith(FROZEN):
            prior = self.start(method.removesuffix(FROZEN))
            return PixelClassifier(prior, grey[picked], truth[picked])(test)
        labels = np.full(truth.shape, UNPAINTED, np.uint8)
        labels[picked] = truth[picked]
        if rate is None:
            prior = self.start(DIFFUSION) if method == PRIOR_FOREST else None
            return PixelForest(grey, labels, draw, prior)(test)
        settings: dict[str, Any] = {
            **self.shared,
            "classes": len(TISSUES),
            "steps": self.options.steps,
            "patch": self.options.edge // 2,
            "batch_size": 2,
            "learning_rate": rate / 100,
            "head_rate": 100,
            "seed": draw,
        }
        if method == MSDNET:
            return train_msdnet(grey, labels, **settings)(test)
        with tempfile.TemporaryDirectory() as folder:
            model = geosr.train(
                "ptdr",
                Path(folder) / "job",
                grey,
                labels,
                from_model=self.start(method),
                **settings,
            )
            return np.asarray(geosr.restore(test, model).data)


def tried_rates(method: str) -> tuple[float | None, ...]:
    """Return the learning rates to try; None for methods without one."""
    if method in (FOREST, PRIOR_FOREST):
        return (None,)
    return (3e-3,) if method.endswith(FROZEN) else RATES


def draw_picture(path: Path) -> None:
    """Save a picture of some radiographs, with their tissues below them."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(TISSUES)] = (
        *((0, 0, 0), (200, 80, 120), (90, 140, 60)),
        *((230, 200, 90), (255, 255, 255), (220, 30, 30)),
    )
    colours[RESTORATION] = 60, 60, 255
    made = [next(radiographs(1, 192, seed=3, start=i)) for i in (0, 2, 6, 9)]
    grey = np.hstack([(each.grey // 16).astype(np.uint8) for each in made])
    tissues = np.hstack([colours[each.labels] for each in made])
    Image.fromarray(np.vstack([np.repeat(grey[..., None], 3, 2), tissues])).save(path)


def on_radiographs(options: argparse.Namespace) -> None:
    """Print the table for radiographs."""
    run = Radiographs(options)
    rates: dict[str, float | None] = {}
    for method in options.methods.split(";"):
        found = {
            rate: np.mean(
                [run.overlap(method, n, SEARCH_DRAW, rate, CHOSEN) for n in SEARCH]
            )
            for rate in tried_rates(method)
        }
        rates[method] = max(found, key=lambda rate: found[rate])
        print(f"{method}: best learning rate {rates[method]}", flush=True)
    for count in map(int, options.counts.split(",")):
        for method, rate in rates.items():
            each = [
                run.overlap(method, count, draw, rate, TESTED)
                for draw in range(options.draws)
            ]
            print(f"{count} labels, {method}: {in_per_cent(each)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", help="radiographs, table, or berea.zip")
    parser.add_argument(
        "--quick", action="store_true", help="Berea: use a lightweight network"
    )
    parser.add_argument("--prior-steps", type=int, help="training steps of ddpm")
    parser.add_argument(
        "--folder",
        nargs="+",
        default=["few_labels"],
        help="folder for data and results (radiographs); the table also includes the "
        "results in further folders",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="document to write the table of radiographs into; by default, it is "
        "printed",
    )
    parser.add_argument(
        "--edge", type=int, default=128, help="edge of the radiographs in pixels"
    )
    parser.add_argument(
        "--steps", type=int, default=400, help="training steps of ptdr (radiographs)"
    )
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--counts", default="1,2,5")
    methods = ";".join((SCRATCH, DIFFUSION, DIFFUSION + FROZEN))
    parser.add_argument("--methods", default=methods)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--ddpm-model", help="use this trained ddpm model")
    parser.add_argument("--denoiser-model", help="use this trained denoiser")
    parser.add_argument(
        "--picture", type=Path, help="only draw a picture of some radiographs"
    )
    options = parser.parse_args()
    if options.picture:
        draw_picture(options.picture)
        return
    if options.data is None:
        print("Give radiographs, table, or berea.zip (LukasMosser/PorousMediaGan).")
        return
    warnings.simplefilter("ignore")
    if options.data == "radiographs":
        options.prior_steps = options.prior_steps or 3000
        on_radiographs(options)
    if options.data in ("radiographs", "table"):
        write_table(map(Path, options.folder), options.out)
    else:
        berea(options)


if __name__ == "__main__":
    main()
