"""Draw images that are likely under a diffusion model and agree with a scan.

The scan is ``y = A x + noise``, where A averages blocks of voxels (or does nothing) and
the noise is white. Each sample is one possible object; together, the samples show which
parts of the object the scan does not determine.

Without blocks, the scan is itself a noisy image like those in training. Scaled, and
with a little noise added to reach the next noise level of the schedule, it is the state
from which random steps [1]_ draw samples of the posterior distribution. The only
approximations are the network and the number of steps.

With blocks, each step corrects the expected image by its enlarged difference from the
scan [2]_, weighted by how precisely scan and model determine the block means [3]_. If
the scan has no noise, the block means of every sample equal the scan exactly.

Images that do not fit into memory are processed in windows at every step, with the same
result (`napari_geosr.learning.diffusion.in_windows`). The noise is a function of seed,
sample and voxel.

References
----------
.. [1] Ho et al. Denoising diffusion probabilistic models. NeurIPS (2020).
   arXiv:2006.11239
.. [2] Wang, Yu, Zhang. Zero-shot image restoration using denoising diffusion null-space
   model. ICLR (2023). arXiv:2212.00490
.. [3] Song et al. Pseudoinverse-guided diffusion models for inverse problems. ICLR
   (2023).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray
from napari_geosr.learning.diffusion.in_windows import output_in_windows
from napari_geosr.learning.diffusion.sampling import noise_field, schedule_of

if TYPE_CHECKING:
    from torch import nn


class PosteriorSampler:
    """Draws samples for one scan, or one slice of it.

    Parameters
    ----------
    network : Module
        A `napari_geosr.networks.diffusion_unet.DiffusionUNet`.
    noise : float
        Standard deviation of the scan's noise, in the network's grey scale.
    factor : int
        Edge length of the blocks, in voxels of the samples.
    steps : int
        Number of steps of each sample; fewer are taken without blocks if the scan has
        little noise.
    at_once : int, optional
        Maximum number of voxels of a sample that the network processes together. It
        changes the samples only by rounding errors.

    Raises
    ------
    ConfigError
        If there is neither noise nor upscaling, or the noise is stronger than in
        training.
    """

    def __init__(
        self,
        network: nn.Module,
        noise: float,
        factor: int = 1,
        steps: int = 20,
        at_once: int | None = None,
    ) -> None:
        self.network: Any = network
        self.noise, self.factor = float(noise), factor
        self.schedule = schedule_of(network)
        self.at_once = at_once
        if factor > 1:
            self.times = self.schedule.evenly_spaced(steps)
            return
        ratio = ((1 - self.schedule.signal) / self.schedule.signal).sqrt()
        if not ratio[0] <= self.noise <= ratio[-2]:
            raise ConfigError(
                "No noise was measured in the scan, so only one object agrees with "
                "it and there is nothing to sample: turn off the uncertainty "
                "(--uncertainty)."
                if self.noise < ratio[0]
                else "The scan has more noise than the model was trained for."
            )
        first = int(torch.searchsorted(ratio, self.noise))
        n = min(steps, first + 1)
        self.times = [round((first + 1) * (n - i) / n) - 1 for i in range(n)]

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
        y = y.to(device)
        box = [slice(0, n * self.factor) for n in scan.shape]

        def new_noise(i: int) -> Tensor:
            return torch.from_numpy(noise_field((*key, i), box))[None, None].to(device)

        a, s = (float(part) for part in self.schedule.shares(self.times[0], y))
        if self.factor == 1:
            more = math.sqrt(max(s**2 - (a * self.noise) ** 2, 0.0))
            x = a * y + more * new_noise(0)
        else:
            x = a * enlarged(y, self.factor) + s * new_noise(0)
        for i, (time, earlier) in enumerate(itertools.pairwise([*self.times, -1])):
            on_step(i)
            expected = self.expected(x, time, partial(on_step, i))
            image = self.corrected(expected, y, time)
            x = self.schedule.ddpm_step(x, image, time, earlier, new_noise(i + 1))
        sample: AnyArray = x[0, 0].float().cpu().numpy()
        return sample

    def corrected(self, image: Tensor, y: Tensor, time: int) -> Tensor:
        """Correct the expected image so that its block means agree with the scan."""
        if self.factor == 1:  # the first state already contains the scan
            return image
        a, s = (float(part) for part in self.schedule.shares(time, y))
        # Variance of a block's mean if only the state is known, for images of unit
        # variance.
        ratio = (a / s) ** 2 * self.factor ** (image.ndim - 2)
        known = 1 / (1 + ratio)
        gain = known / (known + self.noise**2)
        error = y - block_means(image, self.factor)
        corrected: Tensor = image + gain * enlarged(error, self.factor)
        return corrected

    def expected(
        self, x: Tensor, time: int, check: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Compute the expected image for a state; `check` is called in each window."""
        at = torch.tensor([time])
        with torch.no_grad():
            output = output_in_windows(
                self.network,
                lambda place: self.network.output(x[place], at),
                x.shape[2:],
                self.at_once,
                check,
            )
        image: Tensor = self.schedule.parts(x, output, time)[0]
        return image

    def residual(self, scan: AnyArray, sample: AnyArray) -> float:
        """Return the RMS difference between the scan and a sample's block means."""
        seen = torch.from_numpy(np.array(sample))[None, None]
        means = block_means(seen, self.factor)[0, 0].numpy()
        return float(np.sqrt(np.mean((np.asarray(scan, np.float64) - means) ** 2)))


def block_means(x: Tensor, factor: int) -> Tensor:
    """Return the means of blocks of `factor` voxels along each axis."""
    if factor == 1:
        return x
    pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
    means: Tensor = pool(x, factor)
    return means


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Repeat each voxel `factor` times along each axis."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(factor, axis)
    return x
