"""Define the loss between output and target: a weighted sum of one or more terms.

Grey-value losses are active from the first step. Geometric losses compare soft phases,
``p = 1 / (1 + exp(±(x - t) / τ))``, of the output and of the target. The threshold t is
Otsu's threshold of all targets together, not of single patches, which may contain one
phase only. τ is a fraction (the *temperature*) of the difference between the means of
the two phases. At the default of 0.1, p is 0.993 or 0.007 at the mean of a phase. At a
distance of a fifth of the contrast from the threshold, the slope of p is still 0.42 of
the maximum. A lower temperature gives a harder threshold, but weaker gradients further
away from it.

Geometric losses start late, because the phases of the output are meaningless until its
grey values are roughly right. Their weights rise from zero to their full values between
two fractions of the steps; before that, these losses are not computed. Validation
always uses the full weights, so that its values are comparable throughout training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.losses.choice import (
    LossNames,
    is_geometry,
    names_in,
    parse_losses,
)
from napari_geosr.learning.losses.terms import (
    TERMS,
    GeometryScales,
    describe,
    needs_radius,
    with_radius,
)
from napari_geosr.learning.method import Batch, Losses, Method, Updater
from napari_geosr.learning.phases import GreyPhases, find_phases, widest_radius

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.sampling.patches import Patches

#: Maximum radius in voxels if the settings give none. The radius is the number of
#: erosions, and the computing time is proportional to it.
MAX_RADIUS = 10
#: Fraction of the voxels in a phase below which a warning is given.
_MIN_SHARE = 0.001
#: Minimum standard deviation of the binary phase, which corresponds to a fraction of
#: about `_MIN_SHARE`.
_MIN_DEVIATION = 0.03


def loss_help(front: str) -> str:
    """Return a help text: `front`, the names of the losses, and how to combine them."""
    return (
        f"{front}: {', '.join(describe())}; separate multiple losses with commas and "
        "add weights after colons: l1,gradient,cldice:0.3."
    )


class TargetLossConfig(TrainingConfig):
    """Settings of the loss between output and target."""

    loss: LossNames = Field("l2", title="Loss", description=loss_help("Loss"))
    phase: Literal["dark", "bright"] = Field(
        "dark",
        title="Phase",
        description="For geometric losses: the phase to compare, that is, the voxels "
        "darker or brighter than Otsu's threshold of the targets.",
    )
    temperature: float = Field(
        0.1,
        ge=0.01,
        le=1,
        title="Temperature",
        description="For geometric losses: width of the soft threshold between the "
        "phases, as a fraction of the contrast. Smaller values give a "
        "harder threshold and weaker gradients.",
    )
    ramp_from: float = Field(
        0.2,
        ge=0,
        le=1,
        title="Geometry ramp start",
        description="Fraction of the steps after which the weights of geometric losses "
        "start to rise from zero.",
    )
    ramp_to: float = Field(
        0.4,
        ge=0,
        le=1,
        title="Geometry ramp end",
        description="Fraction of the steps after which geometric losses have their "
        "full weight.",
    )
    window: int = Field(
        16,
        ge=2,
        le=256,
        title="Window",
        description="Edge length, in voxels of the target, of the boxes in which "
        "porosity and Euler number are compared.",
    )
    radius: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Radius",
        description=f"For {' and '.join(with_radius())}: largest distance from the "
        "centreline to the wall, in voxels of the target; by default "
        f"measured in the targets, at most {MAX_RADIUS}. Larger values "
        "take longer.",
    )

    @model_validator(mode="after")
    def _check_ramp(self) -> TargetLossConfig:
        if self.ramp_from > self.ramp_to:
            raise ValueError(
                f"the ramp of the geometric losses starts at {self.ramp_from:g} of "
                f"the steps, so it cannot end at {self.ramp_to:g}: set ramp_to to a "
                "larger value"
            )
        return self

    @property
    def geometry(self) -> list[str]:
        """Names of the chosen geometric losses."""
        return [name for name in names_in(self.loss) if is_geometry(name)]


def check_no_geometry_losses(config: TargetLossConfig) -> None:
    """Reject geometric losses for labels, which have no grey values.

    Raises
    ------
    ConfigError
        If geometric losses are chosen.
    """
    if config.geometry:
        raise ConfigError(
            f"{', '.join(config.geometry)}: geometric losses separate the phases by "
            "grey value, but a label target has no grey values. Remove these losses, "
            "or set the number of labels to 1."
        )


@dataclass(frozen=True)
class SoftPhase:
    """Map from standardised grey values to the membership in a phase, 0 … 1."""

    threshold: float
    #: Width of the transition in standardised grey values; negative for dark phases.
    softness: float

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.threshold) / self.softness).sigmoid()


class TargetLoss:
    """Weighted sum of the chosen losses.

    Parameters
    ----------
    config : TargetLossConfig
    """

    def __init__(self, config: TargetLossConfig) -> None:
        self.config = config
        self.weights = parse_losses(config.loss)
        self._terms: AnyDict = {name: TERMS.load(name) for name in self.weights}
        self._geometry = frozenset(config.geometry)
        self._is_one = len(names_in(config.loss)) == 1
        #: Fraction of the training steps completed, 0 … 1.
        self.progress = 0.0
        self.soft_phase: SoftPhase | None = None
        self.scales = GeometryScales(config.window, config.radius or 1)
        self._phases: GreyPhases | None = None
        self._radius: int | None = None

    def check_patch(self, edge: Sequence[int]) -> None:
        """Check that boxes fit into patches of `edge` voxels of the target.

        Raises
        ------
        ConfigError
            If they do not; the message gives the largest window that fits.
        """
        window = self.config.window
        if self.config.geometry and window > min(edge):
            size = " × ".join(map(str, edge))
            raise ConfigError(
                f"The window of {window} voxels is larger than the target patches "
                f"({size}): set --window to at most {min(edge)}, or --patch to a "
                "larger size."
            )

    def inspect(self, targets: Sequence[Volume]) -> list[str]:
        """Determine phases and widths in the targets; return warnings about them."""
        names, phase = self.config.geometry, self.config.phase
        if not names or self._phases is not None:
            return []
        found = self._phases = find_phases(targets)
        warnings = []
        if found.share(phase) < _MIN_SHARE:
            warnings.append(
                f"Only {100 * found.share(phase):.2g} % of the targets is {phase} "
                f"(Otsu's threshold {found.threshold:g}), so {', '.join(names)} will "
                "have little effect."
            )
        uses_radius = any(needs_radius(self._terms[name]) for name in names)
        if self.config.radius is None and uses_radius:
            widest = widest_radius(targets, found, phase)
            self._radius = min(widest, MAX_RADIUS)
            if widest > MAX_RADIUS:
                warnings.append(
                    f"The {phase} phase is up to {2 * widest + 1} voxels wide, but "
                    f"centrelines are found only in parts up to {2 * MAX_RADIUS + 1} "
                    "voxels wide: to include wider parts, increase --radius to up to "
                    f"{widest}, which takes longer."
                )
        return warnings

    def prepare(self, patches: Patches) -> None:
        """Set the soft phase and scales, in the grey values of the patches.

        Raises
        ------
        ConfigError
            If boxes are larger than patches.
        """
        if not self.config.geometry:
            return
        factor = patches.factors["target"]
        self.check_patch([n * factor for n in patches.edge])
        scenes = (scene.volumes for scene in patches.scenes)
        self.inspect([volumes["target"] for volumes in scenes if "target" in volumes])
        assert self._phases is not None
        found = self._phases.standardised(patches.grey["target"])
        softness = self.config.temperature * (found.bright - found.dark)
        sign = 1 if self.config.phase == "bright" else -1
        self.soft_phase = SoftPhase(found.threshold, sign * softness)
        radius = self.config.radius or self._radius or 1
        spread = math.sqrt(found.dark_share * (1 - found.dark_share))
        self.scales = GeometryScales(
            self.config.window, radius, max(spread, _MIN_DEVIATION)
        )

    def set_progress(self, loop: Updater) -> None:
        """Set the weights for the current step."""
        self.progress = loop.step / loop.steps

    def share(self, name: str, progress: float | None = None) -> float:
        """Return the ramp factor of a loss's weight, now or at another `progress`."""
        if name not in self._geometry:
            return 1.0
        done = self.progress if progress is None else progress
        start, end = self.config.ramp_from, self.config.ramp_to
        if start == end:
            return float(done >= end)
        return min(max((done - start) / (end - start), 0.0), 1.0)

    def __call__(
        self, output: Tensor, target: Tensor, progress: float | None = None
    ) -> tuple[Tensor, Losses]:
        """Return the weighted sum and, if there are several losses, each of them.

        Parameters
        ----------
        output, target : Tensor of shape (N, 1, [Z,] Y, X)
            In standard deviations of the training data.
        progress : float, optional
            Fraction of the steps done; by default the current one.

        Returns
        -------
        total : Tensor
        losses : dict of str to Tensor
            Unweighted losses, without those that are not active yet.
        """
        import torch

        shares = {name: self.share(name, progress) for name in self.weights}
        counted = {name: share for name, share in shares.items() if share}
        maps: Sequence[Tensor] = ()
        if self._geometry & counted.keys():
            maps = self._maps(output, target)
        parts: Losses = {}
        for name in counted:
            loss = self._terms[name].loss
            if name not in self._geometry:
                parts[name] = loss(output, target)
                continue
            # Compute in full precision, even if the network uses mixed precision.
            with torch.autocast(output.device.type, enabled=False):
                parts[name] = loss(*maps, self.scales)
        weighted = [counted[n] * self.weights[n] * part for n, part in parts.items()]
        total = weighted[0]
        for part in weighted[1:]:
            total = total + part
        return total, {} if self._is_one else parts

    def _maps(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        assert self.soft_phase is not None, "prepare() was not called"
        dtype = torch.promote_types(output.dtype, torch.float32)
        with torch.autocast(output.device.type, enabled=False):
            phase = self.soft_phase(output.to(dtype))
            return phase, self.soft_phase(target.detach().to(dtype))


class TargetLossMethod(Method):
    """A method with a ``target_loss`` between its output and the target."""

    config: TargetLossConfig

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.target_loss = TargetLoss(self.config)

    def check_window(self) -> None:
        """Check that comparison boxes fit into patches.

        Raises
        ------
        ConfigError
            If they do not; the message gives the largest window that fits.
        """
        edge = self.config.patch * self.upscale_factor
        self.target_loss.check_patch((edge,) * self.config.ndim)

    def inspect(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Also warn about rare or very wide phases."""
        return [*super().inspect(volumes), *self.target_loss.inspect(volumes["target"])]

    def prepare(self, patches: Patches) -> None:
        """Find the phases of the targets, if a loss compares them."""
        super().prepare(patches)
        self.target_loss.prepare(patches)

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """Take one step with the loss weights of that step."""
        self.target_loss.set_progress(loop)
        return super().train_step(loop, batches)
