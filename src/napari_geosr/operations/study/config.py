"""Settings of studies of the number of projections, and of labelled slices.

This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.types import AnyDict
from napari_geosr.models.names import MODEL_NAME
from napari_geosr.operations.inputs import COMMAS, parse_numbers
from napari_geosr.operations.reconstruct.inputs import AxisColumn
from napari_geosr.operations.study.algorithms import algorithm_names, checked_options
from napari_geosr.operations.train.scans import CountsPerPhoton, Parts
from napari_geosr.tomography.filters import FilterName
from napari_geosr.tomography.preparation_config import NotFinite, StripeRemoval

#: Settings that do not affect finished cells. If they change, a study can be resumed,
#: and the figures computed from its cells are updated.
_LATE_SETTINGS = (
    "counts",
    "exposure",
    "algorithms",
    "scan_hours",
    "synchrotron_kilowatts",
    "laboratory_kilowatts",
    "computer_kilowatts",
    "kilograms_per_kilowatt_hour",
    "tolerance",
    "splits",
    "device",
    "threads",
    "memory",
)


#: Minimum exposure, as a fraction; below it, an image has too few photons.
_MIN_EXPOSURE = 0.001
#: Maximum exposure, as a fraction; above it, too few photons are left for training and
#: for choosing settings.
_MAX_EXPOSURE = 0.9


#: Minimum number of default values for `counts` that must be smaller than the number of
#: projections of the scan; otherwise, fractions of that number are used instead.
_MIN_COUNTS = 3


def _variants(word: str) -> list[str]:
    """Return the algorithms that a name selects: one, or all variants of it.

    For example, ``tomogan`` selects a variant for each of its two critics.
    """
    known = algorithm_names()
    if word in known:
        return [word]
    return [name for name in known if name.startswith(f"{word}-")] or [word]


class StudyConfig(Config):
    """Settings of a study: projections, algorithms, exposures and evaluation."""

    counts: Annotated[tuple[int, ...], COMMAS] = Field(
        (50, 75, 100, 150, 250),
        title="Projections",
        description="Numbers of projections to try, such as 50,75,100,150,250.",
    )
    exposure: Annotated[tuple[float, ...], COMMAS] = Field(
        (1.0,),
        title="Exposure",
        description="Fractions of the exposure time to try, such as 1,0.3,0.1. The "
        "projections must contain counts.",
    )
    algorithms: Annotated[tuple[str, ...], COMMAS] = Field(
        ("fbp", "sirt", "tv"),
        title="Algorithms",
        description="Algorithms to compare: fbp, sirt, tv, msdnet, tomogan-js, "
        "tomogan-w, noise2inverse and others.",
    )
    acquisition: Literal["step", "continuous"] = Field(
        "step",
        title="Acquisition",
        description="How a scan with fewer projections is acquired. step: the other "
        "angles are skipped; continuous: the sample rotates through them during each "
        "exposure.",
    )
    light: Literal["one", "all"] = Field(
        "one",
        title="Photons per continuous exposure",
        description="Photons recorded in a continuous exposure. one: as many as in a "
        "single projection (a quick scan); all: as many as in all the projections it "
        "covers (a slow scan).",
    )
    counts_per_photon: CountsPerPhoton = "auto"
    threshold: Literal["otsu", "multi-otsu", "li", "triangle"] | float = Field(
        "otsu",
        title="Threshold",
        union_mode="left_to_right",
        description="Method that finds the threshold between pore and solid in each "
        "reconstruction, or a grey value.",
    )
    phase: Literal["dark", "bright"] = Field(
        "dark", title="Pores are", description="Whether pores are dark or bright."
    )
    min_voxels: int = Field(
        8,
        ge=1,
        le=10**9,
        title="Minimum pore size (voxels)",
        description="Minimum size of the pores that are counted, in voxels. Smaller "
        "pores still count towards the porosity.",
    )
    sample: Annotated[
        Literal["auto", "circle", "none"],
        Parameter(name=["--sample", "--sample-mask"]),
    ] = Field(
        "auto",
        title="Sample",
        description="Where to look for pores. auto: in an automatic sample mask of "
        "the reference; circle: in the circle covered by all projections; none: "
        "everywhere.",
    )
    tolerance: float = Field(
        0.05,
        gt=0,
        le=1,
        title="Tolerance",
        description="Largest relative error of the porosity at which a result counts "
        "as correct.",
    )
    filter: FilterName = Field(
        "ramp", title="Filter", description="Filter for filtered back-projection."
    )
    stripes: StripeRemoval = "none"
    nonfinite: NotFinite = "refuse"
    centre: AxisColumn = "auto"
    tune: bool = Field(
        True,
        title="Tune",
        description="Tune the classical algorithms by comparing their results with "
        "held-out projections.",
    )
    options: dict[str, AnyDict] = Field(
        default_factory=dict,
        title="Options",
        description="A setting of one algorithm, such as --options.tv.weight 0.1; "
        "it replaces the tuned or default value.",
    )
    steps: int = Field(
        1000,
        ge=1,
        title="Training steps",
        description="Number of training steps of each learned algorithm, for each "
        "number of projections.",
    )
    batch_size: int = Field(
        8,
        ge=1,
        le=1024,
        title="Batch",
        description="Number of patches per training step.",
    )
    patch: int = Field(
        64,
        ge=8,
        le=1024,
        title="Patch",
        description="Edge length of a training patch, in voxels.",
    )
    splits: Parts = "auto"
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Seed for training: the same seed gives the same result.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one.",
    )
    memory: MemoryBudget = None
    scan_hours: float = Field(
        1.0,
        gt=0,
        title="Scan duration (hours)",
        description="Beam time, or time in the scanner, for the complete scan, in "
        "hours.",
    )
    synchrotron_kilowatts: float = Field(
        300.0,
        ge=0,
        title="Synchrotron beamline power (kW)",
        description="Power of a synchrotron beamline in kW. Published estimate for the "
        "ESRF: 1 h of beam time uses 300 kWh, about 18 kg of CO2.",
    )
    laboratory_kilowatts: float = Field(
        5.0,
        ge=0,
        title="Laboratory scanner power (kW)",
        description="Power of a laboratory scanner in kW. Published estimate: 1 h of "
        "scanning uses 5 kWh, about 0.3 kg of CO2.",
    )
    computer_kilowatts: float = Field(
        0.3,
        ge=0,
        title="Computer power (kW)",
        description="Power of the computer in kW while it reconstructs and trains.",
    )
    kilograms_per_kilowatt_hour: float = Field(
        0.06,
        ge=0,
        title="CO2eq per kilowatt-hour (kg)",
        description="CO2-equivalent emissions per kWh of electricity, in kg. The "
        "published estimates for the ESRF and for laboratory scanners assume 0.06.",
    )

    @field_validator("counts", mode="before")
    @classmethod
    def _read_counts(cls, value: Any) -> Any:
        return parse_numbers(value, int, "50,75,100")

    @field_validator("counts")
    @classmethod
    def _check_counts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 2:
            raise ValueError("every number must be 2 or more, e.g. 50,75,100")
        return tuple(sorted(set(value)))

    @field_validator("exposure", mode="before")
    @classmethod
    def _read_exposure(cls, value: Any) -> Any:
        return parse_numbers(value, float, "1,0.3,0.1")

    @field_validator("exposure")
    @classmethod
    def _check_exposure(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(
            _MIN_EXPOSURE <= share <= _MAX_EXPOSURE or share == 1 for share in value
        ):
            raise ValueError(
                f"give fractions from {_MIN_EXPOSURE:g} to {_MAX_EXPOSURE:g} (the "
                "other photons are needed for training), or 1 for the whole exposure, "
                "with decimal points, e.g. 1,0.3,0.1"
            )
        return tuple(sorted(set(value), reverse=True))

    @field_validator("algorithms", mode="before")
    @classmethod
    def _read_algorithms(cls, value: Any) -> Any:
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            return value
        split = [w.strip() for word in words for w in str(word).split(",")]
        named = [name for word in split if word for name in _variants(word)]
        return tuple(dict.fromkeys(named))

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = algorithm_names()
        unknown = [name for name in value if name not in known]
        if unknown or not value:
            what = f"{unknown[0]!r} is unknown" if unknown else "give at least one"
            raise ValueError(f"{what}; choose from {', '.join(known)}")
        return value

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, AnyDict]) -> dict[str, AnyDict]:
        try:
            return {name: checked_options(name, value[name]) for name in value}
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def essential(self) -> AnyDict:
        """Return the settings on which finished cells depend."""
        return self.model_dump(mode="json", exclude=set(_LATE_SETTINGS))


def counts_for(n_angles: int) -> tuple[int, ...]:
    """Return suitable numbers of projections for a study of a scan.

    Parameters
    ----------
    n_angles : int
        Number of projections of the scan.

    Returns
    -------
    tuple of int
        The default numbers below `n_angles`; if there are fewer than three, an eighth,
        a quarter, a half and three quarters of `n_angles`.

    Examples
    --------
    >>> counts_for(181)
    (50, 75, 100, 150)
    >>> counts_for(60)
    (8, 15, 30, 45)
    """
    fewer = tuple(n for n in StudyConfig().counts if n < n_angles)
    if len(fewer) >= _MIN_COUNTS:
        return fewer
    parts = {max(2, round(n_angles * part)) for part in (0.125, 0.25, 0.5, 0.75)}
    return tuple(sorted(n for n in parts if n < n_angles))


class LabelsStudyConfig(Config):
    """Settings of a study of the number of labelled slices."""

    counts: Annotated[tuple[int, ...], COMMAS] = Field(
        (1, 2, 5, 10),
        title="Labelled slices",
        description="Numbers of labelled slices to try, such as 1,2,5,10.",
    )
    draws: int = Field(
        5,
        ge=2,
        le=100,
        title="Draws",
        description="Number of random selections of slices for each number of slices.",
    )
    held_out: float = Field(
        0.33,
        gt=0,
        lt=1,
        title="Held out",
        description="Fraction of the labelled slices, taken from the end of the stack, "
        "that is held out for evaluation.",
    )
    start_from: Annotated[str | None, MODEL_NAME] = Field(
        None,
        title="Start from",
        description="Pre-trained model, such as one trained by ddpm, to compare with "
        "training from scratch.",
    )
    steps: int = Field(
        1000, ge=1, title="Steps", description="Number of training steps per model."
    )
    batch_size: int = Field(
        8,
        ge=1,
        le=1024,
        title="Batch",
        description="Number of patches per training step.",
    )
    patch: int = Field(
        64,
        ge=8,
        le=1024,
        title="Patch",
        description="Edge length of a training patch, in voxels; at most the edge "
        "length of a slice.",
    )
    learning_rate: float = Field(
        1e-4,
        gt=0,
        le=1,
        title="Learning rate",
        description="Learning rate of the layers of the pre-trained model; new layers "
        "have 100 times this rate, as do all layers of a model trained from scratch.",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed for the selection of labelled slices.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    threads: int | None = Field(
        None, ge=1, title="Threads", description="CPU threads; by default one per core."
    )

    @field_validator("counts", mode="before")
    @classmethod
    def _read_label_counts(cls, value: Any) -> Any:
        return parse_numbers(value, int, "1,2,5,10")

    @field_validator("counts")
    @classmethod
    def _check_label_counts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError("give one or more numbers of slices, such as 1,2,5,10")
        return tuple(sorted(set(value)))
