"""What several processes of one training say to each other, in the same order in all.

Each has a part of the batch. They meet after the gradients of their parts are there,
and not while these are computed: then one in which memory runs out can say so, and all
begin anew together, where else the others would wait for it for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from napari_geosr.core.errors import ConfigError, TrainingError


class Processes:
    """The processes of a training, of which this is one; often the only one.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    batch_size : int
        Patches of a step in all processes.

    Raises
    ------
    ConfigError
        If there are more processes than patches.
    """

    def __init__(self, accelerator: Any, batch_size: int) -> None:
        self.accelerator, self.batch_size = accelerator, batch_size
        self.count: int = accelerator.num_processes
        if self.count > batch_size:
            raise ConfigError(
                f"A batch of {batch_size} patches is not enough for {self.count} "
                "processes. Start fewer of them or set a larger batch."
            )

    def any(self, mine: bool) -> bool:
        """Whether it is so in any process."""
        if self.count == 1:
            return mine
        return bool(self._sum(torch.tensor([float(mine)])) > 0)

    def share_gradients(
        self, parameters: Sequence[torch.nn.Parameter], patches: int
    ) -> None:
        """Make the gradients those of the whole batch.

        Parameters
        ----------
        parameters : sequence of Parameter
            Those of one optimiser, with gradients of the mean over this process's part.
        patches : int
            How many that part has.
        """
        if self.count == 1:
            return
        found = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in found]) * (patches / self.batch_size)
        total = self._sum(flat)
        parts = torch.split(total, [g.numel() for g in found])
        for gradient, part in zip(found, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sum(self, mine: torch.Tensor) -> torch.Tensor:
        try:
            total: torch.Tensor = self.accelerator.reduce(
                mine.to(self.accelerator.device), "sum"
            )
        except RuntimeError as error:  # what torch raises where a connection breaks
            raise TrainingError(
                "Another process of this training has ended; what it printed says why. "
                "Resume to go on from the last checkpoint."
            ) from error
        return total
