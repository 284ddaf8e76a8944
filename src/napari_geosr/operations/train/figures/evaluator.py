"""Restores held-out blocks with the network of a training run to evaluate it."""

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
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.learning.training.trainer import Trainer

Array = AnyArray
Rows = tuple[FigureRow, ...]

#: Standard deviations of the Gaussian filters that models are compared with, in voxels.
SIGMAS = (0.5, 0.8, 1.0, 1.3, 1.6, 2.0, 2.6, 3.4)
#: Fraction of the free device memory used for tiles; the training run also needs
#: memory.
_FREE_SHARE = 0.3


class Evaluator:
    """Restores blocks with the averaged network of a training run.

    Parameters
    ----------
    trainer : Trainer
        The averaged network stays on the device on which it was trained, and moves to
        the CPU if that device runs out of memory.
    patches : Patches
        The training data.
    """

    def __init__(
        self, trainer: Trainer, patches: Patches, should_stop: ShouldStop = never_stop
    ) -> None:
        self.trainer, self.patches = trainer, patches
        self.should_stop = should_stop
        self.device = str(trainer.accelerator.device)
        self._done = 0

    def raise_if_stopped(self) -> None:
        """Raise `Cancelled` if the user has requested a stop."""
        if self.should_stop():
            raise Cancelled(
                "Evaluation of the model was stopped; it starts again when training is "
                "resumed."
            )

    def move_to_cpu(self) -> WarningIssued:
        """Continue the evaluation on the CPU, and return a warning about it."""
        failed, self.device = self.device, "cpu"
        self.trainer.average.to("cpu")
        release_memory(failed)
        return WarningIssued(
            message=f"{failed} ran out of memory during the evaluation. It "
            "continues on the CPU, which is slower."
        )

    def restored(
        self,
        blocks: Sequence[Array],
        shapes: Sequence[tuple[int, ...]],
        noises: Sequence[Noise | None] = (),
    ) -> Generator[Step, None, list[Array]]:
        """Restore standardised `blocks`; return results with the given `shapes`.

        Parameters
        ----------
        noises : sequence of Noise or None
            Standardised noise of each block, for networks that need it.

        Yields
        ------
        JudgingProgress
            After each tile.

        Raises
        ------
        Cancelled
            If the user has requested a stop; checked between tiles.
        """
        total, before = sum(map(math.prod, shapes)), 0
        results = []
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
            if failed:  # here, the error no longer keeps tensors on the device
                yield self.move_to_cpu()
                yield from self._tiles(block, target, before, total)
            before += target.size
            results.append(target)
        return results

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
                # Warnings about the input are meant for restorations, not for training
                # data.
                elif not isinstance(step, WarningIssued):
                    yield step
        finally:
            steps.close()


def enlarge(block: Array, shape: tuple[int, ...]) -> Array:
    """Upsample the block to `shape` by cubic splines."""
    from scipy.ndimage import zoom

    factors = [n // m for n, m in zip(shape, block.shape, strict=True)]
    enlarged: Array = zoom(block, factors, order=3, grid_mode=True, mode="nearest")
    return enlarged
