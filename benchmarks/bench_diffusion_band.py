"""Porosity intervals from samples of a diffusion model, for ×4 super-resolution.

Trains ``srdiff`` on the simulated pairs on which ``foam-sr-x4`` was trained. Draws
samples for two other sets of scans from the same simulator, one for calibration and one
for testing, and compares their porosities, and the intervals computed from them, with
the known ones and with those of ``foam-sr-x4`` on the same scans. Bright pores are made
dark. Prints Markdown tables, or writes them into a document with ``--out``.

    python benchmarks/bench_diffusion_band.py --folder FOLDER --out docs/evidence
    python benchmarks/bench_diffusion_band.py --folder FOLDER --only-baseline

The model and the results of each scan are stored in ``--folder``, so an interrupted run
can be resumed. Uses one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import measure

import napari_geosr as geosr
from _document import replace_section
from _porosity_bands import BASELINE, SHIFTS, Array, Row, band_table
from _settings import digest
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.interval import needed_factor
from napari_geosr.models.bundle import Model
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.preparation import prepare_steps
from napari_geosr.physics.scans import Scan, random_scan

#: Training of the diffusion model.
TRAINING: dict[str, Any] = {
    "name": "foam-samples-x4",
    "dimensions": "3D",
    "upscale_factor": 4,
    "layers": 2,
    "width": 16,
    "network_options": {"merge": 2},
    "normalisation": "volume",
    "sampling": "uniform",
    "batch_size": 4,
    "patch": 8,
    "learning_rate": 1e-3,
    "validate_every": 1000,
    "seed": 20311,
    "device": "cpu",
    "precision": "bfloat16",
    "threads": 1,
}
#: Number of pairs of volumes for training, and edge of the scans in voxels.
PAIRS, PAIR_EDGE = 48, 16
#: Number of training steps.
STEPS = 2000
FACTOR = 4
#: First number of the seeds of the scans.
SEEDS = {"training": 955_001, "calibration": 960_001, "test": 970_001}
#: Minimum fraction of pores and of solid in a scan; otherwise, the scan is drawn again.
LEAST = 0.01


def simulate(kind: str, number: int, edge: int) -> tuple[Scan, float]:
    """Draw a scan with dark pores and `edge` voxels along each axis.

    Also returns the midpoint between the grey values of pores and solid.
    """
    for attempt in range(100):
        rng = np.random.default_rng([SEEDS[kind], number, attempt])
        scan = random_scan(
            (edge,) * 3,
            rng,
            noise=(0.03, 0.3),
            blur=(0.25, 0.7),
            downsample=FACTOR,
            scale=FACTOR / 2,
        )
        if LEAST <= scan.mask.mean() <= 1 - LEAST:
            sign = np.float32(np.sign(scan.contrast))
            dark = Scan(sign * scan.noisy, sign * scan.clean, scan.mask, 1.0)
            return dark, float(sign) / 2
    raise AssertionError(f"no scan {number} with pores and solid")


def trained(options: argparse.Namespace) -> Model:
    """Return the diffusion model; it is trained, or its training resumed, if needed."""
    settings = {**TRAINING, "steps": options.steps}
    data = {"pairs": options.pairs, "edge": PAIR_EDGE}
    folder = options.folder / f"model-{digest(settings | data, [simulate])}"
    if (folder / "result").exists():
        return geosr.load_model(folder)
    volumes: dict[str, list[Volume]] = {"source": [], "target": []}
    for number in range(options.pairs):
        scan, _ = simulate("training", number, PAIR_EDGE)
        for role, data, size in (
            ("source", scan.noisy, float(FACTOR)),
            ("target", scan.clean, 1.0),
        ):
            volumes[role].append(Volume(data, "ZYX", (size,) * 3, "µm"))
    return geosr.train("srdiff", folder, **volumes, **settings)


def psnr(image: Array, truth: Array) -> float:
    """Return the peak signal-to-noise ratio in dB, for a contrast of 1."""
    return float(-10 * np.log10(np.mean((image - truth) ** 2)))


def euler_number(image: Array, threshold: float) -> int:
    """Return the Euler number of the dark phase."""
    return int(measure.euler_number(image < threshold, connectivity=3))


def figures(image: Array, scan: Scan, threshold: float) -> Row:
    """Return porosity, Euler number and PSNR of an image."""
    return {
        "porosity": float((image < threshold).mean()),
        "euler": euler_number(image, threshold),
        "psnr": psnr(image, scan.clean),
    }


def shifted(image: Array, spread: Array, scan: Scan, threshold: float) -> Row:
    """Return the figures of a mean image, and its porosity for shifted grey values."""
    # A voxel is a pore until it is shifted by this number of deviations.
    moves = np.sort(((threshold - image) / np.maximum(spread, 1e-9)).ravel())
    above = moves.size - np.searchsorted(moves, SHIFTS)
    truth = float(scan.mask.mean())
    return figures(image, scan, threshold) | {
        "needed": needed_factor(image, spread, threshold, "dark", truth),
        "shares": [round(float(n) / moves.size, 6) for n in above],
    }


def drawn(
    volume: Volume, model: Model, options: argparse.Namespace, seed: int
) -> tuple[Array, Array]:
    """Return the mean image of the diffusion model, and all samples."""
    config = RestoreConfig.create(
        model=str(model.path),
        uncertainty="diffusion",
        uncertainty_members=options.members,
        sampling_steps=options.sampling_steps,
        device="cpu",
        threads=1,
    )
    prepared = run_to_end(prepare_steps(volume, config))
    grey, sampler = prepared.statistics, prepared.network.sampler
    seen = (np.asarray(volume.data) - grey.input_mean) / grey.input_std
    seen = seen.astype(np.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        one = sampler.network(torch.from_numpy(seen)[None, None])[0, 0].float()
        each = np.stack([sampler(seen, (seed, i)) for i in range(options.members)])
    return (
        one.numpy() * grey.output_std + grey.output_mean,
        each * grey.output_std + grey.output_mean,
    )


def scan_volume(scan: Scan) -> Volume:
    """Return a scan with its voxel size; voxels of the object have an edge of 1 µm."""
    return Volume(scan.noisy, "ZYX", (float(FACTOR),) * 3, "µm", name="scan")


def baseline_row(kind: str, number: int, edge: int) -> Row:
    """Restore a scan with the bundled model; return the figures and the known ones."""
    scan, threshold = simulate(kind, number, edge)
    truth = euler_number(1 - scan.mask.astype(np.float32), 0.5)
    row: Row = {"truth": float(scan.mask.mean()), "euler": truth}
    volume, began = scan_volume(scan), time.process_time()
    image = np.asarray(geosr.restore(volume, BASELINE, threads=1).data)
    seconds = time.process_time() - began
    row[BASELINE] = {"seconds": seconds, **figures(image, scan, threshold)}
    began = time.process_time()
    pair = geosr.restore_with_uncertainty(volume, BASELINE, "tta", threads=1)
    seconds = time.process_time() - began
    mean, spread = (np.asarray(part.data) for part in pair)
    row["tta"] = {"seconds": seconds, **shifted(mean, spread, scan, threshold)}
    return row


def sample_row(
    kind: str, number: int, model: Model, options: argparse.Namespace
) -> Row:
    """Draw samples for a scan; return the figures of their mean and of each."""
    scan, threshold = simulate(kind, number, options.edge)
    began = time.process_time()
    one, each = drawn(scan_volume(scan), model, options, number)
    seconds = time.process_time() - began
    found = shifted(each.mean(0), each.std(0, ddof=1), scan, threshold)
    found |= {
        "seconds": seconds,
        "each porosity": [float((s < threshold).mean()) for s in each],
        "each euler": [euler_number(s, threshold) for s in each],
        "each psnr": [psnr(s, scan.clean) for s in each],
    }
    return {"one pass": figures(one, scan, threshold), "samples": found}


def stored_rows(path: Path, count: int, make: Callable[[int], Row]) -> list[Row]:
    """Return rows from a file; missing ones are made and added to the file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    for number in range(len(rows), count):
        rows.append(make(number))
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
        print(f"{path.stem}: {number + 1} of {count}", flush=True)
    return rows[:count]


def baseline_rows(kind: str, options: argparse.Namespace) -> list[Row]:
    """Return the rows of the bundled model for all scans of a kind."""
    weights = geosr.load_model(BASELINE).card.weights_sha256
    values = {"weights": weights, "edge": options.edge, "shifts": SHIFTS[-3:].tolist()}
    key = digest(values, [simulate, baseline_row, shifted, figures])
    return stored_rows(
        options.folder / f"{kind}-{BASELINE}-{key}.jsonl",
        options.scans,
        lambda number: baseline_row(kind, number, options.edge),
    )


def sample_rows(kind: str, model: Model, options: argparse.Namespace) -> list[Row]:
    """Return the rows of the diffusion model for all scans of a kind."""
    values = {
        "weights": model.card.weights_sha256,
        "members": options.members,
        "steps": options.sampling_steps,
        "edge": options.edge,
        "shifts": SHIFTS[-3:].tolist(),
    }
    key = digest(values, [simulate, sample_row, drawn, shifted, figures])
    return stored_rows(
        options.folder / f"{kind}-samples-{key}.jsonl",
        options.scans,
        lambda number: sample_row(kind, number, model, options),
    )


def image_table(rows: list[Row], members: int) -> str:
    """Return one row per kind of image: PSNR, porosity and Euler number."""
    true = np.array([row["euler"] for row in rows])
    porosity = np.array([row["truth"] for row in rows])
    base = np.array([row[BASELINE]["psnr"] for row in rows])
    lines = [
        "| result | CPU time per scan | PSNR | PSNR minus that of "
        f"{BASELINE} | error of the porosity in percentage points: median; mean | "
        "error of the Euler number: median; mean |",
        "|---|---|---|---|---|---|",
    ]
    names = {
        BASELINE: BASELINE,
        "tta": f"{BASELINE}, mean of 8 flips and rotations",
        "one pass": "diffusion model, one pass",
        "samples": f"diffusion model, mean of {members} samples",
    }
    for key, title in names.items():
        if key not in rows[0]:
            continue
        values = np.array([row[key]["psnr"] for row in rows])
        gain = values - base
        off = abs(np.array([row[key]["porosity"] for row in rows]) - porosity)
        euler = abs(np.array([row[key]["euler"] for row in rows]) - true)
        seconds = [row[key]["seconds"] for row in rows if "seconds" in row[key]]
        cost = f"{np.median(seconds):.1f} s" if seconds else "–"
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        lines.append(
            f"| {title} | {cost} | {values.mean():.2f} ± {values.std():.2f} "
            f"dB | {gain.mean():+.2f} ± {error:.2f} dB | {100 * np.median(off):.2f}; "
            f"{100 * off.mean():.2f} | {np.median(euler):.1f}; {euler.mean():.1f} |"
        )
    if "samples" in rows[0]:
        lines += lines_of_samples(rows)
    return "\n".join(lines)


def lines_of_samples(rows: list[Row]) -> list[str]:
    """Return the lines of the table for single samples and for all of them together."""
    true = np.array([row["euler"] for row in rows])
    porosity = np.array([row["truth"] for row in rows])
    lines = []
    each = [np.array(row["samples"]["each porosity"]) for row in rows]
    one = np.array([abs(e - t).mean() for e, t in zip(each, porosity, strict=True)])
    mean = np.array([abs(e.mean() - t) for e, t in zip(each, porosity, strict=True)])
    numbers = [np.array(row["samples"]["each euler"]) for row in rows]
    single = np.array([abs(n - t).mean() for n, t in zip(numbers, true, strict=True)])
    middle = np.array(
        [abs(np.median(n) - t) for n, t in zip(numbers, true, strict=True)]
    )
    for title, off, euler in (
        ("single samples", one, single),
        ("mean porosity and median Euler number of the samples", mean, middle),
    ):
        lines.append(
            f"| {title} | – | – | – | {100 * np.median(off):.2f}; "
            f"{100 * off.mean():.2f} | {np.median(euler):.1f}; {euler.mean():.1f} |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("build/diffusion_band"))
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of training")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="training volumes")
    parser.add_argument("--scans", type=int, default=40, help="scans of each set")
    parser.add_argument("--edge", type=int, default=12, help="edge of a scan in voxels")
    parser.add_argument("--members", type=int, default=16, help="samples of each scan")
    parser.add_argument("--sampling-steps", type=int, default=8)
    parser.add_argument("--out", type=Path, help="folder of the document to write into")
    parser.add_argument("--quick", action="store_true", help="a small model, few scans")
    parser.add_argument(
        "--only-baseline", action="store_true", help=f"only {BASELINE}, no samples"
    )
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.steps, options.scans, options.members = 3, 20, 9, 3
        options.edge, options.sampling_steps = 8, 2
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    calibration, test = (
        baseline_rows(kind, options) for kind in ("calibration", "test")
    )
    if not options.only_baseline:
        model = trained(options)
        for kind, rows in (("calibration", calibration), ("test", test)):
            for row, more in zip(rows, sample_rows(kind, model, options), strict=True):
                row.update(more)
    sections = {
        "diffusion bands": band_table(calibration, test),
        "diffusion images": image_table(test, options.members),
    }
    for name, text in sections.items():
        print(f"\n{text}")
        if options.out is not None:
            replace_section(options.out / "intervals.md", name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
