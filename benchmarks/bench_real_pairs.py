"""Denoisers on real fluorescence images: one exposure and the mean of 400.

    python benchmarks/bench_real_pairs.py --data FOLDER [--adapt]
        [--out docs/evidence/denoisers.md]

`FOLDER` contains ``input_avg1_ID.tif`` and ``target_avg400_ID.tif`` (W2S wide-field
images, 512 × 512). The two were scaled to 8 bits separately, so gain and offset are
fitted before the PSNR is computed. Classical filters are tuned on each image **with
knowledge of the target**; models and ``auto`` are not. ``--adapt`` adapts
`fluo-denoise` to each image (``train adapt``), which takes minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from _document import replace_section
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.restore import RestoreConfig, restore_steps
from napari_geosr.operations.train import train_steps
from napari_geosr.operations.train.adapt import adaptation_job

Array = npt.NDArray[np.float32]
MODELS = ("fluo-denoise", "photon-denoise", "ct-denoise", "auto")
_PEAK = 255.0


def fitted_psnr(image: Array, target: Array) -> float:
    """PSNR in dB after fitting gain and offset."""
    x, y = image.ravel().astype(np.float64), target.ravel().astype(np.float64)
    gain, offset = np.polyfit(x, y, 1)
    error = np.mean(np.square(gain * x + offset - y))
    return float(20 * np.log10(_PEAK) - 10 * np.log10(error))


def tuned(image: Array, target: Array, sd: float) -> dict[str, float]:
    """Return the best result of each classical filter on this image."""
    tried = {
        "Gaussian": [
            ndimage.gaussian_filter(image, s) for s in (0.7, 0.9, 1.1, 1.4, 1.7, 2, 2.5)
        ],
        "total variation": [
            denoise_tv_chambolle(image, weight=w * sd, max_num_iter=100)
            for w in (0.6, 1, 1.5, 2, 3)
        ],
        "non-local means": [
            denoise_nl_means(
                image,
                patch_size=5,
                patch_distance=6,
                h=h * sd,
                sigma=sd,
                fast_mode=True,
            )
            for h in (0.4, 0.6, 0.8, 1.0, 1.3)
        ],
    }
    return {
        name: max(fitted_psnr(v, target) for v in values)
        for name, values in tried.items()
    }


def restored(image: Array, model: str) -> Array:
    """Return the image restored by a model."""
    steps = restore_steps(Volume(image, "YX"), RestoreConfig.create(model=model))
    return np.asarray(run_to_end(steps).volume.data, np.float32)


def adapted(path: Path) -> str:
    """`fluo-denoise` adapted to one image; unchanged if no gain is expected."""
    folder = Path(tempfile.mkdtemp())
    job = adaptation_job("fluo-denoise", [path], name="adapted")
    return str(run_to_end(train_steps(job, folder)))


def main() -> None:
    """Print the table, and write it into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--adapt", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, float]] = []
    names = []
    for path in sorted(given.data.glob("input_avg1_*.tif")):
        target_path = path.with_name(path.name.replace("input_avg1", "target_avg400"))
        image = tifffile.imread(path).astype(np.float32)
        target = tifffile.imread(target_path).astype(np.float32)
        sd = estimate_noise(Volume(image, "YX")).level
        row = {"input": fitted_psnr(image, target)} | tuned(image, target, sd)
        for model in MODELS:
            row[model] = fitted_psnr(restored(image, model), target)
        if given.adapt:
            model = adapted(path)
            row["adapted"] = fitted_psnr(restored(image, model), target)
        names.append(path.stem.removeprefix("input_avg1_"))
        rows.append(row)
        print(names[-1], {k: round(v, 2) for k, v in row.items()}, flush=True)
    heads = list(rows[0])
    lines = [f"| image | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, row in zip(names, rows, strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{row[h]:.2f}" for h in heads) + " |")
    means = (float(np.mean([row[h] for row in rows])) for h in heads)
    lines.append("| mean | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    print("\n".join(lines))
    if given.out:
        replace_section(given.out, "real pairs", "\n".join(lines))


if __name__ == "__main__":
    main()
