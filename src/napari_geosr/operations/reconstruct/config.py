"""Settings of a reconstruction.

This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.reconstruct.inputs import AxisColumn, RowRange
from napari_geosr.tomography.algorithms import ALGORITHMS, config_class
from napari_geosr.tomography.filters import FilterName
from napari_geosr.tomography.preparation_config import PreparationConfig

#: Algorithm settings that are fields of the reconstruction config itself.
SHARED_SETTINGS = ("filter", "iterations", "nonnegative")


FullTurn = Annotated[
    Literal["auto", "join", "keep"],
    Field(
        title="Full-turn scans",
        description="For scans over 360 degrees. join: stitch opposite views, for a "
        "rotation axis near the edge of the detector; keep: use the views as they "
        "are; auto: join if the axis is off centre.",
    ),
]


class SliceConfig(Config):
    """Selection of slices, and settings for their reconstruction."""

    # The alias exists because other commands, such as `train` and `study`, call the
    # corresponding choice a method.
    algorithm: Annotated[str, Parameter(alias="--method")] = Field(
        "fbp",
        title="Algorithm",
        description="Reconstruction algorithm. fbp (fdk for cone beams) is fast; the "
        "iterative algorithms sirt, cgls and tv give better results from few "
        "projections.",
    )
    filter: FilterName | None = Field(
        None,
        title="Filter",
        description="Filter of fbp and fdk: ramp is the sharpest, hann the smoothest.",
    )
    iterations: int | None = Field(
        None,
        ge=1,
        le=100_000,
        title="Iterations",
        description="Number of iterations (sirt, cgls and tv); by default a number "
        "that suits the algorithm.",
    )
    nonnegative: bool | None = Field(
        None,
        title="Non-negative",
        description="Set negative attenuation to zero; the default depends on the "
        "algorithm.",
    )
    options: Annotated[
        AnyDict, Parameter(negative="", accepts_keys=True, show=False)
    ] = Field(
        default_factory=dict,
        title="Algorithm options",
        description="Additional algorithm settings, such as the weight of tv.",
    )
    centre: AxisColumn = "auto"
    every: int = Field(
        1,
        ge=1,
        title="Use every",
        description="Use only every n-th projection, as if fewer had been recorded.",
        json_schema_extra={"unset": "projection"},
    )
    half: Literal["all", "odd", "even"] = Field(
        "all",
        title="Half of the projections",
        description="odd, even: use only every other projection. The volumes of both "
        "halves have independent noise, as Fourier shell correlation requires. The "
        "rotation axis is determined from all projections.",
    )
    rows: RowRange = None
    size: int | None = Field(
        None,
        ge=2,
        le=100_000,
        title="Slice size",
        description="Edge length of the slices in voxels; by default the number of "
        "detector columns. Slices are centred on the rotation axis.",
    )
    full_turn: FullTurn = "auto"
    engine: Literal["own", "astra"] = Field(
        "own",
        title="Engine",
        description="astra uses the ASTRA Toolbox, if installed, for fbp, sirt and "
        "cgls. It is fast on CUDA GPUs but not on CPUs.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    memory: MemoryBudget = None
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one.",
    )


class ReconstructFields(PreparationConfig, SliceConfig):
    """Fields of `ReconstructConfig`, without the check that they suit the algorithm.

    Command-line options use them, because a settings file may name the algorithm.
    """


class ReconstructConfig(ReconstructFields):
    """All settings for reconstructing a volume from the projections of a scan."""

    @model_validator(mode="after")
    def _check_algorithm(self) -> ReconstructConfig:
        self.algorithm_config()
        return self

    def algorithm_config(self) -> Config:
        """Return the settings of the algorithm, as defined by its module.

        Raises
        ------
        ConfigError
            If there is no such algorithm, or it has no such setting.
        """
        kind = config_class(self.algorithm)
        given = dict(self.options)
        for name in SHARED_SETTINGS:
            if getattr(self, name) is not None:
                given[name] = getattr(self, name)
        for name in given:
            if name not in kind.model_fields:
                able = [n for n in ALGORITHMS.names() if name in _fields_of(n)]
                remedy = f" It is a setting of {', '.join(able)}." if able else ""
                raise ConfigError(
                    f"The algorithm {self.algorithm} has no setting {name!r}.{remedy} "
                    f"Its settings: {', '.join(kind.model_fields)}."
                )
        return kind.create(**given)

    def preparation(self) -> PreparationConfig:
        """Return the settings for converting counts to line integrals."""
        names = set(PreparationConfig.model_fields)
        return PreparationConfig(**self.model_dump(include=names))


def _fields_of(algorithm: str) -> AnyDict:
    return dict(config_class(algorithm).model_fields)


def algorithm_options() -> dict[str, tuple[Any, str, str]]:
    """Return type, title and help of the algorithm-specific settings, by name.

    The settings of third-party algorithms are included, but not `SHARED_SETTINGS`.
    """
    found: dict[str, tuple[Any, str, str]] = {}
    users: dict[str, list[str]] = {}
    for algorithm in ALGORITHMS.names():
        for name, field in _fields_of(algorithm).items():
            if name in SHARED_SETTINGS:
                continue
            users.setdefault(name, []).append(algorithm)
            help_ = (field.description or "").rstrip(".")
            found.setdefault(name, (field.annotation, field.title or name, help_))
    return {
        name: (kind, title, f"{help_} ({', '.join(users[name])}).")
        for name, (kind, title, help_) in found.items()
    }


#: Fast algorithms, listed first for new users.
_QUICK = ("fbp", "fdk")


def algorithms_for(beam: str) -> dict[str, str]:
    """Return the titles of the algorithms for a type of beam, by algorithm name.

    Parameters
    ----------
    beam : str
        ``"parallel"``, ``"fan"`` or ``"cone"``.
    """
    loaded = {name: ALGORITHMS.load(name) for name in ALGORITHMS.names()}
    able = [name for name, module in loaded.items() if beam in module.BEAMS]
    ordered = sorted(able, key=lambda name: (name not in _QUICK, name))
    return {name: str(loaded[name].TITLE) for name in ordered}


def settings_of(algorithm: str) -> type[Config]:
    """Return the config class of an algorithm.

    Raises
    ------
    ConfigError
        If there is no such algorithm.
    """
    return config_class(algorithm)
