"""Train the diffusion model of sandstone on part of the Berea sandstone.

    python scripts/pretraining/sandstone.py train berea.zip --work build/sandstone
    python scripts/pretraining/sandstone.py judge berea.zip --work build/sandstone
    python scripts/pretraining/sandstone.py train berea.zip --name 3d --dimensions 3D
    python scripts/pretraining/sandstone.py judge berea.zip --name 3d

The scan is segmented, so its grey values are simulated: pores and grains have fixed
values, which are blurred, and a little noise is added. The first third of the slices is
for training, the last third for evaluation: generated images are compared with patches
of this part that have the same porosity. With ``--dimensions 3D``, the images are
volumes, which requires a GPU. Prints the CPU time per training step and per sample.
"""

from __future__ import annotations

import argparse
import tempfile
import time
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
from napari_geosr.models.bundle import Model

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
#: Number of real patches, by number of axes. They overlap in 3D.
N_REAL = {2: 1000, 3: 200}
#: Settings of the training.
SETTINGS: dict[str, Any] = {
    "network": "diffusion_unet",
    "layers": 3,
    "width": 16,
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
    """Train, or resume an interrupted training run."""
    scan = grey_values(solid_voxels(Path(options.data)))[TRAINED]
    began = time.process_time()
    model = geosr.train(
        "ddpm",
        Path(options.work) / options.name,
        Volume(scan, "ZYX", name="berea"),
        name="sandstone-prior",
        steps=options.steps,
        from_model=options.start_from,
        dimensions=options.dimensions,
        patch=options.patch,
        batch_size=options.batch_size,
        device=options.device,
        **SETTINGS,
    )
    seconds = (time.process_time() - began) / options.steps
    print(f"CPU time per step: {seconds:.2f} s")
    print(model.card.figures, flush=True)


def pore_masks(samples: Array) -> Array:
    """Pores of images, at the threshold between the two grey values."""
    return np.asarray(samples) <= (PORE + GRAIN) / 2


def pairs(masks: Array, lag: int) -> list[tuple[Array, Array]]:
    """Return the voxels at a distance of `lag` along each axis."""
    return [
        (
            np.take(masks, range(lag, masks.shape[axis]), axis),
            np.take(masks, range(masks.shape[axis] - lag), axis),
        )
        for axis in range(1, masks.ndim)
    ]


def two_point(masks: Array, reach: int = EDGE // 2) -> Array:
    """Probability that two voxels at a distance along an axis are both pores."""
    values = [float(masks.mean())]
    for lag in range(1, reach):
        along = [float((one & other).mean()) for one, other in pairs(masks, lag)]
        values.append(float(np.mean(along)))
    return np.array(values)


def boundary(masks: Array) -> float:
    """Number of changes between pore and grain per voxel (specific surface)."""
    return float(np.mean([(a != b).mean() for a, b in pairs(masks, 1)]))


def euler(masks: Array) -> float:
    """Return the mean Euler number of the pores of an image."""
    ndim = masks.ndim - 1
    return float(np.mean([euler_number(mask, connectivity=ndim) for mask in masks]))


def patches_of(masks: Array, porosity: float, n: int, ndim: int, seed: int) -> Array:
    """Random patches with a porosity that differs by less than 0.01."""
    rng = np.random.default_rng(seed)
    depth = 1 if ndim == 2 else EDGE
    found: list[Array] = []
    while len(found) < n:
        z = rng.integers(len(masks) - depth + 1)
        y, x = rng.integers(masks.shape[1] - EDGE + 1, size=2)
        patch = masks[z : z + depth, y : y + EDGE, x : x + EDGE]
        if abs(patch.mean() - porosity) < 0.01:
            found.append(patch[0] if ndim == 2 else patch)
    return np.stack(found)


def generated(model: Model, options: argparse.Namespace, **wish: float) -> Array:
    """Draw samples, one after another."""
    network, scale = model.network().to(options.device), model.card.normalisation
    assert scale.std is not None
    assert scale.mean is not None
    drawn, box = [], [slice(0, EDGE)] * len(model.card.axes)
    for i in range(options.samples):
        noise = torch.from_numpy(noise_field((options.seed, i), box)[None, None])
        sampled = sample(
            network, noise.to(options.device), options.sampling_steps, **wish
        )
        drawn.append(sampled[0, 0].cpu().numpy() * scale.std + scale.mean)
    return pore_masks(np.stack(drawn))


def judge(options: argparse.Namespace) -> None:
    """Compare samples of each porosity with real patches of this porosity."""
    torch.set_num_threads(1)
    part = PARTS[options.part]
    test = pore_masks(grey_values(solid_voxels(Path(options.data)))[part])
    model = zoo.find(str(Path(options.work) / options.name))
    ndim = len(model.card.axes)
    for guidance in options.guidance:
        for porosity in options.porosity:
            began = time.process_time()
            made = generated(model, options, porosity=porosity, guidance=guidance)
            seconds = (time.process_time() - began) / len(made)
            print(
                f"guidance {guidance:g}, porosity {porosity:g}: CPU time per sample "
                f"{seconds:.1f} s"
            )
            real = patches_of(test, porosity, N_REAL[ndim], ndim, 0)
            other = patches_of(test, porosity, SAMPLES, ndim, 1)
            for name, masks in (("generated", made), ("real patches", other)):
                difference = np.abs(two_point(masks) - two_point(real)).max()
                each = masks.mean(tuple(range(1, masks.ndim)))
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
    parser.add_argument("--dimensions", choices=["2D", "3D"], default="2D")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--porosity", type=float, nargs="+", default=POROSITIES)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0])
    parser.add_argument("--sampling-steps", type=int, default=30)
    options = parser.parse_args()
    {"train": train, "judge": judge}[options.action](options)


if __name__ == "__main__":
    main()
