"""Train the bundled super-resolution models that use the noise of the scan.

    python scripts/train_super_resolution.py ct-sr-x2 --out build/ct-sr-x2
    python scripts/train_super_resolution.py ct-sr-x2 --out build/ct-sr-x2 --stage 1
    python scripts/bundle_super_resolution.py ct-sr-x2 --work build/ct-sr-x2

Noise-free scenes are simulated once on the fine grid: dead leaves with features of real
scans, and pores in a solid, most of them blurred. During training, patches are averaged
over the voxels of the scan, and noise of all levels (including none), with all
correlations along each axis, is added. The target is the scene on the fine grid, with
the same blur as in the scan.

This script contains all settings; with the same seeds, a training run on one thread is
reproducible.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

import train_denoisers
from napari_geosr.measure.resolution.edge_sharpness import edge_sharpness
from napari_geosr.networks import build_network
from napari_geosr.networks.layers.noise_map import BOX, REACH
from napari_geosr.networks.layers.parabolas import (
    parabola_weights,
    upscaled_by_parabolas,
)
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.scenes import random_scene
from napari_geosr.physics.simulated import ct_object

Array = npt.NDArray[np.float32]

#: Edge of a scene in fine voxels.
EDGE = 72
N_SCENES, BATCH = 480, 8
#: Number of patches that are cut from one volume of noise.
PER_NOISE = 4
#: Fraction of noise with the spectrum of filtered back-projection, in each stage.
RECONSTRUCTED = (0.25, 0.4)
#: Levels of the noise relative to the contrast, and fraction of patches without noise.
LEVELS, NOISELESS = (0.004, 0.7), 0.12
#: Fraction of patches with noise that depends on the grey value.
SIGNAL_DEPENDENT = 0.3
#: Errors in the level and the sharpness (relative) and in the correlations given to the
#: network.
TOLD_LEVEL, TOLD_CORRELATION, TOLD_SHARPNESS = 0.12, 0.06, 0.06
#: Fraction of patches for which the sharpness is not given to the network; if the noise
#: is strong, the fraction is larger by 0.25.
UNTOLD = 0.25
#: Fraction of scenes that are blurred, and the largest standard deviation in voxels of
#: the scan.
BLURRED, MAX_BLUR = 0.6, 0.9
#: Learning rate of each stage.
LEARNING_RATES = (2e-3, 1e-3)
AVERAGE = 0.999


@dataclass(frozen=True)
class Training:
    """Settings of one model: the factor, the patch in voxels of the scan, the seed."""

    factor: int
    patch: int
    seed: int

    @property
    def network(self) -> dict[str, Any]:
        """Settings of the network."""
        return {
            "ndim": 3,
            "upscale_factor": self.factor,
            "features": 24,
            "blocks": 2,
            "coarse_blocks": 1,
            "bound": 4.0,
            "sharpness": True,
        }


TRAININGS = {
    "ct-sr-x2": Training(factor=2, patch=20, seed=41_402),
    "ct-sr-x4": Training(factor=4, patch=14, seed=41_404),
}


def fine_scene(factor: int, rng: np.random.Generator) -> Array:
    """Return a noise-free scene of any kind, or pores in a solid, blurred or not."""
    shape = (EDGE,) * 3
    if rng.random() < 0.7:
        scene = random_scene(shape, rng)
    else:
        phantom, texture = ct_object(shape, rng)
        scene = phantom.fraction.copy()
        if texture is not None:
            scene = scene + texture
        if rng.random() < 0.5:
            scene = 1 - scene
    if rng.random() < BLURRED:
        plane = rng.uniform(0.1, MAX_BLUR)
        along = plane if rng.random() < 0.7 else rng.uniform(0.0, MAX_BLUR)
        scene = gaussian_blur(scene, (along * factor, plane * factor, plane * factor))
    return train_denoisers.normalised(scene.astype(np.float32))


def averaged(scene: Array, factor: int) -> Array:
    """Return the means over the voxels of the scan."""
    z, y, x = (n // factor for n in scene.shape)
    blocks = scene.reshape(z, factor, y, factor, x, factor)
    return blocks.mean((1, 3, 5), dtype=np.float32)


def make_scenes(name: str, folder: Path) -> tuple[Array, Array]:
    """All scenes, written to a file on first use, and the sharpness of their scans."""
    training, path = TRAININGS[name], folder / f"scenes-{name}.npy"
    if not path.exists():
        made = np.empty((N_SCENES, EDGE, EDGE, EDGE), np.float16)
        for number in range(N_SCENES):
            rng = np.random.default_rng([training.seed, number])
            made[number] = fine_scene(training.factor, rng)
            if number % 50 == 49:
                print(f"{number + 1} scenes", flush=True)
        np.save(path, made)
    scenes = np.load(path)
    sharpness = [
        edge_sharpness([averaged(scene.astype(np.float32), training.factor)]) or 0.0
        for scene in scenes
    ]
    return scenes, np.asarray(sharpness, np.float32)


def draw(
    scenes: Array,
    sharpness: Array,
    training: Training,
    rng: np.random.Generator,
    reconstructed: float = RECONSTRUCTED[0],
) -> tuple[torch.Tensor, ...]:
    """A batch: scans, targets, and the given level, correlation and sharpness."""
    factor, patch = training.factor, training.patch
    noisy, fine, levels, told, edges, weights = [], [], [], [], [], []
    while len(noisy) < BATCH:
        shape = (patch, patch + 4, patch + 4)
        noise = train_denoisers.random_noise(shape, rng, reconstructed)
        found = train_denoisers.correlation(noise)
        for _ in range(PER_NOISE):
            number = int(rng.integers(len(scenes)))
            z, y, x = (int(v) for v in rng.integers(EDGE - patch * factor + 1, size=3))
            n = patch * factor
            scene = scenes[number, z : z + n, y : y + n, x : x + n].astype(np.float32)
            if rng.random() < 0.5:
                scene = 1 - scene * np.float32(rng.uniform(0.5, 1))
            b, a = (int(v) for v in rng.integers(5, size=2))
            unit = noise[:, b : b + patch, a : a + patch]
            order = rng.permutation(3) if rng.random() < 0.3 else np.array([0, 1, 2])
            if rng.random() < 0.5:
                order = order[[0, 2, 1]]
            # Turn only the scenes, because noise has a preferred direction.
            turned = scene.transpose(rng.permutation(3))
            for axis in range(3):
                if rng.random() < 0.5:
                    turned = np.flip(turned, axis)
            unit = unit.transpose(order)
            z_y_x = [found[i] for i in order]
            clean = averaged(np.ascontiguousarray(turned), factor)
            level = 0.0
            if rng.random() >= NOISELESS:
                level = math.exp(rng.uniform(*np.log(LEVELS)))
            base, slope = level**2, 0.0
            if rng.random() < SIGNAL_DEPENDENT:
                share = rng.uniform(0.0, 0.95)  # signal-dependent part of variance
                base, slope = (1 - share) * level**2, share * level**2 * 1.5
            spread = np.sqrt(np.maximum(base + slope * clean, 1e-3 * level**2))
            seen = clean + spread * unit
            if level and rng.random() < 0.08:  # rounding, as to 8 bits
                step = np.float32(rng.uniform(0.2, 1.0) * level)
                seen = np.round(seen / step) * step
            # Standardise as if the patch were part of a whole volume.
            mean = 0.5 + rng.normal() * 0.15
            std = math.sqrt(0.35**2 * math.exp(rng.uniform(-1.6, 0.6)) + level**2)
            noisy.append((seen - mean) / std)
            fine.append((turned - mean) / std)
            wrong = math.exp(rng.normal() * TOLD_LEVEL) / std
            levels.append((base + slope * mean, slope * std, 1e-3 * level**2, wrong))
            told.append(z_y_x)
            unsure = UNTOLD + (0.25 if level > 0.3 else 0.0)
            edge = float(sharpness[number]) * math.exp(rng.normal() * TOLD_SHARPNESS)
            edges.append(0.0 if rng.random() < unsure else edge)
            weights.append(level / std)
    x = _as_tensor(noisy)[:, None]
    curve = torch.tensor(levels[:BATCH]).view(BATCH, 4, 1, 1, 1)
    box = functional.pad(x, (REACH,) * 6, mode="replicate")
    mean = functional.avg_pool3d(box, BOX, 1)
    variance = torch.maximum(curve[:, :1] + curve[:, 1:2] * mean, curve[:, 2:3])
    level_map = variance.clamp_min(0).sqrt() * curve[:, 3:]
    shown = torch.tensor(told[:BATCH]) + TOLD_CORRELATION * torch.from_numpy(
        rng.standard_normal((BATCH, 3), dtype=np.float32)
    )
    edge = torch.tensor(edges[:BATCH])[:, None]
    return (
        x,
        _as_tensor(fine)[:, None],
        level_map,
        shown,
        edge,
        torch.tensor(weights[:BATCH]),
    )


def _as_tensor(values: list[Array]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(values[:BATCH]), np.float32))


def recipe(name: str, steps: list[int]) -> dict[str, Any]:
    """All settings of a training run, for the ``train.yaml`` next to the weights."""
    return {
        "script": "scripts/train_super_resolution.py",
        "network": TRAININGS[name].network,
        **asdict(TRAININGS[name]),
        "steps": steps,
        "scene_edge": EDGE,
        "n_scenes": N_SCENES,
        "batch_size": BATCH,
        "per_noise": PER_NOISE,
        "learning_rates": list(LEARNING_RATES),
        "reconstructed": list(RECONSTRUCTED),
        "levels": list(LEVELS),
        "noiseless": NOISELESS,
        "signal_dependent": SIGNAL_DEPENDENT,
        "told_level": TOLD_LEVEL,
        "told_correlation": TOLD_CORRELATION,
        "told_sharpness": TOLD_SHARPNESS,
        "untold_sharpness": UNTOLD,
        "blurred": BLURRED,
        "max_blur": MAX_BLUR,
        "weight_average": AVERAGE,
        "precision": "bfloat16",
    }


def train(name: str, out: Path, stage: int, steps: int, threads: int) -> None:
    """Train and write ``weights.pt`` (averaged weights) every few hundred steps."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    training = TRAININGS[name]
    scenes, sharpness = make_scenes(name, out)
    rng = np.random.default_rng([training.seed, (1 << 20) + stage])
    network = build_network("conditioned_sr", **training.network)
    before, rate = [], LEARNING_RATES[stage]
    if stage:
        before = (out / "steps.txt").read_text().split()[:stage]
        shutil.copy(out / "weights.pt", out / f"weights-{stage}.pt")
        network.load_state_dict(torch.load(out / "weights.pt", weights_only=True))
    averaged_model = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
    )
    optimiser = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps, pct_start=0.08
    )
    spread = parabola_weights(training.factor)
    start, losses = time.time(), []
    for step in range(steps):
        x, target, level, told, edge, noise = draw(
            scenes, sharpness, training, rng, RECONSTRUCTED[stage]
        )
        with torch.autocast("cpu", torch.bfloat16):
            y = network(x, level, told, edge)
        squares = (y.float() - target).square().mean((1, 2, 3, 4))
        # Weight patches by their difficulty, i.e. by the error without a network.
        plain = functional.avg_pool3d(target, training.factor)
        plain = (upscaled_by_parabolas(plain, spread) - target).square()
        hard = plain.mean((1, 2, 3, 4)) + 0.3 * noise.square() + 1e-3
        loss = (squares / hard.sqrt()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        averaged_model.update_parameters(network)
        losses.append([float(loss.detach()), float((squares / hard).mean().detach())])
        if step % 250 == 249 or step == steps - 1:
            spent = (time.time() - start) / 60
            mean_loss, share = np.mean(losses[-250:], 0)
            print(f"{step + 1} {mean_loss:.5f} {share:.4f} {spent:.1f} min", flush=True)
            torch.save(averaged_model.module.state_dict(), out / "weights.pt")
            (out / "steps.txt").write_text(" ".join([*before, str(step + 1)]))


def main() -> None:
    """Train the named model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(TRAININGS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--stage", type=int, choices=(0, 1), default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(
        arguments.name,
        arguments.out,
        arguments.stage,
        arguments.steps,
        arguments.threads,
    )


if __name__ == "__main__":
    main()
