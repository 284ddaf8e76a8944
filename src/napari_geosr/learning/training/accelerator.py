"""Compute training steps on a device, in parts or by several processes.

A batch that does not fit into memory is computed in parts. With several processes, each
computes part of the batch. The processes synchronise after all gradients are computed,
not during the computation: if one process runs out of memory, all are notified and
restart the step together. Otherwise, the other processes would wait forever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from napari_geosr.core.errors import ConfigError, DeviceMemoryError, TrainingError
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.method import Batch
from napari_geosr.networks.spec import SupportsTrainingDtype

#: Environment variable from which accelerate reads the device.
_DEVICE_VARIABLE = "ACCELERATE_TORCH_DEVICE"
T = TypeVar("T")


def make_accelerator(device: str, precision: str) -> Any:
    """Return an Accelerator on `device`; each of several processes has a separate GPU.

    Accelerate reuses its first device for the whole Python session unless it is reset,
    and reads the device only from the environment.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    before = os.environ.get(_DEVICE_VARIABLE)
    os.environ[_DEVICE_VARIABLE] = device
    try:
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)
    finally:
        del os.environ[_DEVICE_VARIABLE]
        if before is not None:
            os.environ[_DEVICE_VARIABLE] = before


def accelerate_precision(config: TrainingConfig, device: str) -> str:
    """Return accelerate's name for the precision that is used on a device."""
    # On a CPU, hidden maps are stored in bfloat16 instead; see `reduce_hidden_maps`.
    is_reduced = config.precision in ("auto", "bfloat16")
    return "bf16" if is_reduced and device.startswith("cuda") else "no"


def reduce_hidden_maps(config: TrainingConfig, modules: Iterable[nn.Module]) -> None:
    """Make networks store internal feature maps in bfloat16, if requested.

    Networks that do not support this are unchanged. On a CPU, autocast gains little.
    """
    if config.precision == "bfloat16":
        for module in modules:
            if isinstance(module, SupportsTrainingDtype):
                module.training_dtype = torch.bfloat16


#: Exceptions that can mean that memory ran out.
MEMORY_ERRORS = (MemoryError, RuntimeError)


def empty_cache(device: torch.device) -> None:
    """Release memory that torch caches on the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def batch_length(batch: Batch) -> int:
    """Return the number of patches in a batch."""
    return len(next(iter(batch.values())))


def in_parts(batches: Sequence[Batch], parts: int) -> list[Batch]:
    """Halve batches until there are at least `parts`, or all are single patches."""
    split = list(batches)
    while len(split) < parts and any(batch_length(batch) > 1 for batch in split):
        split = [
            {name: tensor[half] for name, tensor in batch.items()}
            for batch in split
            for half in _halves(batch_length(batch))
        ]
    return split


def _halves(n: int) -> tuple[slice, ...]:
    middle = (n + 1) // 2
    return (slice(middle), slice(middle, n)) if n > 1 else (slice(n),)


class Processes:
    """The processes of a training run, including this one.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    batch_size : int
        Number of patches per step, over all processes.

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

    def any(self, local_value: bool) -> bool:
        """Return whether `local_value` is true in any process."""
        if self.count == 1:
            return local_value
        return bool(self._sum(torch.tensor([float(local_value)])) > 0)

    def share_gradients(self, parameters: Sequence[nn.Parameter], patches: int) -> None:
        """Average the gradients over all processes.

        Parameters
        ----------
        parameters : sequence of Parameter
            Parameters of one optimiser, with the gradients of the mean loss over this
            process's part of the batch.
        patches : int
            Number of patches in this part.
        """
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients]) * (patches / self.batch_size)
        total = self._sum(flat)
        parts = torch.split(total, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sum(self, local_value: torch.Tensor) -> torch.Tensor:
        try:
            total: torch.Tensor = self.accelerator.reduce(
                local_value.to(self.accelerator.device), "sum"
            )
        except RuntimeError as error:  # torch raises this error if a connection breaks
            raise TrainingError(
                "Another process of this training run has ended; see its output for "
                "the "
                "cause. Resume from the last checkpoint."
            ) from error
        return total


class BatchParts:
    """Number of parts in which a batch is processed; doubled when memory runs out.

    Parameters
    ----------
    processes : Processes

    Attributes
    ----------
    count : int
        Number of parts of a batch.
    is_updated : bool
        Whether weights were updated in this step, so that it cannot be repeated.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.count, self.is_updated = 1, False
        self._step = 0

    def begin(self, step: int) -> None:
        """Record that a step starts or restarts."""
        self._step, self.is_updated = step, False

    def fit(self, work: Callable[[], T]) -> T:
        """Repeat `work` with more parts until memory suffices; return its result.

        `work` must not update weights, because it is repeated in all processes.

        Raises
        ------
        DeviceMemoryError
            As in `double`.
        """
        while True:
            failure: Exception | None = None
            try:
                result = work()
            except MEMORY_ERRORS as error:
                if not is_out_of_memory(error):
                    raise
                failure = error
            if not self.processes.any(failure is not None):
                return result
            self.double(failure)
            del failure  # releases the tensors in the traceback as well
            empty_cache(self.processes.accelerator.device)

    def repeat(self, error: Exception) -> None:
        """Prepare to repeat an entire failed step, split into twice as many parts.

        Raises
        ------
        DeviceMemoryError
            If there are several processes, because the others may have continued;
            otherwise as in `double`.
        """
        if self.processes.count > 1 and is_out_of_memory(error):
            raise DeviceMemoryError(
                f"Memory ran out in one of {self.processes.count} processes at step "
                f"{self._step}, and they could not restart together. Resume from the "
                "last checkpoint with a smaller batch."
            ) from error
        self.double(error)

    def double(self, error: Exception | None) -> None:
        """Process all further batches in twice as many parts.

        Parameters
        ----------
        error : Exception or None
            The out-of-memory error; None if it occurred in another process.

        Raises
        ------
        DeviceMemoryError
            If the parts are single patches already, or some weights were updated in
            this step and would be updated twice.
        """
        if error is not None and not is_out_of_memory(error):
            raise error
        batch_size = self.processes.batch_size
        if self.count >= batch_size:
            raise DeviceMemoryError(
                "Not even one patch fits into memory. Choose a smaller patch, fewer "
                "layers or a smaller width."
            ) from error
        if self.is_updated:
            raise DeviceMemoryError(
                f"Memory ran out in the middle of step {self._step}. Resume from the "
                "last checkpoint with a smaller batch."
            ) from error
        self.count = min(2 * self.count, batch_size)
