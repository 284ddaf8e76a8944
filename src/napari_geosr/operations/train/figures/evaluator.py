"""Restore held-out blocks with the network of a training, to judge it by them."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.steps import (
    JudgingProgress,
    ShouldStop,
    Step,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.inference.compute import release_memory
from napari_geosr.inference.device import free_memory
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.models.card import FigureRow
from napari_geosr.networks import set_network_noise

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise
    from napari_geosr.learning.patches import Patches
    from napari_geosr.learning.trainer import Trainer

Array = AnyArray
Rows = tuple[FigureRow, ...]

#: Widths of the Gaussian filter that are tried, in voxels.
SIGMAS = (0.5, 0.8, 1.0, 1.3, 1.6, 2.0, 2.6, 3.4)
_FREE_SHARE = 0.3


class Evaluator:
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
                "Evaluation of the model was stopped; it starts again when training is "
                "resumed."
            )

    def to_processor(self) -> WarningIssued:
        """Judge on the processor from here on; return what to say of it."""
        failed, self.device = self.device, "cpu"
        self.trainer.average.to("cpu")
        release_memory(failed)
        return WarningIssued(
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
        JudgingProgress
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
                set_network_noise(self.trainer.average, noise)
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
                    yield JudgingProgress(done, total)
                # Warnings are for who restores: the same images were trained on.
                elif not isinstance(step, WarningIssued):
                    yield step
        finally:
            steps.close()


def enlarge(block: Array, shape: tuple[int, ...]) -> Array:
    """The block at finer voxels, by cubic splines."""
    from scipy.ndimage import zoom

    factors = [n // m for n, m in zip(shape, block.shape, strict=True)]
    enlarged: Array = zoom(block, factors, order=3, grid_mode=True, mode="nearest")
    return enlarged
