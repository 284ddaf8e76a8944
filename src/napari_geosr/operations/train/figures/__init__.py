"""Evaluates a new model on the held-out blocks.

The model runs on the device it was trained on, tile by tile, as in a restoration.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.inference.compute import release_memory
from napari_geosr.models.card import FigureRow
from napari_geosr.operations.train.figures.blocks import (
    blocks_text,
    select_scenes,
    validation_block,
)
from napari_geosr.operations.train.figures.diffusion import predicted_noise_steps
from napari_geosr.operations.train.figures.evaluator import (
    SIGMAS,
    Evaluator,
    Rows,
    enlarge,
)
from napari_geosr.operations.train.figures.labels import label_figures
from napari_geosr.operations.train.figures.self_supervised import self_supervised_steps
from napari_geosr.operations.train.figures.unpaired import unpaired_steps

__all__ = ["evaluate_model_steps"]

if TYPE_CHECKING:
    from napari_geosr.learning.sampling.patches import Patches, TrainingSubject
    from napari_geosr.learning.training.trainer import Trainer

Array = AnyArray


def evaluate_model_steps(
    trainer: Trainer,
    patches: Patches,
    labels: int = 1,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Rows]:
    """Evaluate the averaged network of a training run.

    Paired targets are compared voxel by voxel and unpaired ones by their distribution.
    Without targets, the method's self-supervised loss is used; if it has none, there
    are no metrics. Diffusion models are evaluated by the noise that they predict.

    Parameters
    ----------
    trainer : Trainer
    patches : Patches
    labels : int
        Number of labels of the result; 1 for grey values.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` ended the evaluation; nothing is written.
    """
    evaluator = Evaluator(trainer, patches, should_stop)
    evaluator.raise_if_stopped()
    release_memory(evaluator.device)  # free the memory that training left cached
    scenes, n = select_scenes(patches, "source", "target")
    if evaluator.trainer.method.task == "generate":
        rows = yield from predicted_noise_steps(evaluator)
    elif scenes:
        rows = yield from _paired_steps(evaluator, scenes, n, labels)
    elif any("target" in scene.volumes for scene in patches.scenes):
        rows = yield from unpaired_steps(evaluator, SIGMAS)
    else:
        rows = yield from self_supervised_steps(evaluator, SIGMAS)
    return rows


def _paired_steps(
    evaluator: Evaluator, scenes: Sequence[TrainingSubject], n: int, labels: int
) -> Generator[Step, None, Rows]:
    """Compute the PSNR against the target, averaged over the validation blocks.

    For comparison, it is also computed for the input and for a Gaussian filter with
    the width that is best for these targets; for super-resolution, only for the input
    enlarged by cubic splines. Labels are evaluated by their overlap instead.
    """
    patches, method = evaluator.patches, evaluator.trainer.method
    sources, targets = (
        [validation_block(scene, patches, role, len(scenes)) for scene in scenes]
        for role in ("source", "target")
    )
    noises = [scene.noises.get("source") for scene in scenes]
    restored = yield from evaluator.restored(
        sources, [t.shape for t in targets], noises
    )
    if labels > 1:
        classes = labels - (method.unpainted == 0)
        where = blocks_text(scenes, n, "target", f"against the {classes} labels of")
        return label_figures(
            sources,
            targets,
            restored,
            labels,
            where,
            SIGMAS,
            evaluator.raise_if_stopped,
            unpainted=method.unpainted,
        )
    kind = "relative to the noisy target" if method.noisy_target else "relative to"
    where = blocks_text(scenes, n, "target", kind)
    if method.upscale_factor > 1:
        where += " (input: cubic enlargement)"
        shapes = [t.shape for t in targets]
        enlarged = [enlarge(s, size) for s, size in zip(sources, shapes, strict=True)]
        rows = {"input": _mean_psnr(enlarged, targets)}
    else:
        rows = {"input": _mean_psnr(sources, targets)}
        rows |= _best_gaussian(evaluator, sources, targets)
    rows["model"] = _mean_psnr(restored, targets)
    return tuple(
        FigureRow(test_set=where, method=name, psnr=round(value, 3))
        for name, value in rows.items()
    )


def _best_gaussian(
    evaluator: Evaluator, sources: Sequence[Array], targets: Sequence[Array]
) -> dict[str, float]:
    from scipy.ndimage import gaussian_filter

    by_sigma = {}
    for sigma in SIGMAS:
        evaluator.raise_if_stopped()
        smooth = [gaussian_filter(source, sigma) for source in sources]
        by_sigma[sigma] = _mean_psnr(smooth, targets)
    best = max(by_sigma, key=lambda s: by_sigma[s])
    return {f"Gaussian {best:g}": by_sigma[best]}


def _mean_psnr(images: Sequence[Array], truths: Sequence[Array]) -> float:
    pairs = zip(images, truths, strict=True)
    return float(np.mean([_psnr(image, truth) for image, truth in pairs]))


def _psnr(image: Array, truth: Array) -> float:
    span = float(np.ptp(np.percentile(truth, (1, 99)))) or 1.0
    error = float(np.mean((image - truth) ** 2))
    return float(10 * np.log10(span**2 / max(error, 1e-12)))
