"""Fit a network to raw frames of structured illumination, without training data.

The network computes the object from the frames; a physical model simulates frames of
this object, and the difference from the recorded frames is minimised [1]_. No other
data are used. The recipe ``published`` is that of the paper: the network receives only
the frames, and the loss is 1 minus the structural similarity of simulated and recorded
frames. With ``refine``, the network corrects a joint Richardson–Lucy reconstruction:
its last layer is initialised with zeros, so that the fit starts there; the loss is the
squared residual in units of the noise, with smaller contributions from structural
similarity and total variation. After a given number of steps, wave vectors, phases and
modulation can be fitted as well.

References
----------
.. [1] Burns and Liu. Untrained, physics-informed neural networks for structured
   illumination microscopy. Opt. Express 31, 8714-8728 (2023). doi:10.1364/OE.476781
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_geosr.core.errors import TrainingError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.types import AnyDict
from napari_geosr.learning.losses.pixel import structural_similarity
from napari_geosr.networks import build_network
from napari_geosr.physics.illumination import IlluminationOperator

Recipe = Literal["refine", "published"]

#: Sharpness of the softplus, for grey values of about 0 … 1.
_SOFTPLUS_BETA = 20.0
#: Initial grey value of the recipe ``published``. The paper clips the output to 0 … 1,
#: and there are no gradients outside this range, so that some fits with other initial
#: values make no progress.
_START = 0.3
#: Number of halvings of the image size in the U-Net.
_LEVELS = 3
#: Factor by which the learning rate is multiplied every `_DECAY_STEPS` steps.
_DECAY = 0.9
#: Number of steps between two reductions of the learning rate.
_DECAY_STEPS = 50
#: Increase of the loss of ``published`` that shows that the fit has collapsed. (The
#: loss is 1 minus the structural similarity; good fits fluctuate by up to 0.15.)
_COLLAPSE = 0.3
#: Number of steps between two copies of the state to which a collapsed fit goes back.
_COPY_STEPS = 20
#: Learning rate of the corrections of the patterns, in their units.
_FRINGE_RATE = 2e-3
#: Weight of the structural similarity in the loss.
_SIMILARITY = 0.1
#: Weight of the total variation in the loss.
_VARIATION = 1e-3


@dataclass(frozen=True)
class FrameFitSettings:
    """Settings of a fit of a network to frames.

    Attributes
    ----------
    recipe : {"refine", "published"}
    learning_rate : float
        Initial learning rate (Adam); it falls by 10 % every 50 steps.
    features : int
        Number of feature maps at full resolution.
    seed : int
    patterns_after : int or None
        Step after which given patterns are fitted as well; None if they are fixed.
    """

    recipe: Recipe = "refine"
    learning_rate: float = 1e-3
    features: int = 16
    seed: int = 0
    patterns_after: int | None = None


class FittedFringes(nn.Module):
    """Corrections to fringe patterns, as parameters of an optimiser.

    Parameters
    ----------
    patterns : PatternSet
        Patterns of fringes; the corrections are initially zero.
    operator : IlluminationOperator
        Operator of these patterns.
    """

    def __init__(self, patterns: PatternSet, operator: IlluminationOperator) -> None:
        super().__init__()
        self.patterns, self.fixed = patterns, operator
        like = operator.basis
        fringes = patterns.fringes
        #: Corrections of the wave vectors (cycles per field of view), the phases
        #: (radians) and the amplitudes (natural logarithms).
        self.cycles = nn.Parameter(like.new_zeros(len(fringes), 2))
        self.phases = nn.Parameter(like.new_zeros(len(fringes), len(fringes[0].phases)))
        self.modulation = nn.Parameter(like.new_zeros(len(fringes), patterns.harmonics))
        y, x = operator.grid.positions()
        self.y, self.x = (like.new_tensor(values) for values in (y, x))

    def operator(self) -> IlluminationOperator:
        """Return the corrected operator, through which gradients pass."""
        basis, rows = [self.fixed.basis[:1]], list[Tensor]()
        ny, nx = self.patterns.shape
        n_terms = len(self.fixed.basis)
        column = 1
        for i, fringe in enumerate(self.patterns.fringes):
            turn = self.cycles[i, 0] * (2 * math.pi / ny) * self.y
            turn = turn + self.cycles[i, 1] * (2 * math.pi / nx) * self.x
            weights = self.fixed.mixing[len(rows) : len(rows) + len(fringe.phases)]
            new = [weights[:, :1]]
            for h in range(1, fringe.harmonics + 1):
                at = column + 2 * (h - 1)
                real, imaginary = self.fixed.basis[at], self.fixed.basis[at + 1]
                cos, sin = torch.cos(h * turn), torch.sin(h * turn)
                basis.append(
                    torch.stack(
                        [real * cos - imaginary * sin, real * sin + imaginary * cos]
                    )
                )
                c, s = torch.cos(h * self.phases[i]), torch.sin(h * self.phases[i])
                factor = self.modulation[i, h - 1].exp()
                a, b = weights[:, at], weights[:, at + 1]
                # a = m cos(hφ) and b = -m sin(hφ), rotated by the correction of φ.
                new += [factor * (a * c + b * s), factor * (b * c - a * s)]
            after = n_terms - column - 2 * fringe.harmonics
            zeros = weights.new_zeros(len(weights), column - 1)
            columns = [new[0], zeros, *(each.reshape(-1, 1) for each in new[1:])]
            columns.append(weights.new_zeros(len(weights), after))
            rows += list(torch.cat(columns, dim=1))
            column += 2 * fringe.harmonics
        return IlluminationOperator(
            self.fixed.grid, torch.cat(basis), torch.stack(rows), self.fixed.transfer
        )

    @torch.no_grad()
    def corrected(self, patterns: PatternSet) -> PatternSet:
        """Return other patterns of the same microscope with these corrections applied.

        Parameters
        ----------
        patterns : PatternSet
            Patterns for the same field of view.
        """
        fringes = []
        for i, fringe in enumerate(patterns.fringes):
            moved = self.cycles[i].tolist()
            shape = self.patterns.shape
            k = [
                v + m / n
                for v, m, n in zip(fringe.wave_vector, moved, shape, strict=True)
            ]
            phases = np.add(fringe.phases, self.phases[i].tolist())
            factors = self.modulation[i].exp().tolist()[: fringe.harmonics]
            fringes.append(
                replace(
                    fringe,
                    wave_vector=(k[0], k[1]),
                    phases=tuple(float(p) for p in phases),
                    modulation=tuple(np.multiply(fringe.modulation, factors).tolist()),
                )
            )
        return replace(patterns, fringes=tuple(fringes))


class FrameFit:
    """Fit of an object to frames, step by step.

    Parameters
    ----------
    operator : IlluminationOperator
    frames : Tensor of shape (frames, Y, X)
        Grey values with the offset subtracted.
    start : Tensor of shape (fine rows, fine columns)
        Joint Richardson–Lucy reconstruction on the operator's grid.
    variance : Tensor of shape (Y, X)
        Variance of the noise at each pixel of a frame.
    settings : FrameFitSettings
    patterns : PatternSet, optional
        Patterns of the operator, which are fitted as well if the settings request it.

    Attributes
    ----------
    fringes : FittedFringes or None
        Corrections to the patterns; None if they are fixed.
    iteration : int
        Number of steps done.
    loss : float
        Loss of the last step.
    collapses : int
        Number of times that the fit collapsed. Each halves the learning rate.
    """

    def __init__(
        self,
        operator: IlluminationOperator,
        frames: Tensor,
        start: Tensor,
        variance: Tensor,
        settings: FrameFitSettings,
        patterns: PatternSet | None = None,
    ) -> None:
        self.operator, self.frames, self.settings = operator, frames, settings
        self.weight = 1 / variance
        #: Grey value that corresponds to 1 in the network.
        self.scale = float(torch.quantile(start.flatten()[::7].float(), 0.999)) or 1.0
        self.start = start / self.scale
        self.inputs = self._inputs()
        torch.manual_seed(settings.seed)
        self.network = build_network(
            "unet",
            ndim=2,
            adjacent_slices=1,
            extra_channels=self.inputs.shape[1] - 1,
            levels=_LEVELS,
            features=settings.features,
            residual=False,
            batch_norm=False,
        ).to(frames.device)
        head = self.network.get_submodule("head")
        with torch.no_grad():
            if settings.recipe == "refine":
                for parameter in head.parameters():
                    parameter.zero_()
            else:
                head.get_parameter("bias").fill_(_START)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), settings.learning_rate
        )
        self.fringes: FittedFringes | None = None
        if settings.patterns_after is not None and patterns and patterns.fringes:
            self.fringes = FittedFringes(patterns, operator)
            self.fringe_optimiser = torch.optim.Adam(
                self.fringes.parameters(), _FRINGE_RATE
            )
        self.iteration, self.loss, self.collapses = 0, 0.0, 0
        #: State to which a collapsed fit goes back, and the lowest loss before it.
        self._copy, self._lowest = self._fresh_copy(), math.inf

    def _inputs(self) -> Tensor:
        """Return frames on the fine grid and, for ``refine``, the initial object."""
        rows, columns = self.operator.grid.inside
        height, width = self.operator.grid.padded
        pads = (
            columns.start,
            width - columns.stop,
            rows.start,
            height - rows.stop,
        )
        padded = functional.pad(self.frames[None], pads, mode="replicate")
        fine = functional.interpolate(
            padded, size=self.operator.grid.fine, mode="bilinear", align_corners=False
        )
        fine = fine / fine.max().clamp(min=1e-12)
        if self.settings.recipe == "published":
            return fine
        return torch.cat([fine, self.start[None, None]], dim=1)

    def image(self) -> Tensor:
        """Return the object on the fine grid, in grey values, with gradients."""
        correction = self.network(self.inputs)[0, 0]
        if self.settings.recipe == "published":
            clipped: Tensor = correction.clamp(min=0, max=1) * self.scale
            return clipped
        # The inverse of softplus, so that a correction of zero gives the initial image.
        start = self.start.clamp(min=1e-4)
        raw = start + torch.log(-torch.expm1(-_SOFTPLUS_BETA * start)) / _SOFTPLUS_BETA
        raw = raw + correction
        image: Tensor = functional.softplus(_SOFTPLUS_BETA * raw)
        return image * (self.scale / _SOFTPLUS_BETA)

    def step(self) -> float:
        """Take one step and return its loss.

        Raises
        ------
        TrainingError
            If the loss becomes NaN.
        """
        for group in self.optimiser.param_groups:
            fall = _DECAY ** (self.iteration // _DECAY_STEPS) / 2**self.collapses
            group["lr"] = self.settings.learning_rate * fall
        image = self.image()
        after = self.settings.patterns_after
        fits_fringes = after is not None and self.iteration >= after
        fringes = self.fringes if fits_fringes else None
        operator = self.operator if fringes is None else fringes.operator()
        expected = operator.forward(image)
        if self.settings.recipe == "published":
            loss = 1 - frames_similarity(expected, self.frames)
        else:
            loss = self._misfit(expected, image)
        self.iteration += 1
        self.loss = float(loss.detach())
        if self.loss != self.loss:
            raise TrainingError(
                f"The loss became NaN at step {self.iteration}. Start again with half "
                "the learning rate."
            )
        if self.settings.recipe == "published" and self._has_collapsed():
            self._load(copy.deepcopy(self._copy))
            self.collapses += 1
            return self.loss
        optimisers = [self.optimiser]
        if fringes is not None:
            optimisers.append(self.fringe_optimiser)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers:
            optimiser.step()
        return self.loss

    def _has_collapsed(self) -> bool:
        """Compare the loss with the lowest one, and keep copies of good states.

        The loss of the first steps jumps, so they do not count as collapsed.
        """
        if self.loss > self._lowest + _COLLAPSE and self.iteration > _COPY_STEPS:
            # The copy has a higher loss than some of the steps after it.
            self._lowest = self._copy.get("loss", math.inf)
            return True
        steps = self.iteration - self._copy.get("iteration", 0)
        if self.loss < self._lowest and steps >= _COPY_STEPS:
            now = {"iteration": self.iteration, "loss": self.loss}
            self._copy = self._fresh_copy() | now
        self._lowest = min(self._lowest, self.loss)
        return False

    def _misfit(self, expected: Tensor, image: Tensor) -> Tensor:
        scale = (expected * self.frames).sum() / expected.square().sum().clamp(1e-12)
        residual = (scale * expected - self.frames).square() * self.weight
        unit = image / self.scale
        rough = unit.diff(dim=0).abs().mean() + unit.diff(dim=1).abs().mean()
        similarity = frames_similarity(expected, self.frames)
        return residual.mean() + _SIMILARITY * (1 - similarity) + _VARIATION * rough

    def _operator(self) -> IlluminationOperator:
        return self.operator if self.fringes is None else self.fringes.operator()

    def start_from(self, other: AnyDict) -> None:
        """Start from the network of a fit to other frames of the same microscope.

        Parameters
        ----------
        other : dict
            Return value of `state` of the other fit.

        Raises
        ------
        TrainingError
            If the number of frames, the recipe or the width of the network differs.
        """
        try:
            self.network.load_state_dict(other["network"])
        except (KeyError, RuntimeError) as error:
            raise TrainingError(
                "The network was fitted with a different number of frames or different "
                "settings. Fit a new one."
            ) from error
        self._copy = self._fresh_copy()

    @torch.no_grad()
    def result(self) -> Tensor:
        """Return the object on the fine grid, scaled to the frames."""
        image = self.image()
        expected = self._operator().forward(image)
        energy = float(expected.square().sum())
        scale = float((expected * self.frames).sum()) / energy if energy else 1.0
        return image * scale

    @torch.no_grad()
    def held_out_misfit(self, frames: Tensor, variance: Tensor) -> float:
        """Return the mean squared residual of held-out frames, relative to `variance`.

        Parameters
        ----------
        frames : Tensor of shape (frames, Y, X)
        variance : Tensor of shape (Y, X)
        """
        expected = self._operator().forward(self.result())
        return float(((expected - frames).square() / variance).mean())

    def state(self) -> AnyDict:
        """Return the state from which the fit can be resumed."""
        return {
            "iteration": self.iteration,
            "loss": self.loss,
            "collapses": self.collapses,
            "copy": self._copy,
            "lowest": self._lowest,
            **self._fitted(),
        }

    def _fitted(self) -> AnyDict:
        """Return the states of the fitted parts and of their optimisers."""
        state: AnyDict = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        if self.fringes is not None:
            state["fringes"] = self.fringes.state_dict()
            state["fringe_optimiser"] = self.fringe_optimiser.state_dict()
        return state

    def _fresh_copy(self) -> AnyDict:
        """Return a copy of the current state; ``refine`` needs none."""
        is_used = self.settings.recipe == "published"
        return copy.deepcopy(self._fitted()) if is_used else {}

    def _load(self, state: AnyDict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.fringes is not None:
            self.fringes.load_state_dict(state["fringes"])
            self.fringe_optimiser.load_state_dict(state["fringe_optimiser"])

    def restore(self, state: AnyDict) -> None:
        """Load a state returned by `state`.

        Raises
        ------
        TrainingError
            If the state belongs to other settings.
        """
        try:
            self._load(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                "The checkpoint belongs to different settings or frames. Start again "
                "in another folder."
            ) from error
        self.iteration, self.loss = int(state["iteration"]), float(state["loss"])
        # Older checkpoints have no copy.
        self.collapses = int(state.get("collapses", 0))
        self._lowest = float(state.get("lowest", self.loss))
        kept = state.get("copy", {})
        self._copy = copy.deepcopy(kept) if kept else self._fresh_copy()


def frames_similarity(expected: Tensor, frames: Tensor) -> Tensor:
    """Return the mean structural similarity of two stacks of frames.

    Parameters
    ----------
    expected, frames : Tensor of shape (frames, Y, X)
        Each stack is scaled to 0 … 1 by the extreme values of all its frames.
    """
    low, high = expected.amin(), expected.amax()
    simulated = (expected - low) / (high - low).clamp(min=1e-12)
    measured = frames - frames.amin()
    measured = measured / measured.amax().clamp(min=1e-12)
    return structural_similarity(simulated[:, None], measured[:, None], data_range=1.0)
