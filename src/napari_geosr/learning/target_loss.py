"""Loss between output and target, one or several: used by methods.

Losses of grey values count from the first step. Those of geometry compare two soft
phases, ``p = 1 / (1 + exp(±(x - t) / τ))`` of the output and of the target. The
threshold t is Otsu's, over the grey values of all targets together and never of a
patch, which may have one phase alone; τ is a share (the *temperature*) of the
difference between the means of the two phases. At the usual 0.1 the middle of a phase
has 0.993 or 0.007, and a voxel that is a fifth of the contrast from the threshold still
has 0.42 of the slope: a lower temperature is nearer to hard voxels, and sees less of
what it could move.

They begin late: as long as grey values are coarse the phases of the output are noise.
Their weights rise from nothing to full between two shares of the steps, before which
they are not computed. Validation has the full weights at all times, so its curve is one
measure all along.
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
from napari_geosr.learning.phases import GreyPhases, phases_of, widest_radius

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.patches import Patches

#: Erosions at most where the config names none; each costs as much as the first.
MOST_RADIUS = 10
#: Less of a phase is none, in words to people; and the spread of about as much.
_LEAST_SHARE, _LEAST_SPREAD = 0.001, 0.03


def about_losses(front: str) -> str:
    """Help of a field: `front`, then which losses there are and how to write them."""
    return (
        f"{front}: {', '.join(describe())}; separate several by commas, with weights "
        "after colons: l1,gradient,cldice:0.3."
    )


class TargetLossConfig(TrainingConfig):
    """Settings of the loss between output and target."""

    loss: LossNames = Field("l2", title="Loss", description=about_losses("Loss"))
    phase: Literal["dark", "bright"] = Field(
        "dark",
        title="Phase",
        description="Phase whose geometry is compared (by losses that compare "
        "geometry): what is darker or brighter than Otsu's threshold of the targets.",
    )
    temperature: float = Field(
        0.1,
        ge=0.01,
        le=1,
        title="Temperature",
        description="For geometry losses: width of the soft threshold between the "
        "phases, as a fraction of the contrast. Smaller values make a harder "
        "threshold with weaker gradients.",
    )
    ramp_from: float = Field(
        0.2,
        ge=0,
        le=1,
        title="Geometry from",
        description="Fraction of the training after which geometry losses start to "
        "count.",
    )
    ramp_to: float = Field(
        0.4,
        ge=0,
        le=1,
        title="Geometry in full",
        description="Fraction of the training after which geometry losses have their "
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
        description="Voxels of the target from the centre line to the wall of the "
        f"widest parts that {' and '.join(with_radius())} look at; by default that of "
        f"the targets, at most {MOST_RADIUS}. Time grows with it.",
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


def refuse_on_labels(config: TargetLossConfig) -> None:
    """Refuse geometric losses for labels, which have no grey values.

    Raises
    ------
    ConfigError
        With their names.
    """
    if config.geometry:
        raise ConfigError(
            f"{', '.join(config.geometry)}: geometric losses find the phases in grey "
            "values, and a label target has none. Remove them, or set labels to 1."
        )


@dataclass(frozen=True)
class SoftPhase:
    """From standardised grey values to how much each voxel is of the phase, 0 … 1."""

    threshold: float
    #: In standardised grey values; below 0 for dark phases.
    softness: float

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.threshold) / self.softness).sigmoid()


class TargetLoss:
    """Weighted sum of the losses of a config.

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
        #: Done of all steps, 0 … 1.
        self.progress = 0.0
        self.soft_phase: SoftPhase | None = None
        self.scales = GeometryScales(config.window, config.radius or 1)
        self._phases: GreyPhases | None = None
        self._radius: int | None = None

    def check_patch(self, edge: Sequence[int]) -> None:
        """Refuse boxes larger than patches of `edge` voxels of the target.

        Raises
        ------
        ConfigError
            With the largest window that fits.
        """
        window = self.config.window
        if self.config.geometry and window > min(edge):
            size = " × ".join(map(str, edge))
            raise ConfigError(
                f"The window of {window} voxels is larger than the target patches "
                f"({size}): set --window to at most {min(edge)}, or --patch to a "
                "larger size."
            )

    def look(self, targets: Sequence[Volume]) -> list[str]:
        """Find phases and widths in the targets, and warn about unusual ones."""
        names, phase = self.config.geometry, self.config.phase
        if not names or self._phases is not None:
            return []
        found = self._phases = phases_of(targets)
        said = []
        if found.share(phase) < _LEAST_SHARE:
            said.append(
                f"Only {100 * found.share(phase):.2g} % of the targets is {phase} "
                f"(Otsu's threshold {found.threshold:g}), so {', '.join(names)} will "
                "have little effect."
            )
        lines = any(needs_radius(self._terms[name]) for name in names)
        if self.config.radius is None and lines:
            widest = widest_radius(targets, found, phase)
            self._radius = min(widest, MOST_RADIUS)
            if widest > MOST_RADIUS:
                said.append(
                    f"The {phase} phase is up to {2 * widest + 1} voxels wide, but "
                    "centre lines are found only in parts up to "
                    f"{2 * MOST_RADIUS + 1} voxels wide: for wider ones set --radius "
                    f"to as much as {widest}, which takes longer."
                )
        return said

    def prepare(self, patches: Patches) -> None:
        """Set the phases, in the grey values of patches.

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
        self.look([volumes["target"] for volumes in scenes if "target" in volumes])
        assert self._phases is not None
        found = self._phases.standardised(patches.grey["target"])
        softness = self.config.temperature * (found.bright - found.dark)
        sign = 1 if self.config.phase == "bright" else -1
        self.soft_phase = SoftPhase(found.threshold, sign * softness)
        radius = self.config.radius or self._radius or 1
        spread = math.sqrt(found.dark_share * (1 - found.dark_share))
        self.scales = GeometryScales(
            self.config.window, radius, max(spread, _LEAST_SPREAD)
        )

    def go_to(self, loop: Updater) -> None:
        """Set the weights for the current step."""
        self.progress = loop.step / loop.steps

    def share(self, name: str, progress: float | None = None) -> float:
        """Share of its weight that a loss has, 0 … 1, now or at another `progress`."""
        if name not in self._geometry:
            return 1.0
        done = self.progress if progress is None else progress
        begin, end = self.config.ramp_from, self.config.ramp_to
        if begin == end:
            return float(done >= end)
        return min(max((done - begin) / (end - begin), 0.0), 1.0)

    def __call__(
        self, output: Tensor, target: Tensor, progress: float | None = None
    ) -> tuple[Tensor, Losses]:
        """The weighted sum, and each loss where there are several.

        Parameters
        ----------
        output, target : Tensor of shape (N, 1, [Z,] Y, X)
            In standard deviations of the training data.
        progress : float, optional
            Done of all steps; by default as far as the training is.

        Returns
        -------
        total : Tensor
        losses : dict of str to Tensor
            Without their weights; those that do not count yet are not there.
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
            # In all digits, also where the network has fewer.
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
        """Refuse comparison boxes that are larger than patches.

        Raises
        ------
        ConfigError
            With the largest that fits.
        """
        edge = self.config.patch * self.upscale_factor
        self.target_loss.check_patch((edge,) * self.config.ndim)

    def look(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Also warn about rare or very wide phases."""
        return [*super().look(volumes), *self.target_loss.look(volumes["target"])]

    def prepare(self, patches: Patches) -> None:
        """Find the phases of the targets, if a loss compares them."""
        super().prepare(patches)
        self.target_loss.prepare(patches)

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """One step with the loss weights of that step."""
        self.target_loss.go_to(loop)
        return super().train_step(loop, batches)
