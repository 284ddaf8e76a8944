"""Evaluates a diffusion model by the noise that it predicts in held-out patches."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_geosr.core.steps import JudgingProgress, Step
from napari_geosr.models.card import FigureRow

if TYPE_CHECKING:
    from napari_geosr.operations.train.figures.evaluator import Evaluator, Rows

#: Number of held-out patches used.
_PATCHES = 16
#: Last entry of the random seed; it makes these random numbers differ from all others.
_SEED_KEY = 6


def predicted_noise_steps(evaluator: Evaluator) -> Generator[Step, None, Rows]:
    """Compute the mean squared error of the noise that the model predicts.

    As a baseline, the error is also computed for the best prediction from each voxel
    alone.
    """
    method: Any = evaluator.trainer.method
    held_out = evaluator.patches.held_out()
    trained = method.modules
    method.modules = {**trained, method.result: evaluator.trainer.average}
    errors: dict[str, list[float]] = {"no neighbours": [], "model": []}
    try:
        for i in range(_PATCHES):
            evaluator.raise_if_stopped()
            rng = np.random.default_rng([method.config.seed, i, _SEED_KEY])
            drawn = method.draw(held_out, rng)
            batch = {
                name: torch.from_numpy(values[None]).to(evaluator.device)
                for name, values in drawn.items()
            }
            with torch.no_grad():
                errors["no neighbours"].append(method.linear_error(batch))
                errors["model"].append(method.validate(batch)["noise error"])
            yield JudgingProgress(i + 1, _PATCHES)
    finally:
        method.modules = trained
    return tuple(
        FigureRow(
            test_set=f"{_PATCHES} patches of the validation block",
            method=name,
            noise_error=round(float(np.mean(values)), 4),
        )
        for name, values in errors.items()
    )
