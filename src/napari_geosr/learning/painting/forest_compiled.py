"""Extremely randomised trees, grown and applied by compiled loops.

Random numbers are computed here (splitmix64), so that a forest depends only on its
samples and seed, not on the thread in which it grows.
"""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.projection.compiled import compiled

#: Feature index that marks a node as a leaf.
LEAF = -1
#: Number of voxels per block; each block passes through all trees before the next one.
_BLOCK = 1024


@compiled
def _random(state: AnyArray) -> float:
    """Return the next number of a sequence, from 0 to 1 (splitmix64)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    x = state[0]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return float(x >> np.uint64(11)) / 9007199254740992.0


@compiled
def _chosen_split(
    samples: AnyArray,
    classes: AnyArray,
    members: AnyArray,
    counts: AnyArray,
    tried: int,
    smallest: int,
    state: AnyArray,
) -> tuple[int, float]:
    """Return the feature and threshold of the purest of several splits, or `LEAF`."""
    chosen, threshold, best = LEAF, 0.0, -1.0
    below = np.empty_like(counts)
    for _ in range(tried):
        feature = int(_random(state) * samples.shape[1])
        low = high = samples[members[0], feature]
        for i in members:
            low = min(low, samples[i, feature])
            high = max(high, samples[i, feature])
        at = float(np.float32(low + _random(state) * (high - low)))
        if not low < at <= high:
            continue
        below[:] = 0
        for i in members:
            if samples[i, feature] < at:
                below[classes[i]] += 1
        n_below = below.sum()
        n_above = len(members) - n_below
        if n_below < smallest or n_above < smallest:
            continue
        purity = 0.0
        for k in range(len(counts)):
            above = counts[k] - below[k]
            purity += below[k] * below[k] / n_below + above * above / n_above
        if purity > best:
            chosen, threshold, best = feature, at, purity
    return chosen, threshold


@compiled
def grow(
    samples: AnyArray,
    classes: AnyArray,
    number: int,
    tried: int,
    smallest: int,
    seed: int,
    features: AnyArray,
    thresholds: AnyArray,
    children: AnyArray,
    shares: AnyArray,
) -> int:
    """Grow one tree from samples, and return its number of nodes.

    Parameters
    ----------
    samples : ndarray of shape (n, F)
        float32.
    classes : ndarray of shape (n,)
        Classes of the samples, numbered from 0.
    number : int
        Number of classes.
    tried : int
        Number of random splits, from which the best is taken.
    smallest : int
        Smallest number of samples in a leaf.
    seed : int
    features, thresholds, children : ndarray of shape (2 n,)
        Filled for each node: a voxel goes to the child if its feature is below the
        threshold, otherwise to the node after the child.
    shares : ndarray of shape (2 n, number)
        Filled for each leaf: fraction of each class.
    """
    state = np.empty(1, np.uint64)
    state[0] = np.uint64(seed)
    order = np.arange(len(samples))
    first, last = np.zeros(len(features), np.int64), np.zeros(len(features), np.int64)
    last[0] = len(samples)
    counts = np.empty(number, np.int64)
    nodes, node = 1, 0
    while node < nodes:
        low, high = first[node], last[node]
        members = order[low:high]
        counts[:] = 0
        for i in members:
            counts[classes[i]] += 1
        features[node], at = LEAF, 0.0
        if counts.max() < len(members) and len(members) >= 2 * smallest:
            features[node], at = _chosen_split(
                samples, classes, members, counts, tried, smallest, state
            )
        if features[node] == LEAF:
            for k in range(number):
                shares[node, k] = counts[k] / len(members)
        else:
            middle = low
            for place in range(low, high):
                i = order[place]
                if samples[i, features[node]] < at:
                    order[place], order[middle] = order[middle], i
                    middle += 1
            thresholds[node], children[node] = at, nodes
            first[nodes], last[nodes] = low, middle
            first[nodes + 1], last[nodes + 1] = middle, high
            nodes += 2
        node += 1
    return nodes


@compiled
def apply(
    voxels: AnyArray,
    roots: AnyArray,
    features: AnyArray,
    thresholds: AnyArray,
    children: AnyArray,
    shares: AnyArray,
    out: AnyArray,
) -> None:
    """Add to `out` the class fractions of the leaves that the voxels reach.

    Parameters
    ----------
    voxels : ndarray of shape (n, F)
        float32.
    roots : ndarray of int
        First node of each tree.
    features, thresholds, children, shares : ndarray
        Nodes of all trees; children are numbered from the first node of the forest.
    out : ndarray of shape (n, K)
    """
    for start in range(0, len(voxels), _BLOCK):
        stop = min(start + _BLOCK, len(voxels))
        for root in roots:
            for i in range(start, stop):
                node = root
                while features[node] != LEAF:
                    above = voxels[i, features[node]] >= thresholds[node]
                    node = children[node] + above
                for k in range(out.shape[1]):
                    out[i, k] += shares[node, k]
