"""Determines and checks the memory budget of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import numpy as np

from napari_geosr.core.config import format_available, format_enough, parse_bytes
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.steps import Step
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import free_memory
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.memory import measure_cost, network_spec
from napari_geosr.inference.runner import choose_output
from napari_geosr.io.lazy import cache_limited, read_unit, useful_cache
from napari_geosr.learning import diffusion
from napari_geosr.operations.restore.config import RestoreConfig

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.inference.members._samples import SampledNetwork
    from napari_geosr.inference.windows import Standardisation
    from napari_geosr.models.bundle import Model

T = TypeVar("T")
P = ParamSpec("P")
Steps = Callable[Concatenate[Volume, RestoreConfig, P], Generator[Step, None, T]]

#: Default memory budget of a run, as a fraction of the free memory.
FREE_SHARE = 0.6
#: Bytes of memory reserved for computing statistics before tiles are processed.
_STATISTICS_BYTES = 64 * 10**6
#: Duration of a run in windows, relative to one without, above which it is refused.
_LONGEST = 50
#: Bytes per voxel of a sample, besides the network: noisy state, expected image, noise,
#: and intermediate results.
_SAMPLE_BYTES = 32


def run_budget(config: RestoreConfig, device: str) -> int:
    """Return the memory budget of a run that starts now, in bytes."""
    if config.memory is not None:
        return parse_bytes(config.memory)
    return int(free_memory(device) * FREE_SHARE)


def sample_voxels(
    network: SampledNetwork, volume: Volume, config: RestoreConfig, device: str
) -> int:
    """Return how many voxels of a sample a diffusion network may process together.

    Parameters
    ----------
    network : SampledNetwork
    volume : Volume
        The scan; a sample of it, or of one of its slices, is held in memory as a whole.
    config : RestoreConfig
    device : str

    Returns
    -------
    int

    Raises
    ------
    DeviceMemoryError
        If the memory is too small even for the smallest window, or so small that
        windows would take far too long.
    """
    spec = network.spec
    sizes = volume.shape[-len(spec.axes) :]
    shape = [n * factor for n, factor in zip(sizes, spec.upscale_factor, strict=True)]
    own = math.prod(network_spec(network.network).upscale_factor)
    held, budget = _SAMPLE_BYTES * math.prod(shape), run_budget(config, device)
    cost = measure_cost(network.network, device)
    voxels = cost.max_voxels(max(budget - held, 0)) * own
    fewest = diffusion.in_windows.fewest_voxels(network.network, shape)
    if voxels < fewest:
        enough = cost.peak(math.ceil(fewest / own)) + held
        raise DeviceMemoryError(
            f"Drawing a sample needs {format_enough(enough)} of memory, but the budget "
            f"is {format_available(budget)}. Increase the Memory setting (--memory), "
            "close other programs, or crop the scan.",
            enough=enough,
        )
    times = diffusion.in_windows.duration(network.network, shape, voxels)
    if times > _LONGEST:
        enough = cost.peak(math.ceil(math.prod(shape) / own)) + held
        raise DeviceMemoryError(
            f"With {format_available(budget)} of memory, samples would take about "
            f"{times:.0f} times as long as with {format_enough(enough)}. Increase the "
            "Memory setting (--memory), close other programs, or crop the scan.",
            enough=enough,
        )
    return voxels


def reads_within_budget(steps: Steps[P, T]) -> Steps[P, T]:
    """Limit the cache of the volume for all steps of an operation.

    A separate limit is chosen for the tiles of a run.
    """

    @wraps(steps)
    def limited(
        volume: Volume, config: RestoreConfig, /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[Step, None, T]:
        if config.memory is None:
            budget = int(free_host_memory() * FREE_SHARE)
        else:
            budget = parse_bytes(config.memory)
        room = max(0, budget - _STATISTICS_BYTES)
        with cache_limited(volume.data, useful_cache(volume.data, room)):
            return (yield from steps(volume, config, *args, **kwargs))

    return limited


def check_reading(
    volume: Volume, model: Model, config: RestoreConfig, device: str
) -> None:
    """Refuse a memory budget that is too small to decode a block of the file.

    Raises
    ------
    DeviceMemoryError
        If the budget is too small; the message states the smallest budget for a run.
    """
    unit, budget = read_unit(volume.data), run_budget(config, device)
    if unit is not None and unit.held_bytes(0) > budget:
        any_statistics = IntensityStatistics(0.0, 1.0, 0.0, 1.0, 1)
        _check_run(model.restorer(), volume, any_statistics, budget, device)


@contextmanager
def memory_of_run_in_errors(
    network: nn.Module,
    volume: Volume,
    statistics: Standardisation,
    budget: int,
    device: str,
) -> Iterator[None]:
    """Restate memory errors of a partial run with the memory needed by the whole run.

    Otherwise, the error would state the memory for the part, which may be insufficient
    for the whole run.
    """
    try:
        yield
    except DeviceMemoryError:
        _check_run(network, volume, statistics, budget, device)
        raise


def _check_run(
    network: nn.Module,
    volume: Volume,
    statistics: Standardisation,
    budget: int,
    device: str,
) -> None:
    """Raise `DeviceMemoryError` unless a run that writes to a file fits into memory."""
    choose_output(
        network,
        volume.data,
        np.dtype(np.float32),
        statistics=statistics,
        budget=budget,
        device=device,
    )
