"""Fit a generator to projections alone, through the differentiable projector.

This is GANrec [1]_, which uses no other data. A generator produces slices, the
projector computes their projections, and these are fitted to the measured ones, while a
discriminator distinguishes measured from computed projections. Here the generator is a
small U-Net, a deep image prior [2]_, that corrects a filtered back-projection. Because
its last layer is initialised with zeros, the fit starts from the filtered
back-projection.

References
----------
.. [1] Yang et al. Tomographic reconstruction with a generative adversarial network.
   J. Synchrotron Rad. 27, 486-493 (2020). doi:10.1107/S1600577520000831
.. [2] Ulyanov, Vedaldi, Lempitsky. Deep image prior. CVPR (2018). arXiv:1711.10925
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_geosr.core.errors import Cancelled, TrainingError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.types import AnyDict
from napari_geosr.learning.critics import PatchCritic
from napari_geosr.learning.losses.adversarial import (
    Distance,
    critic_loss,
    generator_loss,
)
from napari_geosr.networks import build_network
from napari_geosr.physics.projection.geometry import ParallelGeometry
from napari_geosr.physics.projection.projector import project

#: Sharpness of the softplus that avoids negative attenuation, for grey values scaled so
#: that the brightest voxels are 1.
_SOFTPLUS_BETA = 10.0
#: Number of feature maps of the discriminator's first layer.
_CRITIC_WIDTH = 16
#: Number of strided layers of the discriminator.
_CRITIC_LAYERS = 3
#: Final learning rate as a fraction of the initial one.
_FINAL_RATE = 0.05


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit of slices to projections.

    Attributes
    ----------
    iterations : int
    learning_rate : float
        Initial learning rate of the generator (Adam); it follows a cosine decay.
    critic_rate : float
        Learning rate of the discriminator (Adam).
    adversarial : float
        Weight of the adversarial loss; 0 means no discriminator.
    smoothness : float
        Weight of the total variation.
    details : float
        Weight of the residual at high frequencies; see `roughness`.
    distance : str
        Distance on which the adversarial loss is based.
    features, levels : int
        Feature maps and levels of the U-Net.
    averaging : float
        Decay of the moving average of the slices, which is the result.
    seed : int
    """

    iterations: int = 400
    learning_rate: float = 2e-3
    critic_rate: float = 1e-4
    adversarial: float = 0.005
    smoothness: float = 0.15
    details: float = 100.0
    distance: Distance = "jensen-shannon"
    features: int = 16
    levels: int = 2
    averaging: float = 0.98
    seed: int = 0


class Generator(nn.Module):
    """Computes slices: an initial reconstruction plus a correction by a network.

    Parameters
    ----------
    start : Tensor of shape (row, N, N)
        Initial reconstruction, scaled to about 0 … 1, and 0 outside the `circle`.
    circle : Tensor of shape (N, N)
        1 inside the field of view.
    """

    def __init__(self, start: Tensor, circle: Tensor, settings: FitSettings) -> None:
        super().__init__()
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("circle", circle, persistent=False)
        self.network = build_network(
            "unet",
            ndim=2,
            adjacent_slices=1,
            levels=settings.levels,
            features=settings.features,
            residual=False,
            batch_norm=False,
        )
        with torch.no_grad():
            # Start at 0; otherwise, sigmoids and softpluses saturate within a few
            # steps.
            for parameter in self.network.get_submodule("head").parameters():
                parameter.zero_()

    def forward(self) -> Tensor:
        """Compute non-negative slices (row, N, N)."""
        start: Any = self.start
        circle: Any = self.circle
        raw = start + self.network(start[:, None])[:, 0]
        slices: Tensor = (
            functional.softplus(_SOFTPLUS_BETA * raw) / _SOFTPLUS_BETA * circle
        )
        return slices


def field_of_view(geometry: ParallelGeometry, device: torch.device | str) -> Tensor:
    """Return the field of view (N, N): 1 for voxels that all projections cover."""
    n = geometry.size
    axis = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
    reach = min(geometry.centre, geometry.n_columns - 1 - geometry.centre)
    radius = min(n / 2, max(reach, 1.0) * geometry.pixel_size / geometry.voxel_size)
    inside = axis[:, None].square() + axis.square() <= radius**2
    return inside.float().to(device)


class SinogramFit:
    """Fit of slices to their projections, iteration by iteration.

    Parameters
    ----------
    sinogram : Tensor of shape (row, angle, column), float32
        Line integrals; all rows are fitted together by one network.
    geometry : ParallelGeometry
        Parallel or fan-beam geometry.
    start : Tensor of shape (row, N, N)
        Filtered back-projection of the sinogram.
    settings : FitSettings

    Attributes
    ----------
    iteration : int
        Number of iterations done.
    losses : dict of str to float
        Losses of the last iteration.
    """

    def __init__(
        self,
        sinogram: Tensor,
        geometry: ParallelGeometry,
        start: Tensor,
        settings: FitSettings,
    ) -> None:
        self.geometry, self.settings = geometry, settings
        device = sinogram.device
        self.sinogram = sinogram
        self.deviation = float(sinogram.std()) or 1.0
        circle = field_of_view(geometry, device)
        positive = start.clamp(min=0) * circle
        #: Attenuation that corresponds to 1 in the generator: the attenuation of the
        #: brightest voxels.
        self.scale = _scale(positive, sinogram, geometry)
        torch.manual_seed(settings.seed)
        self.generator = Generator(positive / self.scale, circle, settings).to(device)
        self.critic = PatchCritic(2, 1, _CRITIC_WIDTH, _CRITIC_LAYERS).to(device)
        self.optimisers = {
            "generator": torch.optim.Adam(
                self.generator.parameters(), settings.learning_rate
            ),
            "critic": torch.optim.Adam(self.critic.parameters(), settings.critic_rate),
        }
        self.iteration = 0
        self.losses: dict[str, float] = {}
        self.average = torch.zeros_like(positive)

    def step(self) -> dict[str, float]:
        """Perform one iteration: update the generator, then the discriminator.

        Returns
        -------
        dict of str to float
            ``"projections"``: mean squared residual of the projections, relative to
            their variance; and the other losses.

        Raises
        ------
        TrainingError
            If a loss becomes NaN.
        """
        self._set_rate("generator", self.rate())
        slices = self.generator()
        projections = project(slices, self.geometry) * self.scale
        residual = (projections - self.sinogram) / self.deviation
        losses = {
            "projections": residual.square().mean(),
            "details": self.settings.details * roughness(residual),
            "smoothness": self.settings.smoothness * variation(slices),
        }
        if self.settings.adversarial:
            loss = generator_loss(
                self._critic_logits(projections), self.settings.distance
            )
            losses["adversarial"] = self.settings.adversarial * loss
        self._optimise("generator", sum(losses.values(), torch.zeros(())))
        if self.settings.adversarial:
            critic = critic_loss(
                self._critic_logits(self.sinogram),
                self._critic_logits(projections.detach()),
                self.settings.distance,
            )
            losses["critic"] = critic
            self._optimise("critic", critic)
        decay = min(
            self.settings.averaging, (1 + self.iteration) / (10 + self.iteration)
        )
        self.average.lerp_(slices.detach(), 1 - decay)
        self.iteration += 1
        self.losses = {name: float(value.detach()) for name, value in losses.items()}
        bad = [name for name, value in self.losses.items() if value != value]
        if bad:
            raise TrainingError(
                f"The loss of {bad[0]} became NaN at iteration {self.iteration}. Start "
                "again with half the learning rate."
            )
        return self.losses

    def rate(self) -> float:
        """Return the learning rate of the generator at this iteration."""
        share = min(1.0, self.iteration / self.settings.iterations)
        falling = 0.5 + 0.5 * math.cos(math.pi * share)
        return self.settings.learning_rate * max(_FINAL_RATE, falling)

    @property
    def done(self) -> bool:
        return self.iteration >= self.settings.iterations

    @torch.no_grad()
    def slices(self) -> Tensor:
        """Return the attenuation per unit length, shape (row, N, N).

        The slices are scaled to the projections by least squares, to correct changes in
        grey value caused by the softplus and the averaging.
        """
        raw = self.average if self.iteration else self.generator()
        projections = project(raw, self.geometry)
        energy = float(projections.square().sum())
        scale = (
            float((projections * self.sinogram).sum()) / energy
            if energy
            else self.scale
        )
        return raw * scale

    def state(self) -> AnyDict:
        """Return the state from which the fit can be resumed."""
        return {
            "iteration": self.iteration,
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "optimisers": {n: o.state_dict() for n, o in self.optimisers.items()},
            "average": self.average,
        }

    def restore(self, state: AnyDict) -> None:
        """Load a state returned by `state`.

        Raises
        ------
        TrainingError
            If the state belongs to other settings.
        """
        try:
            self.generator.load_state_dict(state["generator"])
            self.critic.load_state_dict(state["critic"])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
            self.average.copy_(state["average"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                "The checkpoint belongs to different settings or projections. Start "
                "again in another folder."
            ) from error
        self.iteration = int(state["iteration"])

    def start_from(self, other: SinogramFit) -> None:
        """Start from the networks of another fit, such as a fit of adjacent rows."""
        self.generator.network.load_state_dict(other.generator.network.state_dict())
        self.critic.load_state_dict(other.critic.state_dict())

    def _critic_logits(self, sinogram: Tensor) -> Tensor:
        logits: Tensor = self.critic((sinogram / self.deviation)[:, None])
        return logits

    def _set_rate(self, name: str, rate: float) -> None:
        for group in self.optimisers[name].param_groups:
            group["lr"] = rate

    def _optimise(self, name: str, loss: Tensor) -> None:
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def fit_slices(
    sinogram: Tensor,
    geometry: ParallelGeometry,
    start: Tensor,
    settings: FitSettings | None = None,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: Callable[[int, dict[str, float]], None] = lambda n, losses: None,
) -> Tensor:
    """Fit slices to their projections, with all iterations; see `SinogramFit`.

    Parameters
    ----------
    sinogram : Tensor of shape (row, angle, column)
        Line integrals.
    geometry : ParallelGeometry
    start : Tensor of shape (row, N, N)
        Initial slices.
    settings : FitSettings, optional
    should_stop : callable
        Called before every iteration; True cancels the fit.
    on_iteration : callable
        Called with the number of the iteration and its losses by name.

    Returns
    -------
    Tensor of shape (row, N, N)

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    fit = SinogramFit(sinogram, geometry, start, settings or FitSettings())
    while not fit.done:
        if should_stop():
            raise Cancelled("Reconstruction stopped; unfinished slices are discarded.")
        on_iteration(fit.iteration + 1, fit.step())
    return fit.slices()


def roughness(sinogram: Tensor) -> Tensor:
    """Return the mean square of a sinogram, weighted by the detector frequency.

    Projection attenuates details in inverse proportion to the frequency, so that they
    hardly contribute to the mean square and converge last. With this weight, all
    frequencies converge at the same rate.
    """
    n = sinogram.shape[-1]
    spectrum = torch.fft.rfft(sinogram, n=2 * n)
    ramp = torch.linspace(0, 1, spectrum.shape[-1], device=sinogram.device)
    filtered: Tensor = torch.fft.irfft(spectrum * ramp, n=2 * n)[..., :n]
    return (filtered * sinogram).mean()


def variation(slices: Tensor) -> Tensor:
    """Return the mean absolute difference between neighbours within slices."""
    across = torch.diff(slices, dim=-1).abs().mean()
    return across + torch.diff(slices, dim=-2).abs().mean()


def _scale(positive: Tensor, sinogram: Tensor, geometry: ParallelGeometry) -> float:
    """Return the 99th percentile of the slices, scaled to fit the projections."""
    projections = project(positive, geometry)
    energy = float(projections.square().sum())
    factor = float((projections * sinogram).sum()) / energy if energy else 1.0
    inside = positive[positive > 0]
    if not inside.numel() or factor <= 0:
        return 1.0
    # quantile() accepts at most 16 million values.
    brightest = float(inside[:: max(1, inside.numel() // 2**20)].quantile(0.99))
    return factor * brightest
