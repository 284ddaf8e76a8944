"""The model card: what a model is for, what it was trained on, how good it is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.vocabulary import Modality, Task

#: Of the card's layout; a card of a later version is refused.
SCHEMA_VERSION = 1
#: Names of models.
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
#: Percentiles kept of the intensities of training volumes.
QUANTILE_LEVELS = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)


class SpreadCalibration(Config):
    """Number of standard deviations of the porosity band.

    For each of a number of simulated scans, the smallest factor was found with which
    the band holds the known porosity; `factor` is their quantile of split conformal
    prediction [1]_: of another scan *of the same kind* the band holds the porosity with
    at least the nominal probability.

    References
    ----------
    .. [1] Lei et al. Distribution-free predictive inference for regression. J. Am.
       Stat. Assoc. 113, 1094-1111 (2018). doi:10.1080/01621459.2017.1307116
    """

    kind: str = "tta"
    """Of members that the standard deviation is taken over."""
    members: int = Field(8, ge=2)
    """How many they were."""
    factor: float = Field(gt=0)
    """Standard deviations that the band reaches to either side."""
    nominal: float = Field(0.9, gt=0, lt=1)
    """Share of scans whose porosity the band holds."""
    scans: int = Field(ge=1)
    """Simulated scans that the factor comes from."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Checksum of the weights that it was measured with."""
    description: str = ""
    """Which scans, in plain words."""


class Normalisation(Config):
    """How grey values are scaled for the network."""

    kind: Literal["standardise", "stored", "unit", "percentiles"] = "standardise"
    """``(x - mean) / std`` with the statistics of the whole input volume, and the
    output scaled back the same way; or, stored, with those of the training data. Unit:
    to 0 … 1 (bytes by 255, values within 0 … 1 as they are, others from lowest to
    highest); percentiles: two of the whole input volume to 0 and 1. Labels are not
    scaled."""
    mean: float | None = None
    """Stored: mean grey value of the training sources."""
    std: float | None = Field(None, gt=0)
    """Stored: their standard deviation."""
    output_mean: float | None = None
    """Mean grey value that the output is scaled to; None, where not stored: the
    output is scaled back as the input was scaled."""
    output_std: float | None = Field(None, gt=0)
    """Its standard deviation."""
    percentiles: tuple[float, float] | None = None
    """Percentiles: the two."""
    statistics: Literal["all", "without hot voxels"] = "all"
    """Which voxels of the training volumes their mean and standard deviation were taken
    from. Those of the input are always taken without its hot voxels; where it has none,
    both are the same."""

    @model_validator(mode="after")
    def _check(self) -> Normalisation:
        stored = (self.mean, self.std, self.output_mean, self.output_std)
        if self.kind == "stored" and None in stored:
            raise ValueError("the normalisation 'stored' needs all four numbers")
        if (self.output_mean is None) != (self.output_std is None):
            raise ValueError(
                "give both or neither of the output's mean and standard deviation"
            )
        low, high = self.percentiles or (0.0, 100.0)
        if (self.kind == "percentiles") != (self.percentiles is not None):
            raise ValueError(
                "give percentiles for the normalisation 'percentiles', and only for "
                "that"
            )
        if not 0 <= low < high <= 100:
            raise ValueError(
                "percentiles must be two numbers from 0 to 100, the lower one first"
            )
        return self


class TrainingStatistic(Config):
    """Mean and standard deviation of a figure over the training volumes."""

    mean: tuple[float, ...]
    """Mean over training volumes, one for each component."""
    sd: tuple[float, ...]
    """Standard deviation over training volumes."""

    @model_validator(mode="after")
    def _check(self) -> TrainingStatistic:
        if len(self.mean) != len(self.sd):
            raise ValueError("mean and sd must have the same length")
        return self


class TrainingData(Config):
    """Training data of a model, for users and for the distribution check."""

    description: str
    """Objects, contrast, blur and noise in plain words."""
    feature_radius: tuple[float, float] | None = None
    """Smallest and largest radius of pores, in voxels of the input; None: unknown."""
    voxel_size: tuple[float, float] | None = None
    """Range of voxel sizes; None where only features in voxels matter."""
    unit: str | None = None
    """Unit of `voxel_size`."""
    noise: tuple[float, float] | None = None
    """Standard deviation of the noise in units of the contrast; None: unknown."""
    blur: tuple[float, float] | None = None
    """Standard deviation of the point-spread function, in voxels of the input."""
    intensity_quantiles: TrainingStatistic | None = None
    """Percentiles 1, 5, 25, 50, 75, 95, 99 of standardised training volumes; None,
    here and below: nothing is known of them, as of models that others made."""
    intensity_distance: tuple[float, float] | None = None
    """Distance of a training volume's percentiles to the nearest of the examples:
    median and 99th percentile over training volumes."""
    examples: tuple[tuple[float, ...], ...] = ()
    """Percentiles of some training volumes."""
    spectrum: TrainingStatistic | None = None
    """Logarithm of the in-plane power of standardised volumes, by radial frequency."""
    spectrum_distance: tuple[float, float] | None = None
    """As `intensity_distance`, for spectra."""
    spectrum_examples: tuple[tuple[float, ...], ...] = ()
    """Spectra of the same training volumes."""
    seeds: tuple[int, ...] = ()
    """Of the simulated data."""

    @model_validator(mode="after")
    def _check(self) -> TrainingData:
        known = (
            self.intensity_quantiles,
            self.intensity_distance,
            self.examples or None,
            self.spectrum,
            self.spectrum_distance,
            self.spectrum_examples or None,
        )
        if None in known and any(part is not None for part in known):
            raise ValueError(
                "give both or neither of the percentiles and spectra of the training "
                "volumes"
            )
        return self

    @property
    def is_known(self) -> bool:
        """Whether volumes can be compared with the training volumes."""
        return bool(self.examples)


class FigureRow(Config):
    """One method's figures on one test set; errors are relative and signed."""

    test_set: str
    """Name of the test set."""
    method: str
    """``input``, a baseline with its tuned setting, ``model`` or ``noise-free``."""
    psnr: float | None = None
    """In dB; the range is the contrast between solid and pore."""
    porosity_error: float | None = None
    """Relative to the known mask, Otsu threshold."""
    pores_per_mm3_error: float | None = None
    """Relative error of the number of pores above the smallest volume."""
    volume_histogram_distance: float | None = None
    """Wasserstein distance between the logarithms (base 10) of the pore volumes."""
    euler_error: float | None = None
    """Relative error of the Euler number."""
    dice: float | None = None
    """Overlap of the pore mask with the known one; of labels, the mean over them."""
    grey_level_distance: float | None = None
    """Wasserstein distance between the grey levels and those of unpaired targets, in
    standard deviations of the targets."""
    spectrum_distance: float | None = None
    """Mean difference of the logarithms (base 10) of the in-plane power, by radial
    frequency, from those of unpaired targets."""


class ModelCard(Config):
    """Everything about a model but its weights."""

    schema_version: int = SCHEMA_VERSION
    """Version of this layout."""
    name: str = Field(pattern=NAME_PATTERN)
    """Short name, also of its folder."""
    title: str
    """Name for people."""
    task: Task
    """What it does."""
    labels: int = Field(1, ge=1, le=256)
    """Numbers that the result is made of, 0 … labels - 1; 1: it is grey values."""
    modalities: tuple[Modality, ...] = ()
    """How the images were made that it is for; none: not known, or of any kind."""
    method: str = "supervised"
    """How it was learned; of models that others made: what with."""
    network: str
    """Name of the architecture in the registry."""
    network_kwargs: AnyDict = Field(default_factory=dict)
    """Settings of the architecture; it has defaults for those that it got later."""
    axes: Literal["YX", "ZYX"]
    """What the network works on: planes or volumes."""
    adjacent_slices: int = Field(1, ge=1)
    """Neighbouring planes that it sees (2.5D)."""
    upscale_factor: int = Field(1, ge=1, le=16)
    """Output voxels per input voxel along every axis."""
    inputs: int = Field(1, ge=1)
    """How many scans of one object it was trained on together; more than one are given
    together, and the mean of its outputs is the result (Noise2Inverse)."""
    run_on: Literal["each", "others"] = "each"
    """What it is run on then: each of them, or the mean of all others."""
    halo: int = Field(ge=0)
    """Radius of the receptive field in input voxels; 0 where it is not local."""
    local: bool = True
    """Whether results depend on the halo alone, so that tiles are exact."""
    normalisation: Normalisation = Normalisation()
    """How grey levels are scaled."""
    training: TrainingData
    """What it was trained on."""
    figures: tuple[FigureRow, ...] = ()
    """How good it is on data unseen in training, beside other methods."""
    description: str
    """What the model does, in a few sentences."""
    intended_use: str
    """What it is for."""
    not_for: str
    """What it must not be used for."""
    remarks: tuple[str, ...] = ()
    """What else has to be known, in sentences: what is done to fit it to volumes."""
    licence: str
    """Of the weights."""
    citation: str = ""
    """How to cite it."""
    provenance: AnyDict = Field(default_factory=dict)
    """How and with what it was made."""
    mixed_precision_error: float | None = Field(None, ge=0)
    """Largest change in bfloat16, in standard deviations of the output; None where it
    was not measured, and then it is not used."""
    noise_bound: float | None = Field(None, gt=0, le=20)
    """No voxel is moved by more than this multiple of the noise that was measured in
    the scan; None: nothing bounds what the model may remove or add."""
    data_consistency: bool = False
    """Whether results are made to agree with the scan: averaged back to its voxels,
    they are the scan within a multiple of its noise. For models that make voxels
    finer."""
    uncertainty: SpreadCalibration | None = None
    """How far its standard deviations reach; None where that was not measured."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Checksum of ``weights.safetensors``; of no bytes where there are no weights."""
    n_parameters: int = Field(ge=0)
    """Number of weights; 0: a classical filter, and the bundle is the card alone."""

    @model_validator(mode="after")
    def _check(self) -> ModelCard:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"this release reads cards of version {SCHEMA_VERSION}; install the "
                "release that wrote it"
            )
        if self.adjacent_slices > 1 and self.axes == "ZYX":
            raise ValueError("a 3D network takes no adjacent slices")
        if self.noise_bound is not None:
            self._check_bound()
        if self.data_consistency and (
            self.labels > 1 or self.upscale_factor < 2 or self._is_rescaled
        ):
            raise ValueError(
                "data_consistency needs a super-resolution model that keeps the grey "
                "scale: remove it"
            )
        n = self.network_kwargs.get("out_channels", 1) if self.labels > 1 else 1
        if (self.labels > 1) != (self.task == "segment") or n != self.labels:
            raise ValueError(
                f"{self.labels} labels, the task {self.task!r} and a network with {n} "
                "output channels do not match"
            )
        return self

    @property
    def _is_rescaled(self) -> bool:
        """Whether the result is on another grey scale than the input."""
        scale = self.normalisation
        same = (scale.mean, scale.std) == (scale.output_mean, scale.output_std)
        return scale.output_mean is not None and not same

    def _check_bound(self) -> None:
        if self.labels > 1 or self.upscale_factor > 1 or self._is_rescaled:
            raise ValueError(
                "noise_bound needs a model that keeps the voxel size and the grey "
                "scale: remove it"
            )

    @property
    def has_weights(self) -> bool:
        """Whether the model was trained; a classical filter was not."""
        return self.n_parameters > 0

    @classmethod
    def from_values(cls, values: object) -> ModelCard:
        """Validate the contents of a card file; raise `ConfigError` with one sentence.

        The schema version is looked at first: a later layout may fail anywhere.
        """
        if not isinstance(values, dict):
            raise ConfigError("it does not hold a card: a mapping was expected.")
        version = values.get("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise ConfigError(
                f"it has schema version {version}, but this release reads version "
                f"{SCHEMA_VERSION}: install the release that wrote it."
            )
        return cls.from_mapping(values)

    def to_yaml(self) -> str:
        """The card as text for ``card.yaml``."""
        import yaml

        return yaml.safe_dump(
            self.model_dump(mode="json"),
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
            width=88,
        )
