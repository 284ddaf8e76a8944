"""Define the noise schedule of diffusion models, and the steps that remove noise.

At time t, an image x0 is mixed with Gaussian noise [1]_:
``x_t = sqrt(signal[t]) x0 + sqrt(1 - signal[t]) noise``. A network predicts the noise,
the image or the velocity ``sqrt(signal) noise - sqrt(1 - signal) x0`` [5]_. All three
are equivalent, because any of them, together with ``x_t``, determines the image and the
noise.

This implementation replaces ``diffusers``, which takes twice as long to import
as torch; a test compares both implementations.

References
----------
.. [1] Ho et al. Denoising diffusion probabilistic models. NeurIPS (2020).
   arXiv:2006.11239
.. [2] Nichol & Dhariwal. Improved denoising diffusion probabilistic models. ICML
   (2021). arXiv:2102.09672
.. [3] Song et al. Denoising diffusion implicit models. ICLR (2021). arXiv:2010.02502
.. [4] Lu et al. DPM-Solver++: Fast solver for guided sampling of diffusion
   probabilistic models (2022). arXiv:2211.01095
.. [5] Salimans & Ho. Progressive distillation for fast sampling of diffusion models.
   ICLR (2022). arXiv:2202.00512
.. [6] Hang et al. Efficient diffusion training via min-SNR weighting strategy. ICCV
   (2023). arXiv:2303.09556
.. [7] Lin et al. Common diffusion noise schedules and sample steps are flawed. WACV
   (2024). arXiv:2305.08891
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from napari_geosr.core.errors import ConfigError

Kind = Literal["linear", "cosine"]
Prediction = Literal["noise", "velocity", "image"]

#: Variance of the noise added at the first of 1000 time steps [1]_.
_FIRST_BETA = 1e-4
#: Variance of the noise added at the last time step [1]_.
_LAST_BETA = 0.02
#: Offset of the cosine schedule, in units of its length [2]_.
_OFFSET = 0.008
#: Largest variance added at any time step of the cosine schedule [2]_.
_MAX_BETA = 0.999
#: Maximum loss weight of a time step, relative to that of images with unit noise [6]_.
GAMMA = 5.0


def noise_variances(kind: Kind, times: int) -> Tensor:
    """Return the variance of the noise added at each time step, float64."""
    if kind == "linear":
        return torch.linspace(_FIRST_BETA, _LAST_BETA, times, dtype=torch.float64)
    at = torch.arange(times + 1, dtype=torch.float64) / times
    left = torch.cos((at + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2
    return (1 - left[1:] / left[:-1]).clamp(max=_MAX_BETA)


def without_signal_at_end(variances: Tensor) -> Tensor:
    """Rescale the variances so that no signal remains at the last time step [7]_.

    The first variance is unchanged.
    """
    root = (1 - variances).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    signal = root.square()
    return 1 - torch.cat([signal[:1], signal[1:] / signal[:-1]])


class Schedule:
    """Amounts of image and noise at every time step, and steps back in time.

    Parameters
    ----------
    kind : {"linear", "cosine"}
    prediction : {"noise", "velocity", "image"}
        Quantity that the network predicts.
    times : int
        Number of time steps; step 0 has the least noise, and ``times - 1`` the most.
    zero_terminal : bool
        Whether there is only noise at the last time step.

    Raises
    ------
    ConfigError
        If the network predicts noise although the last time step contains only noise.
    """

    def __init__(
        self,
        kind: Kind = "cosine",
        prediction: Prediction = "velocity",
        times: int = 1000,
        *,
        zero_terminal: bool = False,
    ) -> None:
        if zero_terminal and prediction == "noise":
            raise ConfigError(
                "If the last time step contains only noise, a network that predicts "
                "the noise learns nothing about the image there: set the prediction to "
                "velocity or image."
            )
        variances = noise_variances(kind, times)
        if zero_terminal:
            variances = without_signal_at_end(variances)
        self.prediction, self.times = prediction, times
        #: Remaining variance of an image of unit variance at every time step; float64.
        self.signal = (1 - variances).cumprod(0)

    def evenly_spaced(self, steps: int) -> list[int]:
        """Return `steps` evenly spaced times, starting with the last [7]_."""
        if not 1 <= steps <= self.times:
            raise ConfigError(
                f"The number of steps must be between 1 and {self.times}."
            )
        return [round(self.times * (steps - i) / steps) - 1 for i in range(steps)]

    def shares(self, time: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the amplitudes of image and noise at one time, or at one per image.

        Before time 0 (at −1) there is no noise.
        """
        index = torch.as_tensor(time, device="cpu")
        signal = torch.where(index < 0, 1.0, self.signal[index.clamp(min=0)])
        shape = (-1, *(1,) * (like.ndim - 1)) if index.ndim else ()
        both = (signal.sqrt(), (1 - signal).sqrt())
        image, noise = (
            part.to(like.device, like.dtype).reshape(shape) for part in both
        )
        return image, noise

    def noised(self, x0: Tensor, noise: Tensor, time: Tensor | int) -> Tensor:
        """Mix an image with noise."""
        a, s = self.shares(time, x0)
        return a * x0 + s * noise

    def target(self, x0: Tensor, noise: Tensor, time: Tensor | int) -> Tensor:
        """Return the output on which a network is trained: noise, image or velocity."""
        if self.prediction == "velocity":
            a, s = self.shares(time, x0)
            return a * noise - s * x0
        return noise if self.prediction == "noise" else x0

    def parts(
        self, x: Tensor, output: Tensor, time: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """Return the image and the noise in `x` that the network's output implies."""
        a, s = self.shares(time, x)
        if self.prediction == "velocity":
            return a * x - s * output, s * x + a * output
        if self.prediction == "noise":
            return (x - s * output) / a, output
        return output, (x - a * output) / s

    def weight(self, time: Tensor, gamma: float = GAMMA) -> Tensor:
        """Return the weight of the squared error of the output at each time step [6]_.

        In terms of the image, the weight is the ratio of signal to noise, but not more
        than `gamma`.
        """
        ratio = (self.signal / (1 - self.signal))[time.cpu()]
        weight = ratio.clamp(max=gamma)
        if self.prediction == "noise":
            return weight / ratio
        return weight / (ratio + 1) if self.prediction == "velocity" else weight

    def ddpm_step(
        self, x: Tensor, x0: Tensor, time: int, earlier: int, noise: Tensor
    ) -> Tensor:
        """Take a random step to an earlier time, given the expected image [1]_."""
        return self.ddim_step(x, x0, time, earlier, noise, eta=1.0)

    def ddim_step(
        self,
        x: Tensor,
        x0: Tensor,
        time: int,
        earlier: int,
        noise: Tensor | None = None,
        eta: float = 0.0,
    ) -> Tensor:
        """Take a step to an earlier time, given the expected image [3]_.

        Parameters
        ----------
        noise : Tensor, optional
            Noise to add if `eta` is not 0; if omitted, the step is deterministic.
        eta : float
            Amount of new noise relative to that in [1]_; 0 for none.
        """
        a, s = self.shares(time, x)
        b, r = self.shares(earlier, x)
        if noise is None or not eta or earlier < 0:
            return b * x0 + r * (x - a * x0) / s
        # Standard deviation of x at the earlier time, given x now and the image, times
        # eta.
        new = eta * r / s * (1 - (a / b) ** 2).sqrt()
        kept = (r**2 - new**2).clamp(min=0).sqrt()
        return b * x0 + kept * (x - a * x0) / s + new * noise

    def solver_step(
        self,
        x: Tensor,
        x0: Tensor,
        time: int,
        earlier: int,
        last: tuple[Tensor, int] | None = None,
    ) -> Tensor:
        """Take a step of the second-order multistep solver DPM-Solver++ [4]_.

        Parameters
        ----------
        last : (Tensor, int), optional
            Expected image and time of the previous step; None for a first-order step.
        """
        if last is not None and earlier >= 0:
            (h, h_last) = self._log_ratio(time, earlier), self._log_ratio(last[1], time)
            # Expected image in the middle of the step, extrapolated from the last two.
            if math.isfinite(h_last):
                x0 = x0 + 0.5 * h / h_last * (x0 - last[0])
        return self.ddim_step(x, x0, time, earlier)

    def _log_ratio(self, time: int, earlier: int) -> float:
        """Return the increase of log(image / noise) between two times."""
        now, then = self.signal[[time, earlier]] / (1 - self.signal[[time, earlier]])
        return 0.5 * (math.log(then) - math.log(now)) if now > 0 else math.inf
