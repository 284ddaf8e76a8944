"""Fit the weights for locating the surface of a mask between voxels.

For a voxel just outside a phase, the distance from the surface is estimated as a
constant plus a weighted count of the voxels of the phase in a cube of 7³ voxels. The
weights are fitted by least squares to spheres, rods, plates, spherical holes and tubes
of 7 to 32 voxels, at random positions and in random directions; an axis-parallel plane
between two voxels is exact. Prints the constants of
`napari_geosr.measure.kernels.surface`, and the errors for other shapes of the same
kinds.

    python scripts/fit_surface_weights.py [--repeats 8]
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

REACH = 3
KINDS = ("sphere", "rod", "plate", "hole", "tube")
RADII = (3.5, 4, 5, 6, 8, 12, 16)


def orbits() -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    """Group neighbours related by symmetry, by their sorted absolute offsets."""
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for offset in itertools.product(range(-REACH, REACH + 1), repeat=3):
        found.setdefault(tuple(sorted(map(abs, offset))), []).append(offset)
    del found[0, 0, 0]
    return dict(sorted(found.items()))


def signed_distances(kind: str, radius: float, rng: np.random.Generator) -> Array:
    """Distance from the surface of a shape at a random position, positive outside."""
    n = int(2 * radius) + 14
    points = np.indices((n,) * 3).reshape(3, -1).T - n / 2 - rng.uniform(-0.5, 0.5, 3)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    along = points @ axis
    if kind == "plate":
        found = np.abs(along) - radius
    elif kind in ("sphere", "hole"):
        found = np.linalg.norm(points, axis=1) - radius
    else:
        found = np.linalg.norm(points - np.outer(along, axis), axis=1) - radius
    if kind in ("hole", "tube"):
        found = -found
    return found.reshape((n,) * 3)


def samples(distances: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Counts per symmetry group, and distances, for voxels next to the phase."""
    mask = distances <= 0

    def moved(offset: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        return np.roll(mask, [-step for step in offset], (0, 1, 2))

    groups = orbits()
    counts = np.stack([sum(moved(o).astype(float) for o in g) for g in groups.values()])
    beside = ~mask & (counts[0] > 0)
    inner = np.zeros_like(mask)
    inner[(slice(REACH, -REACH),) * 3] = True
    places = np.flatnonzero(beside & inner)
    places = rng.permutation(places)[:300]
    return counts.reshape(len(groups), -1)[:, places].T, distances.ravel()[places]


def drawn(kind: str, radius: float, repeats: int, seed: int) -> tuple[Array, Array]:
    """Return the samples of one kind of shape with similar radii."""
    rng = np.random.default_rng(seed)
    parts = [
        samples(signed_distances(kind, radius * rng.uniform(0.97, 1.03), rng), rng)
        for _ in range(repeats)
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def main() -> None:
    """Fit the weights, and print weights and errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=8)
    options = parser.parse_args()
    cases = list(itertools.product(KINDS, RADII))
    parts = [drawn(*case, options.repeats, i) for i, case in enumerate(cases)]
    counts = np.concatenate([p[0] for p in parts])
    distances = np.concatenate([p[1] for p in parts])
    groups = orbits()
    # The equation of a plane half a voxel away has a very large weight, so that the
    # result is exact for this plane.
    plane = [sum(o[0] < 0 for o in g) for g in groups.values()]
    heavy = 1e4
    rows = np.vstack([np.c_[counts, np.ones(len(counts))], heavy * np.r_[plane, 1.0]])
    weights = np.linalg.lstsq(rows, np.r_[distances, heavy / 2], rcond=None)[0].round(4)
    weights[-1] += 0.5 - np.r_[plane, 1.0] @ weights
    print("constant", round(float(weights[-1]), 4))
    for offset, weight in zip(groups, weights, strict=False):
        print(offset, float(weight))
    for i, case in enumerate(cases):
        found, true = drawn(*case, options.repeats, 1000 + i)
        errors = np.clip(np.c_[found, np.ones(len(found))] @ weights, 0, 1) - true
        print(f"{case[0]} {case[1]}: {errors.mean():+.3f} ± {errors.std():.3f}")


if __name__ == "__main__":
    main()
