"""Draw possible high-quality images of a scan, with a model trained on pairs.

Each sample starts as noise and is turned, step by step, into one possible difference
between the enlarged scan and the high-quality image (see
`napari_geosr.networks.residual_diffusion`). With the second-order solver [1]_, 20 steps
are enough: in a test with a known distribution, the standard deviation of the samples
is 1 % too small (12 % with random steps). Unlike in
`napari_geosr.learning.diffusion.posterior`, the noise of the scan need not be known:
the model has learned from the pairs what the noise hides.

Images that do not fit into memory are processed in windows at every step, with the same
result (`napari_geosr.learning.diffusion.in_windows`). The noise is a function of seed,
sample and voxel.

References
----------
.. [1] Lu et al. DPM-Solver++: Fast solver for guided sampling of diffusion
   probabilistic models (2022). arXiv:2211.01095
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_geosr.core.types import AnyArray
from napari_geosr.learning.diffusion.in_windows import Place, output_in_windows
from napari_geosr.learning.diffusion.posterior import block_means
from napari_geosr.learning.diffusion.sampling import noise_field, schedule_of

if TYPE_CHECKING:
    from torch import nn


class ConditionalSampler:
    """Draws samples for one scan, or one slice of it.

    Parameters
    ----------
    network : Module
        A `napari_geosr.networks.residual_diffusion.ResidualDiffusion`.
    steps : int
        Number of steps of each sample.
    to_scan : tuple of float
        Factor and offset from the grey scale of samples to that of the scan.
    at_once : int, optional
        Maximum number of voxels of a sample that the network processes together. It
        changes the samples only by rounding errors.
    """

    def __init__(
        self,
        network: nn.Module,
        steps: int = 20,
        to_scan: tuple[float, float] = (1.0, 0.0),
        at_once: int | None = None,
    ) -> None:
        self.network: Any = network
        self.schedule = schedule_of(network)
        self.times = self.schedule.evenly_spaced(steps)
        self.to_scan, self.at_once = to_scan, at_once

    def __call__(
        self,
        scan: AnyArray,
        key: Sequence[int],
        on_step: Callable[[int], None] = lambda _: None,
    ) -> AnyArray:
        """Draw one sample.

        Parameters
        ----------
        scan : ndarray of shape ([Z,] Y, X)
            In the network's grey scale.
        key : sequence of int
            Integers that seed the random numbers, e.g. the seed and the indices of the
            sample and the slice.
        on_step : callable
            Called with the number of each step before the step is taken, and before
            each window; may raise.

        Returns
        -------
        ndarray of shape ([Z,] Y, X)
            Enlarged by the factor; float32.
        """
        device = next(self.network.parameters()).device
        y = torch.from_numpy(np.ascontiguousarray(scan, np.float32))[None, None]
        with torch.no_grad():
            enlarged = self.network.enlarge(y.to(device))
        box = [slice(0, n) for n in enlarged.shape[2:]]

        x = torch.from_numpy(noise_field(key, box))[None, None].to(device)
        last = None
        for i, (time, earlier) in enumerate(itertools.pairwise([*self.times, -1])):
            on_step(i)
            residual = self._expected(x, enlarged, time, partial(on_step, i))
            x = self.schedule.solver_step(x, residual, time, earlier, last)
            last = (residual, time)
        made = enlarged + self.network.scale * x
        sample: AnyArray = made[0, 0].float().cpu().numpy()
        return sample

    def _expected(
        self, x: Tensor, enlarged: Tensor, time: int, check: Callable[[], None]
    ) -> Tensor:
        """Return the residual that the network expects."""
        at = torch.tensor([time])

        def run(place: Place) -> Tensor:
            output: Tensor = self.network.output(x[place], at, enlarged[place])
            return output

        with torch.no_grad():
            output = output_in_windows(
                self.network, run, x.shape[2:], self.at_once, check
            )
        residual: Tensor = self.schedule.parts(x, output, time)[0]
        return residual

    def residual(self, scan: AnyArray, sample: AnyArray) -> float:
        """Return the RMS difference between the scan and a sample's block means."""
        factor, offset = self.to_scan
        seen = torch.from_numpy(np.array(sample))[None, None]
        means = block_means(seen, self.network.factor)[0, 0].numpy()
        difference = np.asarray(scan, np.float64) - (factor * means + offset)
        return float(np.sqrt(np.mean(difference**2)))
