"""A training job: its settings, checks and volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.config import Config
from napari_geosr.core.documents import load_yaml, read_document
from napari_geosr.core.errors import ConfigError, FileError, VolumeError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.sampling.pairs import check_shapes
from napari_geosr.networks import NETWORKS
from napari_geosr.operations.inputs import (
    InputConfig,
    open_for_training,
    select_for_training,
)
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.train.checks import (
    check_contents,
    check_country,
    check_distinct,
    check_slices,
    suggest_upscaling,
)
from napari_geosr.operations.train.in_memory import is_in_memory, name_in_memory
from napari_geosr.operations.train.shared_region import SharedRegions, share_regions
from napari_geosr.physics.simulated import is_simulated, open_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.method import Method


class TrainJob(Config):
    """Complete description of a training run."""

    method: str
    """Name of the learning method."""
    training: TrainingConfig
    """Settings of the method."""
    reading: InputConfig = InputConfig()
    """How the files are opened."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> TrainJob:
        """Validate the contents of ``config.yaml`` with the method's config class."""
        values = dict(values)
        kind = config_class(str(values.get("method", "")))
        training = kind.from_mapping(values.get("training") or {})
        reading = InputConfig.from_mapping(values.get("reading") or {})
        return cls(method=values["method"], training=training, reading=reading)

    @classmethod
    def from_yaml_file(cls, path: Path, method: str) -> TrainJob:
        """Read a job's ``config.yaml``, or a file with settings of `method` only.

        Raises
        ------
        ConfigError
            If the file is invalid, or was made for another method.
        """
        try:
            values = load_yaml(read_document(path))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise ConfigError(
                f"{path} is not a readable YAML config: {error}"
            ) from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} contains no settings: a mapping was expected.")
        values.pop("schema_version", None)
        if "training" not in values:
            values = {"method": method, "training": values}
        if values.get("method") != method:
            raise ConfigError(
                f"{path} contains settings of {values.get('method')!r}, not of "
                f"{method!r}."
            )
        return cls.from_values(values)

    def with_absolute_paths(self) -> TrainJob:
        """Return the job with absolute paths."""
        roles = {
            name: tuple(
                path
                if is_simulated(path) or is_in_memory(path)
                else path.expanduser().resolve()
                for path in value
            )
            for name in type(self.training).model_fields
            if isinstance(value := getattr(self.training, name), tuple)
            and value
            and all(isinstance(path, Path) for path in value)
        }
        start = {"from_model": _absolute_model(self.training.from_model)}
        training = self.training.model_copy(update=roles | start)
        return self.model_copy(update={"training": training})

    def check_settings(self) -> None:
        """Refuse settings that are invalid for any data, without opening files.

        Raises
        ------
        ConfigError
            If a setting is invalid.
        """
        METHODS.load(self.method).Method.check(self.training)
        check_country(self.training.country)

    def check(
        self, in_memory: Mapping[Path, Volume] | None = None
    ) -> dict[str, list[Volume]]:
        """Check settings and data before a process is started.

        Parameters
        ----------
        in_memory : mapping of Path to Volume, optional
            Volumes passed in memory, by their entry in the settings.

        Returns
        -------
        dict of str to list of Volume
            The opened volumes by role, for `train_steps`.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        self.check_settings()
        method = METHODS.load(self.method).Method(self.training)
        method.network_kwargs()  # raises an error for settings that the network lacks
        volumes = open_roles(self, method, in_memory)
        if method.one_object:
            check_distinct(volumes["source"])
        check_slices(self.training, volumes["source"])
        used = self._check_pairs(method, volumes)
        painted = method.label_roles if method.unpainted is not None else ()
        check_contents({r: v for r, v in used.items() if r not in painted})
        if method.labels > 1 and self.training.similarity_index:
            raise ConfigError(
                "A similarity index is only for models that restore grey values, but "
                "this model outputs labels: switch similarity_index off."
            )
        if method.labels > 1:
            method.check_targets(used["target"])
        return volumes

    def open_regions(
        self, in_memory: Mapping[Path, Volume] | None = None, *, shown: bool = False
    ) -> tuple[dict[str, list[Volume]], SharedRegions]:
        """Open the volumes, and crop those that are shifted against each other.

        Parameters
        ----------
        in_memory : mapping of Path to Volume, optional
            Volumes passed in memory, by their entry in the settings.
        shown : bool
            Whether all volumes are layers of one viewer; see `share_regions`.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        self.check_settings()
        method = METHODS.load(self.method).Method(self.training)
        opened = open_roles(self, method, in_memory)
        return opened, share_regions(method, opened, shown=shown)

    def _check_pairs(
        self, method: Method, volumes: Mapping[str, Sequence[Volume]]
    ) -> Mapping[str, Sequence[Volume]]:
        """Check volumes used voxel by voxel; return them cropped to shared regions."""
        has_pairs = method.paired and "target" in volumes
        targets = volumes["target"] if has_pairs else ()
        for source, target in zip(volumes["source"], targets, strict=False):
            if source.source is not None and source.source == target.source:
                raise ConfigError(
                    f"{source.title} is used as both source and target: their noise "
                    "is the same, so nothing can be learned."
                )
        used = share_regions(method, volumes).volumes
        if not has_pairs:
            return used
        for source, target in zip(used["source"], used["target"], strict=True):
            ndim = self.training.ndim
            try:
                check_shapes(source, target, method.upscale_factor, ndim)
            except VolumeError as error:
                suggestion = suggest_upscaling(
                    self.method, self.training, source, target
                )
                raise VolumeError(f"{error} {suggestion}".strip()) from error
        return used

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` reads."""
        training = self.training.model_dump(mode="json")
        if not self.training.similarity_index:
            # Omit the default, so that models without a similarity index have the same
            # records as in releases without this setting.
            del training["similarity_index"]
        return {
            "operation": "train",
            "method": self.method,
            "training": training,
            "reading": self.reading.model_dump(mode="json"),
        }


def _absolute_model(model: str | None) -> str | None:
    """Return the name of a zoo model unchanged, or the absolute path of any other."""
    if not model or model in {entry.name for entry in catalogue.list_models()}:
        return model
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def roles(method: str) -> tuple[str, ...]:
    """Return the roles of the volumes that a method reads, such as ``source``."""
    names: tuple[str, ...] = METHODS.load(method).Method.roles
    return names


def networks() -> list[str]:
    """Return the names of the networks that can be trained."""
    return NETWORKS.names()


def open_roles(
    job: TrainJob,
    method: Method | type[Method],
    in_memory: Mapping[Path, Volume] | None = None,
) -> dict[str, list[Volume]]:
    """Open the volumes of every role, lazily.

    Instead of a path, ``simulated:KIND:FIRST-LAST`` stands for a range of simulated
    volumes, and ``memory:NAME`` for a volume in `in_memory`.

    Parameters
    ----------
    job : TrainJob
    method : Method or type
    in_memory : mapping of Path to Volume, optional
        Volumes passed in memory, by their entry in the settings.

    Returns
    -------
    dict of str to list of Volume

    Raises
    ------
    ConfigError
        If paired roles have different numbers of volumes.
    GeoSRError
        If a volume cannot be opened.
    """
    opened = {
        role: [
            volume
            for path in getattr(job.training, role)
            for volume in _open(path, job, in_memory or {})
        ]
        for role in method.roles
    }
    counts = {role: len(volumes) for role, volumes in opened.items()}
    if method.paired and len(set(counts.values())) > 1:
        listed = " and ".join(f"{n} {role} volumes" for role, n in counts.items())
        raise ConfigError(
            f"There are {listed}: each source needs its target, in the same order."
        )
    return opened


def _open(path: Path, job: TrainJob, in_memory: Mapping[Path, Volume]) -> list[Volume]:
    if is_simulated(path):
        return open_simulated(path)
    flat = job.training.dimensions == "2D"
    if path in in_memory:
        return [select_for_training(in_memory[path], job.reading, flat=flat)]
    if is_in_memory(path):
        raise FileError(
            f"{name_in_memory(path)!r} was given in memory and is not in a file. Train "
            "in Python with the same volume, or save it and give its path."
        )
    return [open_for_training(path, job.reading, flat=flat)]
