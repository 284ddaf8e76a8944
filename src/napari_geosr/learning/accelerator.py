"""How a training step is computed: device, precision, parts, processes.

A batch that does not fit in memory is computed in parts. Each of several processes has
a part of the batch as well. They meet after the gradients of their parts are there, not
while these are computed: then one in which memory runs out can say so, and all begin
again together; otherwise the others would wait for it for ever.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from napari_geosr.core.errors import ConfigError, TrainingError
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Batch

_VARIABLE = "ACCELERATE_TORCH_DEVICE"


def make_accelerator(device: str, precision: str) -> Any:
    """An Accelerator on `device`; of several processes, on a GPU of its own.

    Accelerate keeps its first choice for all later ones of a Python session, and takes
    a device from the environment alone.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = device
    try:
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def precision_on(config: TrainingConfig, device: str) -> str:
    """What accelerate calls the precision of the config on a device."""
    # On a processor the network reduces its own hidden maps instead.
    wanted = config.precision in ("auto", "bfloat16")
    return "bf16" if wanted and device.startswith("cuda") else "no"


#: What failures of memory are among.
FAILURES = (MemoryError, RuntimeError)
#: What devices and systems say of it, in small letters: CUDA, MPS, cuDNN and cuBLAS;
#: the allocators of Linux, macOS and Windows.
_PHRASES = (
    "out of memory",
    "alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "not enough memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(p in said for p in _PHRASES)


def length_of(batch: Batch) -> int:
    """Number of patches in a batch."""
    return len(next(iter(batch.values())))


def in_parts(batches: Sequence[Batch], parts: int) -> list[Batch]:
    """Halve batches until there are `parts`, or all have one patch."""
    found = list(batches)
    while len(found) < parts and any(length_of(batch) > 1 for batch in found):
        found = [
            {name: tensor[half] for name, tensor in batch.items()}
            for batch in found
            for half in _halves(length_of(batch))
        ]
    return found


def _halves(n: int) -> tuple[slice, ...]:
    middle = (n + 1) // 2
    return (slice(middle), slice(middle, n)) if n > 1 else (slice(n),)


class Processes:
    """The processes of a training, including this one.

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
                "processes. Start fewer processes or set a larger batch."
            )

    def any(self, mine: bool) -> bool:
        """Whether the flag is true in any process."""
        if self.count == 1:
            return mine
        return bool(self._sum(torch.tensor([float(mine)])) > 0)

    def share_gradients(
        self, parameters: Sequence[torch.nn.Parameter], patches: int
    ) -> None:
        """Average the gradients over all processes.

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
                "Another process of this training has ended; see its output for the "
                "cause. Resume from the last checkpoint."
            ) from error
        return total
