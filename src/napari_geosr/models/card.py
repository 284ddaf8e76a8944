"""The model card: a model's purpose, its training data and its performance."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.documents import dump_yaml
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.text.vocabulary import Modality, Task
from napari_geosr.core.types import AnyDict

#: Version of the card's layout; cards with another version are rejected.
SCHEMA_VERSION = 1
#: Pattern of valid model names.
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
#: Percentiles of the grey values that the card stores for training volumes.
QUANTILE_LEVELS = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)


class DeviationCalibration(Config):
    """Half-width of the porosity interval, in standard deviations.

    For each of several scans of known objects, the smallest factor was found for which
    the interval contains the known porosity. `factor` is the quantile of these factors
    that split conformal prediction [1]_ prescribes: for another scan *of the same
    kind*, the interval contains the porosity with at least the nominal probability.

    References
    ----------
    .. [1] Lei et al. Distribution-free predictive inference for regression. J. Am.
       Stat. Assoc. 113, 1094-1111 (2018). doi:10.1080/01621459.2017.1307116
    """

    kind: str = "tta"
    """Kind of the predictions from which the standard deviation is computed."""
    members: int = Field(8, ge=2)
    """Number of these predictions."""
    factor: float = Field(gt=0)
    """Half-width of the interval, in standard deviations."""
    nominal: float = Field(0.9, gt=0, lt=1)
    """Nominal probability that the interval contains the porosity."""
    scans: int = Field(ge=1)
    """Number of scans used for the calibration."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Checksum of the weights that were calibrated."""
    description: str = ""
    """Description of the scans."""
    sampling_steps: int | None = Field(None, ge=2)
    """Number of steps of each sample of a diffusion model; None for other kinds."""
    quantile_shift: float | None = Field(None, ge=-1, le=1)
    """Porosity by which the quantiles of the samples' porosities are moved outwards
    (inwards if negative); None for other kinds."""


class Normalisation(Config):
    """Scaling of grey values for the network."""

    kind: Literal["standardise", "stored", "unit", "percentiles"] = "standardise"
    """Scaling of the input. ``standardise``: ``(x - mean) / std`` with the mean and
    standard deviation of the whole input volume. ``stored``: the same formula, with
    the mean and standard deviation of the training data. ``unit``: values are scaled to
    0 … 1 (8-bit values are divided by 255, values within 0 … 1 are unchanged, and
    others are scaled from the lowest to the highest value). ``percentiles``: two
    percentiles of the whole input volume become 0 and 1. Outputs are scaled back;
    labels are not."""
    mean: float | None = None
    """``stored``: mean grey value of the training sources."""
    std: float | None = Field(None, gt=0)
    """``stored``: standard deviation of the training sources."""
    output_mean: float | None = None
    """Mean grey value to which the output is scaled; None (not with ``stored``): the
    scaling of the input is inverted."""
    output_std: float | None = Field(None, gt=0)
    """Standard deviation to which the output is scaled; for None, see `output_mean`."""
    percentiles: tuple[float, float] | None = None
    """``percentiles``: the lower and the upper percentile."""
    statistics: Literal["all", "without hot voxels"] = "all"
    """Voxels of the training volumes from which the mean and standard deviation were
    computed. For the input, hot voxels are always excluded; for volumes without hot
    voxels, both choices are equivalent."""

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


class PorosityCondition(Config):
    """Porosities that can be requested from a model that generates images."""

    threshold: float
    """Grey value between pores and solid."""
    phase: Literal["dark", "bright"] = "dark"
    """Side of the threshold on which the pores are."""
    low: float = Field(ge=0, le=1)
    """1st percentile of the porosity of training patches."""
    high: float = Field(ge=0, le=1)
    """99th percentile of the porosity of training patches."""


class TrainingStatistic(Config):
    """Mean and standard deviation of a statistic over the training volumes."""

    mean: tuple[float, ...]
    """Mean over training volumes, one for each component."""
    sd: tuple[float, ...]
    """Standard deviation over training volumes."""

    @model_validator(mode="after")
    def _check(self) -> TrainingStatistic:
        if len(self.mean) != len(self.sd):
            raise ValueError("mean and sd must have the same length")
        return self


class LabelledGreyValues(Config):
    """Grey values of a training scan and of its labelled voxels."""

    mean: float
    """Mean of the labelled voxels."""
    sd: float = Field(gt=0)
    """Standard deviation of the labelled voxels."""
    share: float = Field(gt=0, le=1)
    """Fraction of the scan's voxels that are labelled."""
    scan_mean: float
    """Mean of the whole scan."""
    scan_sd: float = Field(gt=0)
    """Standard deviation of the whole scan."""
    scan_quantiles: tuple[float, ...] = Field(min_length=7, max_length=7)
    """Percentiles 1, 5, 25, 50, 75, 95, 99 of the whole scan."""


class TrainingData(Config):
    """Training data of a model, for users and for the distribution check."""

    description: str
    """Description of the objects, contrast, blur and noise."""
    feature_radius: tuple[float, float] | None = None
    """Smallest and largest radius of pores, in voxels of the input; None: unknown."""
    voxel_size: tuple[float, float] | None = None
    """Range of voxel sizes; None if only sizes in voxels matter."""
    unit: str | None = None
    """Unit of `voxel_size`."""
    noise: tuple[float, float] | None = None
    """Standard deviation of the noise in units of the contrast; None: unknown."""
    blur: tuple[float, float] | None = None
    """Standard deviation of the point-spread function, in voxels of the input."""
    intensity_quantiles: TrainingStatistic | None = None
    """Percentiles 1, 5, 25, 50, 75, 95, 99 of standardised training volumes; None, here
    and below: unknown, as for third-party models."""
    intensity_distance: tuple[float, float] | None = None
    """Distance from a volume of the same kind to the nearest of the other examples:
    median and 99th percentile over such volumes."""
    examples: tuple[tuple[float, ...], ...] = ()
    """Percentiles of training volumes, and of parts of them."""
    spectrum: TrainingStatistic | None = None
    """Logarithm of the in-plane power of standardised volumes, by radial frequency."""
    spectrum_distance: tuple[float, float] | None = None
    """Like `intensity_distance`, but for spectra."""
    spectrum_examples: tuple[tuple[float, ...], ...] = ()
    """Spectra of the same volumes and parts."""
    seeds: tuple[int, ...] = ()
    """Seeds of the simulated data."""
    grey_values: tuple[LabelledGreyValues, ...] = ()
    """Grey values of each training scan, for models that label the voxels of a mask;
    empty for other models, and for those trained with earlier releases."""

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
    """Results of one method on one test set; errors are relative and signed."""

    test_set: str
    """Name of the test set."""
    method: str
    """``input``, a baseline with its tuned setting, ``model`` or ``noise-free``."""
    psnr: float | None = None
    """PSNR in dB; the range is the contrast between solid and pore."""
    porosity_error: float | None = None
    """Error of the porosity (Otsu threshold) relative to that of the known mask."""
    pores_per_mm3_error: float | None = None
    """Relative error of the number of pores above the minimum volume."""
    volume_histogram_distance: float | None = None
    """Wasserstein distance between the logarithms (base 10) of the pore volumes."""
    euler_error: float | None = None
    """Relative error of the Euler number."""
    dice: float | None = None
    """Dice coefficient between the pore mask and the true mask; for labels, the mean
    over labels."""
    branch_recall: float | None = None
    """Fraction of the true branches of a network of tubes that are in the result."""
    branch_precision: float | None = None
    """Fraction of the branches in the result that are true."""
    grey_level_distance: float | None = None
    """Wasserstein distance between the grey values and those of unpaired targets, in
    standard deviations of the targets."""
    spectrum_distance: float | None = None
    """Mean difference in log10 in-plane power, as a function of radial frequency,
    from unpaired targets."""
    noise_error: float | None = None
    """Mean squared error of the predicted noise of unit variance, averaged over eight
    time steps of the noise schedule; for models that generate images."""


class ModelCard(Config):
    """Description of a model, complete except for its weights."""

    schema_version: int = SCHEMA_VERSION
    """Version of the card format."""
    name: str = Field(pattern=NAME_PATTERN)
    """Short name, which is also the name of its folder."""
    title: str
    """Name for display."""
    task: Task
    """What the model does."""
    labels: int = Field(1, ge=1, le=256)
    """Number of labels of the result, 0 … labels − 1; 1: the result has grey values."""
    modalities: tuple[Modality, ...] = ()
    """Imaging modalities for which the model is suited; empty: unknown, or any."""
    method: str = "supervised"
    """Training method; for third-party models, the software that made them."""
    network: str
    """Name of the architecture in the registry."""
    network_kwargs: AnyDict = Field(default_factory=dict)
    """Settings of the architecture; missing ones take their defaults."""
    axes: Literal["YX", "ZYX"]
    """Axes on which the network works: slices or volumes."""
    adjacent_slices: int = Field(1, ge=1)
    """Number of adjacent slices that the network takes as input (2.5D)."""
    upscale_factor: int = Field(1, ge=1, le=16)
    """Output voxels per input voxel along every axis."""
    inputs: int = Field(1, ge=1)
    """Number of scans of one object used together for training (Noise2Inverse); if
    there are several, a restoration takes the same number and returns the mean of the
    outputs."""
    run_on: Literal["each", "others"] = "each"
    """With several inputs, whether the network runs on each scan, or, for each scan, on
    the mean of all others."""
    halo: int = Field(ge=0)
    """Radius of the receptive field in input voxels; 0 if the network is not local."""
    local: bool = True
    """Whether each voxel of a result depends only on inputs within the halo, so that
    results of tiles are exact."""
    normalisation: Normalisation = Normalisation()
    """How grey values are scaled."""
    training: TrainingData
    """Training data of the model."""
    figures: tuple[FigureRow, ...] = ()
    """Results on held-out data, compared with other methods."""
    description: str
    """What the model does, in a few sentences."""
    intended_use: str
    """Intended use of the model."""
    not_for: str
    """What the model must not be used for."""
    remarks: tuple[str, ...] = ()
    """Further remarks for users, in sentences, such as how volumes are scaled."""
    licence: str
    """Licence of the weights."""
    citation: str = ""
    """How to cite the model."""
    provenance: AnyDict = Field(default_factory=dict)
    """How the model was made, and what was used to make it."""
    mixed_precision_error: float | None = Field(None, ge=0)
    """Largest change caused by bfloat16, in standard deviations of the output; None:
    not measured, and bfloat16 is not used."""
    noise_bound: float | None = Field(None, gt=0, le=20)
    """Largest change of a voxel, as a multiple of the noise level measured in the scan;
    None: changes are not bounded."""
    data_consistency: bool = False
    """Whether super-resolved results are made consistent with the scan: the mean of the
    result over each voxel of the scan equals the value of this voxel to within a
    multiple of the noise level."""
    porosity_condition: PorosityCondition | None = None
    """Porosities with which the model generates images; None: the porosity cannot be
    chosen."""
    gives_samples: bool = False
    """Whether the model can draw samples in addition to computing its result; only for
    diffusion models."""
    uncertainty: DeviationCalibration | None = None
    """Calibration of the standard deviations; None: not measured."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Checksum of ``weights.safetensors``, or of an empty file if there are no
    weights."""
    n_parameters: int = Field(ge=0)
    """Number of weights; 0: a classical filter, which needs only a card."""
    similarity_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Checksum of ``similarity.safetensors``; None: the model has no such index."""

    @model_validator(mode="after")
    def _check(self) -> ModelCard:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"this release reads cards of version {SCHEMA_VERSION}; install the "
                "release that wrote it"
            )
        if self.adjacent_slices > 1 and self.axes == "ZYX":
            raise ValueError("a 3D network does not use adjacent slices")
        if self.noise_bound is not None:
            self._check_bound()
        if self.data_consistency and (
            self.labels > 1 or self.upscale_factor < 2 or self._is_rescaled
        ):
            raise ValueError(
                "data_consistency needs a super-resolution model that keeps the grey "
                "scale: remove this setting"
            )
        n = self.network_kwargs.get("out_channels", 1) if self.labels > 1 else 1
        if (self.labels > 1) != (self.task == "segment") or n != self.labels:
            raise ValueError(
                f"{self.labels} labels, the task {self.task!r} and a network with {n} "
                "output channels do not match"
            )
        return self

    @property
    def draws_samples(self) -> bool:
        """Whether samples can be drawn that agree with a scan."""
        return self.gives_samples or self.task == "generate"

    @property
    def _is_rescaled(self) -> bool:
        """Whether the result has a different grey scale from the input."""
        scale = self.normalisation
        same = (scale.mean, scale.std) == (scale.output_mean, scale.output_std)
        return scale.output_mean is not None and not same

    def _check_bound(self) -> None:
        if self.labels > 1 or self.upscale_factor > 1 or self._is_rescaled:
            raise ValueError(
                "noise_bound needs a model that keeps the voxel size and the grey "
                "scale: remove this setting"
            )

    @property
    def has_weights(self) -> bool:
        """Whether the model has weights; a classical filter has none."""
        return self.n_parameters > 0

    @classmethod
    def from_values(cls, values: object) -> ModelCard:
        """Validate the contents of a card file; raise `ConfigError` with one sentence.

        The schema version is checked first, because any field of a later layout may be
        invalid here.
        """
        if not isinstance(values, dict):
            raise ConfigError("it does not contain a card: a mapping was expected.")
        version = values.get("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise ConfigError(
                f"it has schema version {version}, but this release reads version "
                f"{SCHEMA_VERSION}: install the release that wrote it."
            )
        return cls.from_mapping(values)

    def to_yaml(self) -> str:
        """Return the card as text for ``card.yaml``."""
        values = self.model_dump(mode="json")
        if self.similarity_sha256 is None:  # earlier releases can then read the card
            del values["similarity_sha256"]
        if self.porosity_condition is None:
            del values["porosity_condition"]
        if not self.training.grey_values:
            del values["training"]["grey_values"]
        if not self.gives_samples:
            del values["gives_samples"]
        if self.uncertainty is not None and self.uncertainty.sampling_steps is None:
            del values["uncertainty"]["sampling_steps"]
        if self.uncertainty is not None and self.uncertainty.quantile_shift is None:
            del values["uncertainty"]["quantile_shift"]
        for row in values["figures"]:
            if row["noise_error"] is None:
                del row["noise_error"]
        return dump_yaml(values, flow=None, width=88)
