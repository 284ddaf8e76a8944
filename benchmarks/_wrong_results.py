"""Results that are wrong everywhere, derived from a correct one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Scene:
    """Data from which wrong results are derived, all on the grid of the result.

    Attributes
    ----------
    result : ndarray of shape (Z, Y, X)
        Result of a model.
    mask : ndarray of bool
        The pores of the object.
    other, other_mask : ndarray
        Another object of the same kind, without noise, and its pores.
    """

    result: Array
    mask: Array
    other: Array
    other_mask: Array

    def around_mean(self, factor: float) -> Array:
        """Return the result with its contrast multiplied."""
        mean = self.result.mean(dtype=np.float64)
        return (mean + factor * (self.result - mean)).astype(np.float32)

    def with_pores(self) -> Array:
        """Return the result with the other object's pores added."""
        made = np.array(self.result)
        made[self.other_mask] = np.median(self.result[self.mask])
        return made

    def of_noise(self) -> Array:
        """Noise with the mean and the standard deviation of the result."""
        noise = np.random.default_rng(11).standard_normal(self.result.shape)
        made = self.result.mean() + self.result.std() * noise
        return made.astype(np.float32)


#: Wrong results by name, in the order of the table.
WRONG: dict[str, Callable[[Scene], Array]] = {
    "another object of the same kind": lambda scene: scene.other,
    "the model's result with another object's pores added": Scene.with_pores,
    "a uniform grey value": lambda scene: np.full_like(
        scene.result, scene.result.mean()
    ),
    "pure noise": Scene.of_noise,
    "the model's result with its contrast × 0.5": lambda scene: scene.around_mean(0.5),
    "the model's result with its contrast × 1.2": lambda scene: scene.around_mean(1.2),
    "the model's result with dark and bright swapped": lambda scene: scene.around_mean(
        -1.0
    ),
}
