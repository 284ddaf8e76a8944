"""Draw the samples of each step in a thread, and move them to the device in parts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from napari_geosr.learning.method import Arrays, Batch, Method
    from napari_geosr.learning.sampling.patches import Patches

#: Part of the random seed, so that no other random numbers of a run use the same seed.
_SEED_KEY = 2


class Batches:
    """Samples of one process, which depend only on (seed, step).

    Parameters
    ----------
    method : Method
    patches : Patches
    device : torch.device
    rank, world : int
        Index of this process and number of processes, which share the samples.
    """

    def __init__(
        self,
        method: Method,
        patches: Patches,
        device: torch.device,
        rank: int,
        world: int,
    ) -> None:
        self.method, self.patches, self.config = method, patches, method.config
        self.device, self.rank, self.world = device, rank, world
        self._executor: ThreadPoolExecutor | None = None
        self._prefetched: tuple[int, Future[list[Arrays]]] | None = None

    def __enter__(self) -> Batches:
        self._executor, self._prefetched = ThreadPoolExecutor(1, "patches"), None
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._executor is not None
        self._executor.shutdown(wait=True, cancel_futures=True)

    def draw(self, step: int) -> list[Arrays]:
        """Return the samples of `step` that belong to this process."""
        return [
            self.method.draw(
                self.patches,
                np.random.default_rng([self.config.seed, step, i, _SEED_KEY]),
            )
            for i in range(self.rank, self.config.batch_size, self.world)
        ]

    def take(self, step: int) -> list[Arrays]:
        """Return the samples of `step`, and start drawing those of the next step.

        Samples depend on seed and step alone, so drawing them in advance, while the
        device is busy, does not change them.
        """
        if self._prefetched is None or self._prefetched[0] != step:
            self._prefetch(step)
        assert self._prefetched is not None
        samples = self._prefetched[1].result()
        if step + 1 < self.config.steps:
            self._prefetch(step + 1)
        return samples

    def discard_prefetched(self) -> None:
        """Discard prefetched samples, so that they are drawn again."""
        self._prefetched = None

    def _prefetch(self, step: int) -> None:
        assert self._executor is not None
        self._prefetched = (step, self._executor.submit(self.draw, step))

    def in_parts(self, samples: Sequence[Arrays], parts: int) -> list[Batch]:
        """Return the samples on the device, divided into `parts` batches."""
        return [
            self.on_device(samples[i::parts]) for i in range(min(parts, len(samples)))
        ]

    def on_device(self, samples: Sequence[Arrays]) -> Batch:
        """Return the samples as one batch of tensors on the device."""
        return {
            role: torch.from_numpy(np.stack([s[role] for s in samples])).to(self.device)
            for role in samples[0]
        }
