"""Train forests of extremely randomised trees in a fraction of a second.

Such a forest is well suited to classifying voxels from a few strokes: it needs no
standardised features and hardly any settings, and it is robust to noise in individual
features [1]_.

References
----------
.. [1] Geurts, Ernst & Wehenkel. Extremely randomized trees. Machine Learning 63 (2006).
   doi:10.1007/s10994-006-6226-1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.learning.painting import forest_compiled

#: Number of trees.
_TREES = 32
#: Maximum and minimum number of samples drawn per class for each tree, with
#: replacement.
_MOST = 1000
_FEW = 50
#: Minimum number of samples in a leaf.
_SMALLEST = 3
#: Number of voxels for which features are copied at a time.
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Forest:
    """Trees that predict the class of a voxel from its features.

    Attributes
    ----------
    classes : tuple of int
        Numbers of the classes, in the order of the probabilities.
    roots, features, thresholds, children, shares : ndarray
        Nodes of the trees; see `napari_geosr.learning.painting.forest_compiled`.
    """

    classes: tuple[int, ...]
    roots: AnyArray
    features: AnyArray
    thresholds: AnyArray
    children: AnyArray
    shares: AnyArray

    def probabilities(self, features: AnyArray) -> AnyArray:
        """Return the mean fractions of the classes in the leaves that the voxels reach.

        Parameters
        ----------
        features : ndarray of shape (F, ...)
            float32 or float16.

        Returns
        -------
        ndarray of shape (K, ...)
            float32; the sum over the classes is one.
        """
        flat = features.reshape(len(features), -1)
        found = np.empty((len(self.classes), flat.shape[1]), np.float32)
        nodes = self.features, self.thresholds, self.children, self.shares
        for start in range(0, flat.shape[1], _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            voxels = np.ascontiguousarray(flat[:, part].T, np.float32)
            total = np.zeros((len(voxels), len(self.classes)), np.float32)
            forest_compiled.apply(voxels, self.roots, *nodes, total)
            found[:, part] = total.T / len(self.roots)
        return found.reshape(-1, *features.shape[1:])


def grow_forest(
    samples: Sequence[AnyArray], classes: tuple[int, ...], seed: int
) -> Forest:
    """Train a forest on samples, giving every class the same weight.

    Parameters
    ----------
    samples : sequence of ndarray of shape (n, F)
        Features of painted voxels of each class, float32; the number `n` of voxels
        may differ between classes.
    classes : tuple of int
        Numbers of the classes.
    seed : int
        The same samples and seed give the same forest.
    """
    each = max(_FEW, min(_MOST, max(map(len, samples))))
    n, number = each * len(samples), len(samples)
    of_class = np.repeat(np.arange(number), each)
    tried = max(2, round(samples[0].shape[1] ** 0.5))
    trees, roots, total = [], [], 0
    for tree in range(_TREES):
        rng = np.random.default_rng([seed, tree])
        drawn = [x[rng.integers(len(x), size=each)] for x in samples]
        features, children = np.empty(2 * n, np.int32), np.zeros(2 * n, np.int32)
        thresholds = np.zeros(2 * n, np.float32)
        shares = np.zeros((2 * n, number), np.float32)
        size = forest_compiled.grow(
            np.concatenate(drawn),
            of_class,
            number,
            tried,
            _SMALLEST,
            int(rng.integers(1 << 62)),
            features,
            thresholds,
            children,
            shares,
        )
        nodes = features[:size], thresholds[:size], children[:size] + total
        trees.append((*nodes, shares[:size]))
        roots.append(total)
        total += size
    joined = [np.concatenate(parts) for parts in zip(*trees, strict=True)]
    return Forest(classes, np.array(roots), *joined)


def entropy(probabilities: AnyArray) -> AnyArray:
    """Return the entropy relative to its maximum: 0 is certain, 1 is a guess.

    Parameters
    ----------
    probabilities : ndarray of shape (K, ...)

    Returns
    -------
    ndarray of shape (...)
        float32.
    """
    p = np.maximum(probabilities, np.float32(1e-12))
    total = -(p * np.log(p)).sum(axis=0) / np.float32(np.log(len(p)))
    limited: AnyArray = np.clip(total, 0, 1).astype(np.float32)
    return limited
