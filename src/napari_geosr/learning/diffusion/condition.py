"""Measure the porosity of training patches, for models that take it as input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.learning.phases import GreyPhases, find_phases
from napari_geosr.models.card import PorosityCondition

if TYPE_CHECKING:
    from napari_geosr.learning.sampling.patches import Patches

#: Number of patches from which the range of the porosity is determined.
_PATCHES = 400
#: Percentiles of the porosity of patches that define the range.
_RANGE = (1.0, 99.0)
#: Part of the seed for these patches; no other random numbers of a run use it.
_SEED_KEY = 7


@dataclass(frozen=True)
class PatchPorosity:
    """Measures the porosity of patches with a fixed threshold.

    Attributes
    ----------
    phases : GreyPhases
        Phases in standardised grey values.
    condition : PorosityCondition
        Condition for the card, in the grey values of the training data.
    """

    phases: GreyPhases
    condition: PorosityCondition

    def __call__(self, patch: AnyArray) -> float:
        """Return the porosity of a standardised patch's middle slice."""
        return _share(patch, self.phases, self.condition.phase)


def find_patch_porosity(
    patches: Patches, phase: Literal["dark", "bright"]
) -> PatchPorosity:
    """Find the threshold between pores and solid, and the range of the porosity.

    Raises
    ------
    VolumeError
        If all grey values are the same.
    """
    found = find_phases([scene.volumes["source"] for scene in patches.scenes])
    phases = found.standardised(patches.grey["source"])
    values = []
    for i in range(_PATCHES):
        rng = np.random.default_rng([patches.config.seed, i, _SEED_KEY])
        patch = patches.draw(rng, ("source",))["source"]
        values.append(_share(patch, phases, phase))
    low, high = np.percentile(values, _RANGE)
    condition = PorosityCondition(
        threshold=found.threshold,
        phase=phase,
        low=round(float(low), 4),
        high=round(float(high), 4),
    )
    return PatchPorosity(phases, condition)


def _share(
    patch: AnyArray, phases: GreyPhases, phase: Literal["dark", "bright"]
) -> float:
    middle = patch[len(patch) // 2]
    return float(phases.mask(middle, phase).mean())
