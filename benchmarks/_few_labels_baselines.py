"""Methods with which the few-labels benchmark compares pre-training.

The small pixel classifiers are a perceptron and a random forest; the network is a
mixed-scale dense network trained from scratch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.painting import filter_features, grow_forest, read_strokes
from napari_geosr.learning.painting.prior import PriorFeatures
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.learning.statistics import grey_scale
from napari_geosr.learning.training.trainer import Trainer
from napari_geosr.models.bundle import Model
from napari_geosr.physics.shapes.radiographs import RESTORATION, TISSUES

#: Value of pixels without a label.
UNPAINTED = RESTORATION

Array = np.ndarray[Any, Any]


class PixelClassifier:
    """A perceptron on the decoder features of an unchanged pre-trained model.

    Based on Baranchuk et al. (2022), arXiv:2112.03126, at time 0, without an ensemble.
    """

    def __init__(self, model: Any, grey: Array, labels: Array) -> None:
        self.network = model.network().eval()
        scale = model.card.normalisation
        self.mean, self.std = scale.mean, scale.std
        rng, parts, truths = np.random.default_rng(0), [], []
        for i in range(8):  # random flips, contrast, brightness, noise
            flips = tuple(axis for axis in (1, 2) if i >> (axis - 1) & 1)
            x = self._scaled(np.flip(grey, flips))
            contrast, brightness = 0.15 * rng.standard_normal(2)
            noise = rng.uniform(0, 0.2) * rng.standard_normal(x.shape, np.float32)
            x = np.exp(contrast) * x + brightness + noise
            parts.append(self._features(x.astype(np.float32)))
            truths.append(np.flip(labels, flips).ravel())
        features, truth = torch.cat(parts), torch.from_numpy(np.concatenate(truths))
        features, truth = features[truth != UNPAINTED], truth[truth != UNPAINTED].long()
        self.centre, self.spread = features.mean(0), features.std(0) + 1e-6
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(features.shape[1], 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, len(TISSUES)),
        )
        optimiser = torch.optim.Adam(self.layers.parameters(), 3e-3)
        for _ in range(500):
            picked = torch.randint(0, len(truth), (1024,))
            optimiser.zero_grad()
            scores = self._scores(features[picked])
            loss: Any = functional.cross_entropy(scores, truth[picked])
            loss.backward()
            optimiser.step()

    def __call__(self, grey: Array) -> Array:
        """Predict the class of each pixel."""
        found = []
        for image in self._scaled(grey):
            with torch.no_grad():
                scores = self._scores(self._features(image[None]))
            found.append(scores.argmax(1).reshape(image.shape).numpy())
        return np.stack(found)

    def _scaled(self, grey: Array) -> Array:
        scaled: Array = (grey.astype(np.float32) - self.mean) / np.float32(self.std)
        return scaled

    def _features(self, x: Array) -> torch.Tensor:
        """Grey value and features of all decoder levels, one row per pixel."""
        maps: list[torch.Tensor] = []
        blocks = [self.network.middle, *self.network.up]
        hooks = [
            block.register_forward_hook(lambda _module, _x, y: maps.append(y))
            for block in blocks
        ]
        image = torch.from_numpy(np.ascontiguousarray(x))[:, None]
        with torch.no_grad():
            self.network.output(image, torch.tensor([0]))
        for hook in hooks:
            hook.remove()
        normed = (functional.group_norm(y, y.shape[1] // 8) for y in maps)
        wide = [
            functional.interpolate(functional.silu(y), image.shape[2:], mode="bilinear")
            for y in normed
        ]
        found = torch.cat([*wide, image], 1)
        return found.movedim(1, -1).flatten(0, 2)

    def _scores(self, features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers((features - self.centre) / self.spread)
        return scores


class PixelForest:
    """A random forest on the features that the Segment dock uses for single images.

    Parameters
    ----------
    grey, labels : ndarray of shape (n, Y, X)
        Images, and their labels; images without labels are not used.
    seed : int
    prior : Model, optional
        Diffusion model whose decoder features are added to the filters.
    """

    def __init__(
        self, grey: Array, labels: Array, seed: int, prior: Model | None = None
    ) -> None:
        self.prior = None if prior is None else PriorFeatures(prior)
        scan = Volume(grey, "ZYX")
        strokes = read_strokes(Volume(labels, "ZYX"), scan, UNPAINTED, seed=seed)
        self.grey = grey_scale([scan.replace(data=grey[list(strokes.slices)])])
        values, classes = [], []
        for z, painted in strokes.slices.items():
            features = self._features(grey[z])
            flat = features.reshape(len(features), -1)
            values.append(flat[:, painted.at].T.astype(np.float32))
            classes.append(painted.classes)
        found, number = np.concatenate(values), np.concatenate(classes)
        samples = [found[number == label] for label in strokes.classes]
        self.forest = grow_forest(samples, strokes.classes, seed)

    def __call__(self, grey: Array) -> Array:
        """Predict the class of each pixel."""
        numbers = np.array(self.forest.classes)
        found = (self.forest.probabilities(self._features(each)) for each in grey)
        return np.stack([numbers[each.argmax(0)] for each in found])

    def _features(self, image: Array) -> Array:
        scaled = self.grey.standardise(image)
        # The images are unrelated, so there are no means over neighbouring ones.
        filtered = filter_features(scaled, scaled)
        if self.prior is None:
            return filtered
        return np.concatenate([filtered.astype(np.float16), self.prior(image)])


def train_msdnet(
    grey: Array, labels: Array, *, depth: int = 12, width: int = 8, **settings: Any
) -> Callable[[Array], Array]:
    """Train a mixed-scale dense network from scratch; return its prediction.

    ``train ptdr`` refuses this network, because it has no last layer that can be
    replaced. That does not matter from scratch, so losses, augmentation, schedule and
    averaging of ``ptdr`` are used here directly.

    Parameters
    ----------
    grey, labels : ndarray of shape (n, Y, X)
    depth, width : int
        Number of layers, and of feature maps per layer.
    **settings
        Settings of ``ptdr``.
    """
    config = config_class("ptdr").create(
        **settings | {"network": "msdnet", "layers": depth, "width": width}
    )
    method = METHODS.load("ptdr").Method(config)
    scenes = method.scenes(
        {"source": [Volume(grey, "ZYX")], "target": [Volume(labels, "ZYX")]}
    )
    patches = Patches(scenes, config, labels=method.label_roles)
    trainer = Trainer(method, patches)
    deque(trainer.run(), maxlen=0)
    network, scale = trainer.average.cpu().eval(), patches.grey["source"]

    def predict(test: Array) -> Array:
        images = (torch.from_numpy(scale.standardise(each)) for each in test)
        with torch.no_grad():
            found = [network(image[None, None])[0, 0].numpy() for image in images]
        return np.stack(found).astype(np.uint8)

    return predict
