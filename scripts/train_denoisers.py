"""Train the bundled noise-bounded denoisers.

    python scripts/train_denoisers.py ct-denoise --out build/ct-denoise
    python scripts/train_denoisers.py ct-denoise --out build/ct-denoise --stage 1
    python scripts/bundle_denoiser.py ct-denoise --work build/ct-denoise

Noise-free scenes are simulated once (`napari_geosr.physics.scenes`, and the foams,
blobs and cells of the other bundled models). During training, noise of all levels
(including none), with all correlations along each axis, and with levels that depend on
the grey value is added to patches. The network is given the level and the correlation
of the noise, with errors like those of a measurement.

This script contains all settings; with the same seeds, a training run on one thread is
reproducible.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from napari_geosr.networks import build_network
from napari_geosr.networks.layers.noise_map import BOX, REACH
from napari_geosr.physics import fluorescence
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.noise import reconstruction_noise
from napari_geosr.physics.scenes import random_scene
from napari_geosr.physics.simulated import ct_object

Array = npt.NDArray[np.float32]

NETWORK: dict[str, Any] = {
    "ndim": 2,
    "adjacent_slices": 7,
    "body": "merged",
    "bound": 4.0,
    "features": 32,
    "blocks": 2,
}
SHAPE = (24, 96, 96)
PATCH, BATCH = 64, 16
PLANES = NETWORK["adjacent_slices"]
#: Levels of the noise relative to the contrast, and fraction of patches without noise.
LEVELS, NOISELESS = (0.004, 0.9), 0.05
#: Levels of strong noise, relative to the contrast.
STRONG = (0.1, 0.8)
#: Errors in the level (relative) and in the correlations given to the network.
TOLD_LEVEL, TOLD_CORRELATION = 0.12, 0.06
LEARNING_RATE = 2e-3
AVERAGE = 0.999


@dataclass(frozen=True)
class World:
    """Training data of one stage of a training run.

    Attributes
    ----------
    seed : int
        Seed of the stage; with the number of a scene, it determines the scene.
    n_scenes, n_porous : int
        Numbers of scenes of the model's own kind, and of additional scenes of pores.
    signal_dependent : float
        Fraction of patches with noise that depends on the grey value.
    strong : float
        Fraction of patches with noise of strong levels only.
    reconstructed : float
        Fraction of noise with the spectrum of filtered back-projection.
    per_noise : int
        Number of patches that are cut from one volume of noise.
    single : float
        Fraction of patches that represent a single image: all planes are equal.
    """

    seed: int
    n_scenes: int
    signal_dependent: float
    n_porous: int = 0
    strong: float = 0.0
    reconstructed: float = 0.25
    per_noise: int = 4
    single: float = 0.12


#: Stages of a training run in order; each has its own schedule.
WORLDS = {
    "ct-denoise": (
        World(seed=41_301, n_scenes=480, signal_dependent=0.3),
        World(
            seed=41_301,
            n_scenes=480,
            signal_dependent=0.25,
            n_porous=320,
            strong=0.4,
            reconstructed=0.4,
            per_noise=8,
        ),
    ),
    "fluo-denoise": (
        World(
            seed=41_302,
            n_scenes=320,
            signal_dependent=0.85,
            strong=0.2,
            reconstructed=0.05,
            per_noise=8,
        ),
        World(
            seed=41_303,
            n_scenes=480,
            signal_dependent=0.85,
            strong=0.35,
            reconstructed=0.05,
            per_noise=8,
            single=0.35,
        ),
    ),
}


def ct_scene(rng: np.random.Generator) -> Array:
    """Return a scene of any kind, or pores in a solid."""
    if rng.random() < 0.7:
        return random_scene(SHAPE, rng)
    return porous_scene(rng)


def porous_scene(rng: np.random.Generator) -> Array:
    """Pores in a solid, dark or bright, blurred or not."""
    phantom, texture = ct_object(SHAPE, rng)
    scene = phantom.fraction.copy()
    if texture is not None:
        scene = scene + texture
    if rng.random() < 0.5:
        scene = 1 - scene
    return gaussian_blur(scene, rng.uniform(0.0, 1.2)).astype(np.float32)


def fluo_scene(rng: np.random.Generator) -> Array:
    """Cells under a microscope, with haze; or a blurred scene of any kind."""
    microscope = fluorescence.random_microscope(rng)
    if rng.random() < 0.25:
        light = np.maximum(random_scene(SHAPE, rng), 0)
        light = light ** np.float32(rng.uniform(1, 3))
    else:
        light = fluorescence.random_phantom(SHAPE, rng, step=microscope.step)
    if rng.random() < 0.4:
        haze = gaussian_blur(light, (2.0, rng.uniform(6, 20), rng.uniform(6, 20)))
        light = light + np.float32(rng.uniform(0.5, 3.0)) * haze
    return fluorescence.blurred_image(light, microscope)


SCENES = {"ct-denoise": ct_scene, "fluo-denoise": fluo_scene}


def make_scenes(name: str, folder: Path, stage: int = 0) -> Array:
    """All scenes of a stage, with grey values scaled as by `normalised`."""
    world = WORLDS[name][stage]
    first = WORLDS[name][0].seed == world.seed
    path = folder / (f"scenes-{name}.npy" if first else f"scenes-{name}-{stage}.npy")
    found = _made(path, SCENES[name], world, world.n_scenes)
    if not world.n_porous:
        return found
    path = folder / f"scenes-{name}-porous.npy"
    return np.concatenate([found, _made(path, porous_scene, world, world.n_porous)])


def _made(
    path: Path, scene: Callable[[np.random.Generator], Array], world: World, n: int
) -> Array:
    """Load scenes from a file, which is written if it does not exist."""
    if not path.exists():
        made = np.empty((n, *SHAPE), np.float16)
        for number in range(n):
            # Scenes of pores are numbered separately.
            first = 10_000 if scene is porous_scene else 0
            rng = np.random.default_rng([world.seed, first + number])
            made[number] = normalised(scene(rng))
            if number % 50 == 49:
                print(f"{number + 1} scenes", flush=True)
        np.save(path, made)
    return np.load(path)


def first_scene(name: str) -> Array:
    """Return the first scene of a kind, for checking whether it can be reproduced."""
    rng = np.random.default_rng([WORLDS[name][0].seed, 0])
    return normalised(SCENES[name](rng)).astype(np.float16)


def normalised(scene: Array) -> Array:
    """Scale grey values to 0 … 1 (2nd to 98th percentile); clip extreme ones."""
    low, high = np.percentile(scene, (2, 98))
    if high - low < 0.05 * (scene.max() - scene.min()):  # sparse: use the whole range
        low, high = float(scene.min()), float(scene.max())
    return np.clip((scene - low) / max(float(high - low), 1e-6), -4, 8)


def random_noise(
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    reconstructed: float = 0.25,
) -> Array:
    """Noise of standard deviation 1: independent, correlated or as reconstructed.

    The correlation in the plane and along Z is drawn separately; it is caused by
    detectors, scintillators, reconstruction filters and resampling.
    """
    if rng.random() < reconstructed:
        cutoff = rng.uniform(0.4, 1.0)
        noise = reconstruction_noise(shape, 1.0, rng, cutoff=cutoff)
        plane = rng.uniform(0, 0.7) if rng.random() < 0.4 else 0.0
    else:
        noise = rng.standard_normal(shape, dtype=np.float32)
        plane = rng.uniform(0, 1.1) if rng.random() < 0.7 else 0.0
    along = rng.uniform(0, 1.1) if rng.random() < 0.6 else 0.0
    across = plane if rng.random() < 0.85 else rng.uniform(0, 1.0)
    noise = gaussian_blur(noise, (along, plane, across))
    if rng.random() < 0.1:  # line noise, as from cameras or scanners
        lines = rng.standard_normal((*shape[:2], 1), dtype=np.float32)
        noise = noise / noise.std() + np.float32(rng.uniform(0, 0.3)) * lines
    return (noise / noise.std()).astype(np.float32)


def correlation(noise: Array) -> list[float]:
    """Return the correlation of adjacent voxels along Z, Y and X."""
    return [
        float((noise[1:] * noise[:-1]).mean()),
        float((noise[:, 1:] * noise[:, :-1]).mean()),
        float((noise[..., 1:] * noise[..., :-1]).mean()),
    ]


def draw(scenes: Array, world: World, rng: np.random.Generator) -> tuple[Any, ...]:
    """A batch: noisy slabs, clean planes, and the given level and correlation."""
    noisy, clean, curves, told, levels = [], [], [], [], []
    while len(noisy) < BATCH:
        noise = random_noise(SHAPE, rng, world.reconstructed)
        found = correlation(noise)
        for _ in range(world.per_noise):
            scene = scenes[rng.integers(len(scenes))]
            z = int(rng.integers(SHAPE[0] - PLANES + 1))
            y, x = (int(v) for v in rng.integers(SHAPE[1] - PATCH + 1, size=2))
            key = (slice(z, z + PLANES), slice(y, y + PATCH), slice(x, x + PATCH))
            a, b = scene[key].astype(np.float32), noise[key]
            a = a if rng.random() < 0.5 else 1 - a * np.float32(rng.uniform(0.5, 1))
            level = 0.0
            if rng.random() >= NOISELESS:
                level = math.exp(rng.uniform(*np.log(LEVELS)))
                if world.strong and rng.random() < world.strong:
                    level = rng.uniform(*STRONG)
            base, slope = level**2, 0.0
            if rng.random() < world.signal_dependent:
                share = rng.uniform(0.0, 0.95)  # signal-dependent part of variance
                base, slope = (1 - share) * level**2, share * level**2 * 1.5
                if rng.random() < 0.15:
                    base, slope = base + slope, -slope
            spread = np.sqrt(np.maximum(base + slope * a, 1e-3 * level**2))
            seen = a + spread * b
            if level and rng.random() < 0.08:  # rounding, as to 8 bits
                step = np.float32(rng.uniform(0.2, 1.0) * level)
                seen = np.round(seen / step) * step
            flip = rng.random(3) < 0.5
            for axis in (0, 1, 2):
                if flip[axis]:
                    seen, a = np.flip(seen, axis), np.flip(a, axis)
            z_y_x = list(found)
            if rng.random() < 0.5:
                seen, a = seen.swapaxes(1, 2), a.swapaxes(1, 2)
                z_y_x = [found[0], found[2], found[1]]
            if rng.random() < world.single:  # a single image is repeated for all slices
                seen = np.repeat(seen[PLANES // 2][None], PLANES, 0)
                a = np.repeat(a[PLANES // 2][None], PLANES, 0)
                z_y_x[0] = 0.0
            # Standardise as if the patch were part of a whole volume.
            mean = 0.5 + rng.normal() * 0.15
            std = math.sqrt(0.35**2 * math.exp(rng.uniform(-1.6, 0.6)) + level**2)
            wrong = math.exp(rng.normal() * TOLD_LEVEL) / std
            noisy.append((seen - mean) / std)
            clean.append((a[PLANES // 2][None] - mean) / std)
            least = max(1e-3 * level**2, 0.0)
            curves.append((base + slope * mean, slope * std, least, wrong))
            told.append(z_y_x)
            levels.append(level / std)
    x = _as_tensor(noisy)
    curve = torch.tensor(curves[:BATCH]).view(BATCH, 4, 1, 1, 1)
    box = functional.pad(x.mean(1, keepdim=True), (REACH,) * 4, mode="replicate")
    mean = functional.avg_pool2d(box, BOX, 1)
    variance = torch.maximum(curve[:, 0] + curve[:, 1] * mean, curve[:, 2])
    level_map = variance.clamp_min(0).sqrt() * curve[:, 3]
    shown = torch.tensor(told[:BATCH])
    shown = shown + TOLD_CORRELATION * torch.from_numpy(
        rng.standard_normal(shown.shape, dtype=np.float32)
    )
    return x, _as_tensor(clean), level_map, shown, torch.tensor(levels[:BATCH])


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _as_tensor(values: list[Array]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(values[:BATCH]), np.float32))


def recipe(name: str, steps: list[int]) -> dict[str, Any]:
    """All settings of a training run, for the ``train.yaml`` next to the weights."""
    return {
        "script": "scripts/train_denoisers.py",
        "network": NETWORK,
        "stages": [asdict(world) for world in WORLDS[name]],
        "steps": steps,
        "shape": list(SHAPE),
        "batch_size": BATCH,
        "patch": PATCH,
        "learning_rate": LEARNING_RATE,
        "levels": list(LEVELS),
        "noiseless": NOISELESS,
        "strong_levels": list(STRONG),
        "told_level": TOLD_LEVEL,
        "told_correlation": TOLD_CORRELATION,
        "weight_average": AVERAGE,
        "precision": "bfloat16",
    }


def train(
    name: str, out: Path, stage: int, steps: int, rate: float, threads: int
) -> None:
    """Train and write ``weights.pt`` (averaged weights) every few hundred steps."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    world = WORLDS[name][stage]
    scenes = make_scenes(name, out, stage)
    rng = np.random.default_rng([world.seed, (1 << 20) + stage])
    network = build_network("noise_bounded", **NETWORK)
    before = [int(n) for n in _read(out / "steps.txt").split()][:stage]
    if stage:
        shutil.copy(out / "weights.pt", out / f"weights-{stage}.pt")
        network.load_state_dict(torch.load(out / "weights.pt", weights_only=True))
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
    )
    optimiser = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps, pct_start=0.08
    )
    start, losses = time.time(), []
    for step in range(steps):
        x, target, level, told, spread = draw(scenes, world, rng)
        with torch.autocast("cpu", torch.bfloat16):
            y = network(x, level, told)
        weight = 1 / (spread.square() + 2e-3).sqrt().view(-1, 1, 1, 1)
        loss = (weight * (y.float() - target).square()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(network)
        losses.append(float(loss.detach()))
        if step % 250 == 249 or step == steps - 1:
            spent = (time.time() - start) / 60
            print(
                f"{step + 1} {np.mean(losses[-250:]):.5f} {spent:.1f} min", flush=True
            )
            torch.save(averaged.module.state_dict(), out / "weights.pt")
            (out / "steps.txt").write_text(" ".join(map(str, [*before, step + 1])))


def main() -> None:
    """Train the named model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=sorted(WORLDS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", type=int, default=0)
    parser.add_argument("--steps", type=int, default=28_000)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(
        arguments.model,
        arguments.out,
        arguments.stage,
        arguments.steps,
        arguments.rate,
        arguments.threads,
    )


if __name__ == "__main__":
    main()
