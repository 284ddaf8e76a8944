"""How good a model just trained is, on the blocks that were kept apart.

On the device that it was trained on, tile by tile, as people will restore with it.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.steps import (
    Judged,
    ShouldStop,
    Step,
    TileDone,
    Warned,
    never_stop,
)
from napari_geosr.inference.compute import release_memory
from napari_geosr.inference.device import free_memory
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.models.card import FigureRow
from napari_geosr.networks import tell_noise
from napari_geosr.operations.train.figures.blocks import (
    blocks_text,
    judged_scenes,
    validation_block,
)
from napari_geosr.operations.train.figures.labels import label_figures

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise
    from napari_geosr.learning.patches import Patches, Scene
    from napari_geosr.learning.trainer import Trainer

Array = np.ndarray[Any, Any]
Rows = tuple[FigureRow, ...]

#: Widths of the Gaussian filter that are tried, in voxels.
SIGMAS = (0.5, 0.8, 1.0, 1.3, 1.6, 2.0, 2.6, 3.4)
_FREE_SHARE = 0.3


class Judge:
    """Restores blocks with the averaged network of a training.

    Parameters
    ----------
    trainer : Trainer
        Its averaged network stays on the device that it was trained on; where memory
        runs out there it moves to the processor.
    patches : Patches
        What it learned from.
    """

    def __init__(
        self, trainer: Trainer, patches: Patches, should_stop: ShouldStop = never_stop
    ) -> None:
        self.trainer, self.patches = trainer, patches
        self.should_stop = should_stop
        self.device = str(trainer.accelerator.device)
        self._done = 0

    def stop_if_asked(self) -> None:
        """Raise `Cancelled` where the person asked to stop."""
        if self.should_stop():
            raise Cancelled(
                "The judging of the model was stopped; it begins anew after what is "
                "left of the training."
            )

    def to_processor(self) -> Warned:
        """Judge on the processor from here on; return what to say of it."""
        failed, self.device = self.device, "cpu"
        self.trainer.average.to("cpu")
        release_memory(failed)
        return Warned(
            message=f"Memory ran out on {failed} while the model was judged: that is "
            "done on the processor now, which is slower."
        )

    def restored(
        self,
        blocks: Sequence[Array],
        shapes: Sequence[tuple[int, ...]],
        noises: Sequence[Noise | None] = (),
    ) -> Generator[Step, None, list[Array]]:
        """Restore standardised `blocks` to arrays of `shapes`, which are returned.

        Parameters
        ----------
        noises : sequence of Noise or None
            Of each block, standardised, where the network is to know it.

        Yields
        ------
        Judged
            After each tile.

        Raises
        ------
        Cancelled
            Between tiles.
        """
        total, before = sum(map(math.prod, shapes)), 0
        found = []
        known = noises or [None] * len(blocks)
        for block, shape, noise in zip(blocks, shapes, known, strict=True):
            if noise is not None:
                tell_noise(self.trainer.average, noise)
            target = np.empty(shape, np.float32)
            failed = False
            try:
                yield from self._tiles(block, target, before, total)
            except DeviceMemoryError:
                if self.device == "cpu":
                    raise
                failed = True
            if failed:  # not above: there the error still holds what did not fit
                yield self.to_processor()
                yield from self._tiles(block, target, before, total)
            before += target.size
            found.append(target)
        return found

    def _tiles(
        self, block: Array, target: Array, done: int, total: int
    ) -> Generator[Step, None, None]:
        steps = restore_tiles(
            self.trainer.average,
            block,
            target,
            statistics=IntensityStatistics(0.0, 1.0, -10.0, 10.0, block.size),
            budget=int(free_memory(self.device) * _FREE_SHARE),
            device=self.device,
            threads=self.patches.config.threads,
            should_stop=self.should_stop,
        )
        try:
            for step in steps:
                if isinstance(step, TileDone):
                    done += math.prod(s.stop - s.start for s in step.slices)
                    yield Judged(done, total)
                # Warnings are for who restores: the same images were trained on.
                elif not isinstance(step, Warned):
                    yield step
        finally:
            steps.close()


def judging_steps(
    trainer: Trainer,
    patches: Patches,
    labels: int = 1,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Rows]:
    """Judge the averaged network of a training.

    Against the targets where they show the same place; else by the distance to unpaired
    targets, or by voxels that the method hides. None where there is no measure.

    Raises
    ------
    Cancelled
        If `should_stop` ended it; nothing is written.
    """
    from napari_geosr.operations.train.figures.own import own_steps
    from napari_geosr.operations.train.figures.unpaired import unpaired_steps

    judge = Judge(trainer, patches, should_stop)
    judge.stop_if_asked()
    release_memory(judge.device)  # what the training held in reserve
    scenes, n = judged_scenes(patches, "source", "target")
    if scenes:
        rows = yield from _paired_steps(judge, scenes, n, labels)
    elif any("target" in scene.volumes for scene in patches.scenes):
        rows = yield from unpaired_steps(judge, SIGMAS)
    else:
        rows = yield from own_steps(judge, SIGMAS)
    return rows


def _paired_steps(
    judge: Judge, scenes: Sequence[Scene], n: int, labels: int
) -> Generator[Step, None, Rows]:
    """PSNR on validation blocks against the target, the mean over scenes.

    Beside it what no training is needed for: the input's, and that of a Gaussian filter
    whose width is the best for these very targets; or, where voxels become finer, that
    of the input enlarged by cubic splines. Labels are judged by their overlap instead.
    """
    patches, method = judge.patches, judge.trainer.method
    sources, targets = (
        [validation_block(scene, patches, role, len(scenes)) for scene in scenes]
        for role in ("source", "target")
    )
    noises = [scene.noises.get("source") for scene in scenes]
    restored = yield from judge.restored(sources, [t.shape for t in targets], noises)
    if labels > 1:
        where = blocks_text(scenes, n, "target", f"against the {labels} labels of")
        return label_figures(
            sources, targets, restored, labels, where, SIGMAS, judge.stop_if_asked
        )
    kind = "against noisy target" if method.noisy_target else "against"
    where = blocks_text(scenes, n, "target", kind)
    if method.upscale_factor > 1:
        where += " (input: cubic enlargement)"
        shapes = [t.shape for t in targets]
        enlarged = [enlarge(s, size) for s, size in zip(sources, shapes, strict=True)]
        rows = {"input": _mean_psnr(enlarged, targets)}
    else:
        rows = {"input": _mean_psnr(sources, targets)}
        rows |= _best_gaussian(judge, sources, targets)
    rows["model"] = _mean_psnr(restored, targets)
    return tuple(
        FigureRow(test_set=where, method=name, psnr=round(value, 3))
        for name, value in rows.items()
    )


def _best_gaussian(
    judge: Judge, sources: Sequence[Array], targets: Sequence[Array]
) -> dict[str, float]:
    from scipy.ndimage import gaussian_filter

    found = {}
    for sigma in SIGMAS:
        judge.stop_if_asked()
        smooth = [gaussian_filter(source, sigma) for source in sources]
        found[sigma] = _mean_psnr(smooth, targets)
    best = max(found, key=lambda s: found[s])
    return {f"Gaussian {best:g}": found[best]}


def enlarge(block: Array, shape: tuple[int, ...]) -> Array:
    """The block at finer voxels, by cubic splines."""
    from scipy.ndimage import zoom

    factors = [n // m for n, m in zip(shape, block.shape, strict=True)]
    enlarged: Array = zoom(block, factors, order=3, grid_mode=True, mode="nearest")
    return enlarged


def _mean_psnr(images: Sequence[Array], truths: Sequence[Array]) -> float:
    pairs = zip(images, truths, strict=True)
    return float(np.mean([_psnr(image, truth) for image, truth in pairs]))


def _psnr(image: Array, truth: Array) -> float:
    span = float(np.ptp(np.percentile(truth, (1, 99)))) or 1.0
    error = float(np.mean((image - truth) ** 2))
    return float(10 * np.log10(span**2 / max(error, 1e-12)))
