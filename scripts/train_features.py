"""Train the feature network ``structure`` of the perceptual loss.

    python scripts/train_features.py            # a few minutes on one core

From slices of simulated porous media, the network learns to distinguish properties
that a restoration has to preserve: the kind of the pores (4), their size (3 classes),
the level of the noise (3) and its kind (independent, or as in a reconstruction).
Contrast, offset and sign of the grey values are random, so that the features depend on
structure and not on grey values. The accuracy on phantoms with other seeds is printed
and stored in the metadata of the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from napari_geosr.learning.losses import perceptual
from napari_geosr.physics import noise
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.specimens import phantoms

FOLDER = Path(perceptual.__file__).parent
SHAPE = (16, 96, 96)
PATCH = 48
KINDS = ("foam", "rare pores", "blobs", "bicontinuous")
SIZES = (2.0, 3.5, 6.0)
NOISES = (0.1, 0.35, 0.9)
#: Number of classes of each property: kind, size, noise level, kind of noise.
QUESTIONS = (len(KINDS), len(SIZES), len(NOISES), 2)


def phantom(kind: int, size: int, seed: int) -> phantoms.Phantom:
    """Pores of one kind and size."""
    rng = np.random.default_rng([seed, kind, size])
    r = SIZES[size] * rng.uniform(0.9, 1.1)
    seed = int(rng.integers(2**31))
    if kind == 0:
        return phantoms.sphere_foam(
            SHAPE, porosity=rng.uniform(0.2, 0.35), radius=(0.8 * r, 1.3 * r), seed=seed
        )
    if kind == 1:
        return phantoms.rare_pores(
            SHAPE,
            porosity=rng.uniform(0.02, 0.06),
            radius=(0.8 * r, 1.3 * r),
            seed=seed,
        )
    porosity = rng.uniform(0.2, 0.5)
    if kind == 2:
        return phantoms.random_blobs(SHAPE, porosity=porosity, radius=r, seed=seed)
    return phantoms.bicontinuous(
        SHAPE, porosity=porosity, wavelength=4 * r, sheets=seed % 2 == 0, seed=seed
    )


class Slices:
    """Noise-free phantoms and noise fields; patches of both are combined when drawn."""

    def __init__(self, n_each: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.structures, self.labels = [], []
        for i in range(n_each):
            for kind in range(len(KINDS)):
                for size in range(len(SIZES)):
                    made = phantom(kind, size, 1000 * seed + i).fraction
                    blur = rng.uniform(0.4, 1.2)
                    self.structures.append(gaussian_blur(made, (0, blur, blur)))
                    self.labels.append((kind, size))
        shape = (32, 128, 128)
        self.fields = [
            noise.gaussian_noise(shape, 1.0, rng),
            noise.reconstruction_noise(shape, 1.0, rng, cutoff=1.6),
        ]

    def draw(
        self, n: int, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`n` standardised patches (n, 1, Y, X) and their four classes (n, 4)."""
        images, classes = [], []
        for _ in range(n):
            i = int(rng.integers(len(self.structures)))
            level, which = int(rng.integers(len(NOISES))), int(rng.integers(2))
            clean = _crop(self.structures[i], rng)
            sigma = NOISES[level] * rng.uniform(0.85, 1.15)
            # Noise in units of the contrast between pore and solid.
            image = clean + sigma * _crop(self.fields[which], rng)
            image = (image - image.mean()) / (image.std() + 1e-6)
            image = image * rng.choice((-1, 1)) * rng.uniform(0.7, 1.4)
            image = image + rng.normal(0, 0.3)
            if rng.random() < 0.5:
                image = image.T
            images.append(np.ascontiguousarray(image, np.float32))
            classes.append((*self.labels[i], level, which))
        return torch.from_numpy(np.stack(images)[:, None]), torch.tensor(classes)


def _crop(volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    z, y, x = (
        int(rng.integers(n - s + 1))
        for n, s in zip(volume.shape, (1, PATCH, PATCH), strict=True)
    )
    crop: np.ndarray = volume[z, y : y + PATCH, x : x + PATCH]
    return crop


class Classifier(nn.Module):
    """A linear layer on means and standard deviations of the features of a patch."""

    def __init__(self) -> None:
        super().__init__()
        self.features = perceptual.StructureFeatures()
        n = 2 * sum(perceptual.STRUCTURE_WIDTHS[1::2])
        self.head = nn.Linear(n, sum(QUESTIONS))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of the classes of each property."""
        pooled = []
        for maps in self.features(x):
            flat = maps.flatten(2)
            pooled += [flat.mean(2), flat.std(2)]
        answers: torch.Tensor = self.head(torch.cat(pooled, 1))
        return list(answers.split(QUESTIONS, dim=1))


def normalise(features: perceptual.StructureFeatures, x: torch.Tensor) -> None:
    """Scale the returned maps to a mean square of 1; maps that are always 0 stay 0."""
    with torch.no_grad():
        for i, maps in enumerate(features(x)):
            rms = maps.square().mean((0, 2, 3)).sqrt()
            alive = rms > 1e-3 * rms.max()
            scale = torch.where(alive, 1 / rms.clamp_min(1e-12), torch.zeros(()))
            getattr(features, f"scale{i}").copy_(scale)


def main() -> None:
    """Train, test on other phantoms, write the file and print its checksum."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FOLDER / perceptual.STRUCTURE_FILE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    began = time.monotonic()
    data = Slices(3, seed=1)
    network = Classifier()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 3e-3, total_steps=arguments.steps
    )
    for step in range(arguments.steps):
        x, classes = data.draw(
            arguments.batch, np.random.default_rng([arguments.seed, step])
        )
        losses = [
            functional.cross_entropy(a, classes[:, i]) for i, a in enumerate(network(x))
        ]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{step:5d} {float(loss.detach()):.3f}", flush=True)
    seconds = time.monotonic() - began
    x, classes = Slices(1, seed=2).draw(600, np.random.default_rng(7))
    network.eval()
    with torch.no_grad():
        answers = [a.argmax(1) for a in network(x)]
    right = [float((a == classes[:, i]).float().mean()) for i, a in enumerate(answers)]
    names = ("kind", "size", "noise level", "noise kind")
    figures = {n: round(r, 3) for n, r in zip(names, right, strict=True)}
    normalise(network.features, x)
    metadata = {
        "made_by": "scripts/train_features.py",
        "seed": str(arguments.seed),
        "steps": str(arguments.steps),
        "accuracy_on_other_phantoms": json.dumps(figures),
    }
    state = {k: v.contiguous() for k, v in network.features.state_dict().items()}
    save_file(state, arguments.out, metadata=metadata)
    raw = arguments.out.read_bytes()
    print(f"{figures} in {seconds:.0f} s; {len(raw)} bytes")
    print(f"STRUCTURE_SHA256 = {hashlib.sha256(raw).hexdigest()!r}")


if __name__ == "__main__":
    main()
