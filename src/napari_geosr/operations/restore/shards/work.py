"""Restores shards of a volume in a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import ShouldStop
from napari_geosr.core.types import AnyArray, AnyDType, AnyMapping
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference.backends import Choice, Setting
from napari_geosr.inference.compute import frugal_if_tight
from napari_geosr.inference.shards import Shard, restore_shard
from napari_geosr.inference.windows import NonFinite, Standardisation

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.inference.run import RunSummary
    from napari_geosr.io.output import OutputPart, SharedOutput


@dataclass(frozen=True)
class ShardResult:
    """A finished shard.

    Attributes
    ----------
    summary : RunSummary
        Statistics of the tiles of the shard.
    backend : mapping
        Backend that computed the shard, for the record.
    blocks : tuple of ndarray
        Voxels of the shard, and their standard deviations if there are any; empty if
        the worker wrote them into the file.
    messages : tuple of str
        Messages for the user about the model.
    """

    summary: RunSummary
    backend: AnyMapping
    blocks: tuple[AnyArray, ...] = ()
    messages: tuple[str, ...] = ()


class ShardWork:
    """Everything that a worker process needs to restore any shard of a volume.

    Parameters
    ----------
    network : nn.Module
    source : array-like
        The whole input; it reopens its file when it is unpickled.
    tile : sequence of int
        Core size of the tiles, along Z, Y, X.
    dtypes : sequence of dtype
        Types of the result, and of the standard deviations if there are any.
    files : sequence of SharedOutput
        Files to fill, one for each of `dtypes`; if empty, the voxels are returned.
    memory : int
        Memory for each file or block, in bytes; part of the budget.
    statistics, budget, device, nonfinite, threads
        As in `napari_geosr.inference.runner.restore_tiles`, for one process.
    backend : {"torch", "openvino"}
    """

    def __init__(
        self,
        network: nn.Module,
        source: ArrayLike,
        *,
        tile: Sequence[int],
        dtypes: Sequence[AnyDType],
        files: Sequence[SharedOutput],
        memory: int,
        statistics: Standardisation,
        budget: int,
        device: str,
        nonfinite: NonFinite,
        threads: int,
        backend: Setting,
    ) -> None:
        self.network, self.source, self.tile = network, source, tuple(tile)
        self.dtypes, self.files, self.memory = tuple(dtypes), tuple(files), memory
        self.statistics, self.budget, self.device = statistics, budget, device
        self.nonfinite, self.threads = nonfinite, threads
        self.backend = Choice(backend, threads)

    def __call__(
        self, shard: Shard, should_stop: ShouldStop, worker: int
    ) -> ShardResult:
        """Restore one shard, and write it if it has a target file."""
        parts: list[OutputPart] = [
            file.part(shard.place, self.memory) for file in self.files
        ]
        shape = [part.stop - part.start for part in shard.place]
        blocks = [] if parts else [np.empty(shape, dtype) for dtype in self.dtypes]
        targets: list[object] = [*parts, *blocks]
        device = device_of(self.device, worker)
        with frugal_if_tight(device, self.budget):
            done = restore_shard(
                self.network,
                self.source,
                targets[0],
                shard.region,
                self.tile,
                statistics=self.statistics,
                budget=self.budget,
                device=device,
                nonfinite=self.nonfinite,
                threads=self.threads,
                should_stop=should_stop,
                deviation=targets[1] if len(targets) > 1 else None,
                backend=self.backend,
            )
        self._check_source()
        for part in parts:
            part.finish()
        return ShardResult(done.run, self.backend.facts(), tuple(blocks), done.messages)

    def _check_source(self) -> None:
        """Raise `FileError` if the input is missing.

        Without this check, a missing zarr would be read as zeros.
        """
        if getattr(self.source, "is_remote", False):
            return  # connection errors are raised when the file is read
        path = getattr(self.source, "path", None)
        if path is not None and not Path(path).exists():
            raise FileError(
                f"{Path(path).name} can no longer be read: it was removed or renamed, "
                "or its drive is not connected."
            )


def device_of(device: str, worker: int) -> str:
    """Return the device of a worker.

    If there are several GPUs and none is named, workers use different GPUs.

    Parameters
    ----------
    device : str
    worker : int
        Number of the worker.
    """
    n = count_devices(device)
    return device if n < 2 else f"{device}:{worker % n}"


def count_devices(device: str) -> int:
    """Return the number of devices that the workers on this computer share."""
    if device != "cuda":
        return 1
    import torch

    return max(1, torch.cuda.device_count())
