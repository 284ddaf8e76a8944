"""Train the diffusion model of sandstone on part of the Berea sandstone.

    python scripts/pretraining/sandstone.py train berea.zip --work build/sandstone
    python scripts/pretraining/sandstone.py judge berea.zip --work build/sandstone

The scan is segmented, so its grey values are simulated: pores and grains have fixed
values, which are blurred, and a little noise is added. The first third of the slices is
for training, the last third for evaluation: generated images are compared with patches
of this part that have the same porosity.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from scipy.ndimage import gaussian_filter
from skimage.measure import euler_number

import napari_geosr as geosr
from napari_geosr.core.volume import Volume
from napari_geosr.learning.diffusion.sampling import noise_field, sample
from napari_geosr.models import zoo

Array = npt.NDArray[Any]

#: Grey values of pores and grains.
PORE, GRAIN = 64.0, 192.0
#: Standard deviation of the blur in voxels, and of the noise in grey values.
BLUR, NOISE = 0.7, 2.0
#: Slices for training and for evaluation.
TRAINED = slice(0, 130)
PARTS = {"middle": slice(135, 265), "test": slice(270, 400)}
#: Edge of the images that are compared, their number and their porosities.
EDGE, SAMPLES, POROSITIES = 64, 64, (0.15, 0.20, 0.25)
#: Settings of the training.
SETTINGS: dict[str, Any] = {
    "dimensions": "2D",
    "network": "diffusion_unet",
    "layers": 3,
    "width": 16,
    "patch": 64,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "condition": "porosity",
    "threads": 1,
}


def solid_voxels(path: Path) -> Array:
    """Read the segmented scan; True in grains."""
    with zipfile.ZipFile(path) as files, tempfile.TemporaryDirectory() as folder:
        name = next(n for n in files.namelist() if n.endswith(".tif"))
        return np.asarray(tifffile.imread(files.extract(name, folder)) > 0)


def grey_values(solid: Array, seed: int = 0) -> Array:
    """Simulate a high-quality scan."""
    clean = PORE + (GRAIN - PORE) * solid.astype(np.float32)
    noise = np.random.default_rng(seed).standard_normal(clean.shape, np.float32)
    return np.asarray(gaussian_filter(clean, BLUR) + np.float32(NOISE) * noise)


def train(options: argparse.Namespace) -> None:
    """Train, or resume an interrupted training."""
    scan = grey_values(solid_voxels(Path(options.data)))[TRAINED]
    model = geosr.train(
        "ddpm",
        Path(options.work) / options.name,
        Volume(scan, "ZYX", name="berea"),
        name="sandstone-prior",
        steps=options.steps,
        from_model=options.start_from,
        **SETTINGS,
    )
    print(model.card.figures, flush=True)


def pore_masks(samples: Array) -> Array:
    """Pores of images, at the threshold between the two grey values."""
    return np.asarray(samples) <= (PORE + GRAIN) / 2


def two_point(masks: Array, reach: int = EDGE // 2) -> Array:
    """Probability that two voxels at a distance along Y or X are both pores."""
    values = [float(masks.mean())]
    for lag in range(1, reach):
        along_y = (masks[:, lag:] & masks[:, :-lag]).mean()
        along_x = (masks[:, :, lag:] & masks[:, :, :-lag]).mean()
        values.append(float(along_y + along_x) / 2)
    return np.array(values)


def boundary(masks: Array) -> float:
    """Number of changes between pore and grain per voxel (specific surface)."""
    along_y = (masks[:, 1:] != masks[:, :-1]).mean()
    along_x = (masks[:, :, 1:] != masks[:, :, :-1]).mean()
    return float(along_y + along_x) / 2


def euler(masks: Array) -> float:
    """Return the mean Euler number of the pores of an image."""
    return float(np.mean([euler_number(mask, connectivity=2) for mask in masks]))


def patches_of(masks: Array, porosity: float, n: int, seed: int) -> Array:
    """Random patches with a porosity that differs by less than 0.01."""
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    while len(found) < n:
        z = rng.integers(len(masks))
        y, x = rng.integers(masks.shape[1] - EDGE + 1, size=2)
        patch = masks[z, y : y + EDGE, x : x + EDGE]
        if abs(patch.mean() - porosity) < 0.01:
            found.append(patch)
    return np.stack(found)


def judge(options: argparse.Namespace) -> None:
    """Compare samples of each porosity with real patches of this porosity."""
    torch.set_num_threads(1)
    part = PARTS[options.part]
    test = pore_masks(grey_values(solid_voxels(Path(options.data)))[part])
    model = zoo.find(str(Path(options.work) / options.name))
    network, scale = model.network(), model.card.normalisation
    for guidance in options.guidance:
        for porosity in options.porosity:
            noise = [
                noise_field((options.seed, i), [slice(0, EDGE)] * 2)[None]
                for i in range(SAMPLES)
            ]
            drawn = sample(
                network,
                torch.from_numpy(np.stack(noise)),
                options.sampling_steps,
                porosity=porosity,
                guidance=guidance,
            )
            assert scale.std is not None
            assert scale.mean is not None
            made = pore_masks(drawn[:, 0].numpy() * scale.std + scale.mean)
            print(f"guidance {guidance:g}, porosity {porosity:g}:")
            real = patches_of(test, porosity, 1000, 0)
            other = patches_of(test, porosity, SAMPLES, 1)
            for name, masks in (("generated", made), ("real patches", other)):
                difference = np.abs(two_point(masks) - two_point(real)).max()
                each = masks.mean((1, 2))
                print(
                    f"  {name}: porosity {each.mean():.4f} ± {each.std():.4f}, S2 "
                    f"{100 * difference / (porosity * (1 - porosity)):.1f} %, surface "
                    f"{100 * (boundary(masks) / boundary(real) - 1):+.1f} %, Euler "
                    f"{euler(masks):.2f} (real {euler(real):.2f})",
                    flush=True,
                )


def main() -> None:
    """Run training or evaluation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["train", "judge"])
    parser.add_argument("data")
    parser.add_argument("--work", default="build/sandstone")
    parser.add_argument("--name", default="job")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--start-from")
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--porosity", type=float, nargs="+", default=POROSITIES)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0])
    parser.add_argument("--sampling-steps", type=int, default=30)
    options = parser.parse_args()
    {"train": train, "judge": judge}[options.action](options)


if __name__ == "__main__":
    main()
