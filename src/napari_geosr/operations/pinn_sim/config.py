"""Settings and job of ``train pinn-sim``.

This module does not import torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.operations.inputs import COMMAS, InputConfig
from napari_geosr.operations.sim import FramesConfig, SimConfig, open_frames
from napari_geosr.operations.sim.config import (
    ComputeDevice,
    Iterations,
    NetworkSteps,
    NetworkWidth,
    PatternsAfter,
    Recipe,
    TotalVariation,
    UpscaleFactor,
)
from napari_geosr.operations.sim.inputs import transfer_function
from napari_geosr.operations.sim.memory import most_harmonics, require_network_memory
from napari_geosr.operations.train.checks import check_country
from napari_geosr.operations.train.object_fit import ObjectFitConfig

OPERATION = "pinn-sim"
PURPOSE = "Reconstruct SIM frames"
NEEDS = (
    "only raw structured-illumination frames; reconstructs them and any additional "
    "stacks, but saves no model"
)
#: Maximum relative difference in pixel size, aperture or wavelength at which optics
#: count as equal.
_SAME = 0.01
#: Settings that do not affect the values of a fit, and `frames`, which is compared by
#: content.
_INDECISIVE = (
    "name",
    "frames",
    "apply_to",
    "checkpoint_seconds",
    "country",
    "threads",
    "memory",
    "device",
)


class PinnSimConfig(ObjectFitConfig, FramesConfig):
    """Settings of a network that is fitted to raw frames, then applied to others."""

    name: str = Field(
        "sim",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        title="Name",
        description="File name of the result: letters, digits, dots, - and _.",
    )
    frames: Path | None = Field(
        None,
        title="Frames",
        description="Raw frames to which the network is fitted.",
    )
    apply_to: Annotated[tuple[Path, ...], COMMAS] = Field(
        (),
        title="Apply to",
        description="Additional stacks with the same optics, separated by commas. The "
        "fitted network reconstructs them as well.",
    )
    refine_steps: int = Field(
        20,
        ge=0,
        le=100_000,
        title="Refining steps",
        description="Number of training steps for each further plane or stack, "
        "starting from the fitted network.",
    )
    upscale_factor: UpscaleFactor = 2
    iterations: Iterations = None
    tv: TotalVariation = 0.0
    recipe: Recipe = "refine"
    steps: NetworkSteps = 200
    features: NetworkWidth = 16
    patterns_after: PatternsAfter = 200
    learning_rate: float = Field(
        1e-3,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )
    memory: MemoryBudget = None
    device: ComputeDevice = "auto"

    @field_validator("apply_to", mode="before")
    @classmethod
    def _read_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def reconstruction(self) -> SimConfig:
        """Convert the settings to those of a reconstruction."""
        shared = SimConfig.model_fields.keys() & type(self).model_fields.keys()
        values = {name: getattr(self, name) for name in shared}
        return SimConfig.create(method="pinn", checks=False, **values)

    def decisive(self) -> AnyDict:
        """Return all settings that determine the result of a fit, without the frames.

        Files are represented by their checksums.
        """
        values = self.model_dump(mode="json", exclude=set(_INDECISIVE))
        for name, path in (("psf", self.psf), ("patterns", self.patterns)):
            if path is not None and path.is_file():
                values[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return values

    def stacks(self) -> tuple[Path, ...]:
        """Return all files, starting with the one to which the network is fitted."""
        return () if self.frames is None else (self.frames, *self.apply_to)

    def file_names(self) -> tuple[str, ...]:
        """Return the names of the results, in the order of `stacks`, without suffix."""
        names = [self.name]
        for path in self.apply_to:
            base = f"{self.name}_{path.name.split('.')[0]}"
            number = sum(n == base or n.startswith(f"{base}-") for n in names)
            names.append(f"{base}-{number + 1}" if number else base)
        return tuple(names)


class PinnSimJob(Config):
    """Everything that a fit to raw frames needs, on this or another computer."""

    training: PinnSimConfig
    reading: InputConfig = InputConfig()

    @classmethod
    def from_values(cls, values: AnyMapping) -> PinnSimJob:
        """Validate the contents of ``config.yaml``."""
        made = PinnSimConfig.from_mapping(values.get("training") or {})
        paths = tuple(path.expanduser().resolve() for path in made.apply_to)
        training = made.with_absolute_paths().model_copy(update={"apply_to": paths})
        reading = InputConfig.from_mapping(values.get("reading") or {})
        return cls(training=training, reading=reading)

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": OPERATION,
            "training": self.training.model_dump(mode="json"),
            "reading": self.reading.model_dump(mode="json", exclude_defaults=True),
        }

    def check(self) -> None:
        """Refuse invalid settings before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        check_country(self.training.country)
        for frames in self.open():
            # The free memory matters only where the network is fitted.
            if self.training.memory is not None:
                require_memory(frames, self.training, "cpu")

    def open(self) -> list[SimFrames]:
        """Open all stacks lazily, starting with the one to which the network is fitted.

        Raises
        ------
        GeoSRError
            If a stack cannot be opened, or its optics differ from those of the first.
        """
        config = self.training
        if config.frames is None:
            raise ConfigError("Give the raw frames to reconstruct (--frames).")
        opened = [open_frames(path, config, self.reading) for path in config.stacks()]
        for frames in opened:
            transfer_function(frames, config)
            check_same_optics(opened[0], frames)
        return opened


def require_memory(frames: SimFrames, config: PinnSimConfig, device: str) -> None:
    """Refuse frames for which the network does not fit into memory.

    Raises
    ------
    DeviceMemoryError
        If the network needs more than the budget.
    """
    n_frames = frames.angles * frames.phases
    terms = 1 + 2 * most_harmonics(config, frames.phases) * frames.angles
    # Given patterns may be images, which need a term for each frame.
    if config.patterns is not None:
        terms = max(terms, n_frames)
    require_network_memory(
        frames.plane_shape,
        n_frames,
        terms,
        transfer_function(frames, config),
        config.reconstruction(),
        device,
    )


def check_same_optics(first: SimFrames, other: SimFrames) -> None:
    """Refuse a stack with optics other than those for which the network was fitted.

    Raises
    ------
    ConfigError
        If the number of frames, the pixel size, the numerical aperture or the
        wavelength differ.
    """
    counts = [(f.angles, f.phases) for f in (first, other)]
    if counts[0] != counts[1]:
        (a, p), (b, q) = counts
        raise ConfigError(
            f"{other.volume.title} has {b} angles × {q} phases, but the network is "
            f"fitted to {a} × {p}. Apply it only to stacks acquired in the same way."
        )
    for what, values in (
        ("pixel size", [(f.pixel_size,) for f in (first, other)]),
        ("numerical aperture", [_known(f) for f in (first, other)]),
        ("wavelength", [tuple(f.optics.wavelengths) for f in (first, other)]),
    ):
        one, two = values
        differ = len(one) != len(two) or any(
            abs(a - b) > _SAME * abs(a) for a, b in zip(one, two, strict=True)
        )
        if differ:
            raise ConfigError(
                f"{other.volume.title} has a different {what} ({_numbers(two)} "
                f"instead of {_numbers(one)}), so the network is not valid for it. "
                "Apply it only to stacks from the same microscope."
            )


def _known(frames: SimFrames) -> tuple[float, ...]:
    aperture = frames.optics.numerical_aperture
    return () if aperture is None else (aperture,)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values) or "none"
