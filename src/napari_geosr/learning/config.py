"""Settings shared by all learning methods. Does not import torch."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter
from pydantic import BeforeValidator, Field, field_validator, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyDict
from napari_geosr.networks import NETWORKS

#: Option that takes several words: ``--source a.tif b.tif``, ``--source scans/*.tif``.
MULTIPLE_FILES = Parameter(negative="", consume_multiple=True)
#: Option with a fixed number of values, without a negative form such as ``--no-…``.
NO_NEGATIVE = Parameter(negative="")


def _split_at_commas(value: object) -> object:
    """Split ``a.tif,b.tif`` if either file exists and no file has the whole name."""
    if isinstance(value, str | Path):
        value = (value,)
    if not isinstance(value, list | tuple):
        return value
    return tuple(part for each in value for part in _parts(each))


def _parts(path: object) -> list[object]:
    parts = str(path).split(",")
    exists = [_exists(part) for part in parts]
    return list(parts) if any(exists) and not _exists(str(path)) else [path]


def _exists(path: str) -> bool:
    """Whether a file exists; a dataset in the file may be given after ``::``."""
    return bool(path) and Path(path.rsplit("::", 1)[0]).expanduser().exists()


#: Type of the settings that name several files.
Files = Annotated[tuple[Path, ...], BeforeValidator(_split_at_commas), MULTIPLE_FILES]


class TrainingConfig(Config):
    """Data, network and schedule of a training run.

    Attributes
    ----------
    images_as_slices : bool
        Whether a single image may be repeated for all slices of a 2.5D network, as when
        a single image is restored.
    network_settings : frozenset of str
        Fields that are settings of the network, under the same names.
    unused_settings : frozenset of str
        Fields that have no effect in this method and are not shown in its help.
    """

    images_as_slices: ClassVar[bool] = False
    network_settings: ClassVar[frozenset[str]] = frozenset()
    unused_settings: ClassVar[frozenset[str]] = frozenset()

    source: Files = Field(
        (),
        title="Source",
        description="Volumes to learn from: files, folders of slices or OME-Zarr. "
        "Separate multiple entries with commas.",
    )
    target: Files = Field(
        (),
        title="Target",
        description="Target volumes: how the sources should look after restoration, "
        "in the same order as the sources.",
    )
    name: Annotated[str, Parameter(show_default=False)] = Field(
        "mine",
        title="Model name",
        description="Name of the trained model: lower-case letters, digits, - and _. "
        "The default is derived from the method and the first source.",
    )
    steps: int = Field(
        3000,
        ge=1,
        title="Steps",
        description="Number of training steps (updates of the weights).",
    )
    batch_size: int = Field(
        8,
        ge=1,
        le=1024,
        title="Batch",
        description="Number of patches per training step.",
        json_schema_extra={"unit": "patches"},
    )
    patch: int = Field(
        64,
        ge=8,
        le=1024,
        title="Patch",
        description="Edge length of a training patch, in voxels.",
        json_schema_extra={"unit": "voxels"},
    )
    dimensions: Literal["2D", "2.5D", "3D"] = Field(
        "2.5D",
        title="Dimensions",
        description="2D: one slice at a time; 2.5D: each slice together with its "
        "neighbours; 3D: blocks of the volume.",
    )
    adjacent_slices: int = Field(
        5,
        ge=1,
        le=31,
        title="Adjacent slices",
        description="Number of adjacent slices that a 2.5D network takes as input; "
        "must be odd.",
        json_schema_extra={"unit": "slices"},
    )
    network: str = Field(
        "msdnet",
        title="Network",
        description="Network architecture: msdnet, unet, light_sr and others.",
    )
    layers: int | None = Field(
        None,
        ge=1,
        le=400,
        title="Layers",
        description="Number of layers; the default depends on the network.",
    )
    width: int | None = Field(
        None,
        ge=1,
        le=512,
        title="Width",
        description="Number of feature maps per layer, or at the first level; the "
        "default depends on the network.",
    )
    network_options: Annotated[AnyDict, Parameter(negative="", accepts_keys=True)] = (
        Field(
            default_factory=dict,
            title="Network options",
            description="Additional setting of the network, given by name, such as "
            "--network-options.features 64.",
        )
    )
    learning_rate: float = Field(
        1e-2,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam).",
    )
    final_rate: float = Field(
        0.01,
        gt=0,
        le=1,
        title="Final rate",
        description="Final learning rate, as a fraction of the initial one (cosine "
        "decay).",
        json_schema_extra={"unit": "× initial"},
    )
    warm_up: int = Field(
        50,
        ge=0,
        title="Warm-up",
        description="Number of initial steps during which the learning rate rises to "
        "its full value.",
        json_schema_extra={"unit": "steps"},
    )
    averaging: float = Field(
        0.999,
        ge=0,
        lt=1,
        title="Averaging",
        description="Decay of the moving average of the weights; the model uses the "
        "averaged weights.",
    )
    gradient_clip: float = Field(
        1.0,
        gt=0,
        title="Gradient clip",
        description="Maximum norm of the gradients; larger ones are scaled down.",
    )
    augment: bool = Field(
        True,
        title="Augment",
        description="Rotate and mirror patches, as far as the shape of the voxels and "
        "the noise permit.",
    )
    sampling: Literal["uniform", "structure"] = Field(
        "structure",
        title="Sampling",
        description="Where patches are taken. uniform: everywhere; structure: more "
        "often in regions with structure.",
    )
    normalisation: Literal["stored", "volume"] = Field(
        "stored",
        title="Normalisation",
        description="How grey values are scaled. stored: use the grey scale of the "
        "training data; volume: use that of each volume to be restored.",
    )
    validation: float = Field(
        0.1,
        gt=0,
        le=0.5,
        title="Validation",
        description="Fraction of each volume held out, as one block, to evaluate the "
        "model.",
    )
    validate_every: int | None = Field(
        None,
        ge=1,
        title="Validate every",
        description="Number of steps between two validations; by default, a run has "
        "40 validations.",
        json_schema_extra={"unit": "steps"},
    )
    from_model: str | None = Field(
        None,
        title="Start from",
        description="Trained model to start from (fine-tuning)."
        " By default, training starts from random weights.",
        json_schema_extra={"unset": "none"},
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed: the same seed gives the same model.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        title="Precision",
        description="Number format during training; auto: "
        "bfloat16 on a GPU, otherwise float32.",
    )
    threads: int | None = Field(
        None, ge=1, title="Threads", description="CPU threads; by default one per core."
    )
    checkpoint_seconds: float = Field(
        30.0,
        gt=0,
        le=60,
        title="Checkpoint",
        description="Seconds between checkpoints: a crash loses at most this much "
        "training time.",
        json_schema_extra={"unit": "s"},
    )
    preview_slice: int | None = Field(
        None,
        ge=0,
        title="Preview slice",
        description="Slice of the first source shown as a preview; by default the "
        "middle one.",
    )
    country: str = Field(
        "FRA",
        pattern=r"^[A-Z]{3}$",
        title="Country",
        description="Country (three-letter ISO code); CO2 emissions are estimated from "
        "its electricity mix.",
    )
    similarity_index: bool = Field(
        False,
        title="Similarity index",
        description="Store features of the training patches with the model (up to "
        "150 kB), so that explain can find similar ones.",
    )
    licence: str = Field(
        "not stated", title="Licence", description="Licence of the trained model."
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", value):
            raise ValueError(
                "use lower-case letters, digits, dots, - and _ only, without spaces"
            )
        return value

    @field_validator("network")
    @classmethod
    def _replace_hyphens(cls, value: str) -> str:
        """Accept ``light-sr`` for ``light_sr``: flags are written with hyphens."""
        return NETWORKS.key(value)

    @field_validator("adjacent_slices")
    @classmethod
    def _check_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("choose an odd number, so that there is a middle slice")
        return value

    @model_validator(mode="after")
    def _check_network_options(self) -> TrainingConfig:
        if "out_channels" in self.network_options:
            raise ValueError(
                "network options: out_channels is determined by the setting 'labels' "
                "of the method supervised; use that instead"
            )
        clash = {"ndim", "adjacent_slices"} & self.network_options.keys()
        if clash:
            raise ValueError(
                f"network options: {', '.join(sorted(clash))} are determined by the "
                "settings 'dimensions' and 'adjacent slices'; use those instead"
            )
        return self

    @property
    def ndim(self) -> int:
        """Number of axes over which the network convolves."""
        return 3 if self.dimensions == "3D" else 2

    @property
    def planes(self) -> int:
        """Number of slices given as input channels."""
        return self.adjacent_slices if self.dimensions == "2.5D" else 1

    @property
    def steps_between_validations(self) -> int:
        return self.validate_every or max(10, self.steps // 40)

    def rate_at(self, step: int) -> float:
        """Return the learning rate at a step: a linear warm-up times a cosine decay."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / max(1, self.steps))
        warm = min(1.0, (step + 1) / max(1, self.warm_up))
        floor = self.final_rate
        return self.learning_rate * warm * (floor + (1 - floor) * cosine)
