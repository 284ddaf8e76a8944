"""Draw images from a diffusion model.

Samples drawn with the same seed are identical, and the noise at a voxel does not depend
on the box in which it is drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.learning.diffusion.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.learning.sampling.patches import Patches

#: Edge length of the blocks of noise, in voxels.
_BLOCK = 32
#: Edge length of the sample shown during training, in voxels, by number of axes, and
#: its number of sampling steps.
_PREVIEW_EDGE = {2: 128, 3: 32}
_PREVIEW_STEPS = 10


def noise_field(key: Sequence[int], box: Sequence[slice]) -> AnyArray:
    """Return normally distributed numbers that depend only on `key` and the voxel.

    The numbers are independent of each other; their type is float32.

    Parameters
    ----------
    key : sequence of int
        Integers that determine the field, e.g. the seed and the index of the sample.
    box : sequence of slice
        Indices along Y and X, or Z, Y and X, counted from 0.
    """
    ranges = [range(s.start // _BLOCK, -(-s.stop // _BLOCK)) for s in box]
    lows = [r.start * _BLOCK for r in ranges]
    noise = np.empty([len(r) * _BLOCK for r in ranges], np.float32)
    for place in itertools.product(*ranges):
        rng = np.random.default_rng([*key, len(box), *place])
        starts = [p * _BLOCK - low for p, low in zip(place, lows, strict=True)]
        there = tuple(slice(start, start + _BLOCK) for start in starts)
        noise[there] = rng.standard_normal((_BLOCK,) * len(box), np.float32)
    crop = (
        slice(s.start - low, s.stop - low) for s, low in zip(box, lows, strict=True)
    )
    return np.ascontiguousarray(noise[tuple(crop)])


def schedule_of(network: nn.Module) -> Schedule:
    """Return the schedule with which a network was trained."""
    config: Any = network.config
    return Schedule(
        config.noise_schedule, config.prediction, zero_terminal=config.zero_terminal
    )


def sample(
    network: nn.Module,
    noise: Tensor,
    steps: int,
    on_step: Callable[[int], None] = lambda _: None,
    *,
    porosity: float | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Turn noise into images with the second-order solver.

    Parameters
    ----------
    network : Module
        A `napari_geosr.networks.diffusion_unet.DiffusionUNet`.
    noise : Tensor of shape (N, 1, [Z,] Y, X)
    steps : int
        Number of steps: each is one pass of the network, or two if `guidance` is not 1.
    on_step : callable
        Called with the number of each step before the step is taken; may raise.
    porosity : float, optional
        Porosity of the images, for networks that take it as input.
    guidance : float
        Weight of the porosity: the output without porosity is extrapolated towards the
        output with porosity [1]_. A weight of 1 gives the output with porosity.

    Returns
    -------
    Tensor
        Standardised grey values.

    References
    ----------
    .. [1] Ho & Salimans. Classifier-free diffusion guidance. arXiv:2207.12598 (2022)
    """
    net: Any = network
    schedule = schedule_of(network)
    times = schedule.evenly_spaced(steps)
    x, last = noise, None
    for i, (time, earlier) in enumerate(itertools.pairwise([*times, -1])):
        on_step(i)
        with torch.no_grad():
            output = _guided(net, x, torch.tensor([time]), porosity, guidance)
        image, _ = schedule.parts(x, output, time)
        x = schedule.solver_step(x, image, time, earlier, last)
        last = (image, time)
    return x


def _guided(
    net: Any, x: Tensor, time: Tensor, porosity: float | None, guidance: float
) -> Tensor:
    if porosity is None:
        output: Tensor = net.output(x, time)
        return output
    known: Tensor = net.output(x, time, torch.tensor([porosity]))
    if guidance == 1:
        return known
    unknown: Tensor = net.output(x, time)
    return unknown + guidance * (known - unknown)


class GeneratedPreview:
    """Preview during training: a sample drawn from the same noise every time."""

    def __init__(self, patches: Patches) -> None:
        ndim = patches.config.ndim
        first = next(iter(patches.scenes[0].volumes.values()))
        self.grey = patches.grey["source"]
        box = [slice(0, _PREVIEW_EDGE[ndim])] * ndim
        field = noise_field([patches.config.seed, 0], box)
        self.noise = torch.from_numpy(field)[None, None]
        self.size, self.unit = first.voxel_size[-2:], first.unit

    def __call__(self, network: nn.Module) -> Volume:
        """Return the sample (or its middle slice, if it is a volume) in grey values."""
        noise = self.noise.to(next(network.parameters()).device)
        made = sample(network, noise, _PREVIEW_STEPS)[0, 0].float().cpu().numpy()
        plane = made if made.ndim == 2 else made[len(made) // 2]
        values = self.grey.restore(plane)
        return Volume(values, "YX", self.size, self.unit, name="generated preview")
