"""PTDR: segmentation from a handful of painted slices, with a pre-trained network.

The network of a diffusion model (`napari_geosr.learning.methods.ddpm`) was trained on
unlabelled images of the modality. Its last layer is replaced by one with an output per
class, and all layers are trained on clean images at a fixed time step of the noise
schedule [1]_. Without such a model, the same network is trained from scratch.

The losses include only painted voxels. Each slice with painted voxels becomes a
separate image, and a strip of each image is held out for validation.

References
----------
.. [1] Rousseau et al. Pre-training with diffusion models for dental radiography
   segmentation. MICCAI DGM4 (2023). arXiv:2307.14066
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from pydantic import Field

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.learning import losses
from napari_geosr.learning.architecture import (
    format_alternatives,
    network_fields,
    network_kwargs,
    networks_supporting,
)
from napari_geosr.learning.config import Files, TrainingConfig
from napari_geosr.learning.labels import check_painted
from napari_geosr.learning.method import Arrays, Batch, Losses
from napari_geosr.learning.method import Method as _Method
from napari_geosr.learning.statistics import GreyScale
from napari_geosr.models import zoo
from napari_geosr.models.distribution import check_grey_scale
from napari_geosr.models.names import MODEL_NAME

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.models.bundle import Model

PURPOSE = "Segment"
NEEDS = "a scan with a few painted slices and, optionally, a model trained by ddpm"

#: Value of unpainted voxels.
UNPAINTED = 255
#: Maximum number of painted slices; with more, supervised learning is better.
_MAX_SLICES = 256
#: Maximum number of patches drawn until one contains painted voxels.
_TRIES = 100
#: Standard deviation of the logarithm of random contrast factors.
_CONTRAST = 0.15
#: Standard deviation of random offsets, in standard deviations of the grey values.
_BRIGHTNESS = 0.15
#: Maximum level of added noise, in standard deviations of the grey values.
_NOISE = 0.2
#: Name of the last layer in networks that this method can train.
_HEAD = "head."


class Config(TrainingConfig):
    """Settings of segmentation with few labels."""

    target: Files = Field(
        (),
        title="Labels",
        description="Label images with the classes 0, 1, 2 … where something is "
        "painted and 255 elsewhere, in the same order as the sources.",
    )
    unpainted: Literal[255, 0] = Field(
        255,
        title="Unpainted",
        description="Value of the labels where nothing is painted: 255, or 0 as in the "
        "Segment dock, where the classes are numbered from 1.",
    )
    from_model: Annotated[
        str | None, Parameter(name=("--start-from", "--from-model")), MODEL_NAME
    ] = Field(
        None,
        title="Start from",
        description="Diffusion model, trained by ddpm, to start from; by default, the "
        "network is trained from scratch.",
    )
    classes: int = Field(
        2,
        ge=2,
        le=UNPAINTED,
        title="Classes",
        description="Number of classes, numbered 0, 1, 2 and so on in the labels; 1, 2 "
        "and so on if 0 means unpainted.",
    )
    network: str = Field(
        "diffusion_unet",
        title="Network",
        description="Network architecture: diffusion_unet or unet.",
    )
    dimensions: Literal["2D", "2.5D", "3D"] = Field(
        "2D",
        title="Dimensions",
        description="2D: one slice at a time; 2.5D: each slice together with its "
        "neighbours. 3D is not supported, because individual slices are painted.",
    )
    steps: int = Field(
        1000,
        ge=1,
        title="Steps",
        description="Number of training steps (updates of the weights).",
    )
    learning_rate: float = Field(
        1e-4,
        gt=0,
        le=1,
        title="Learning rate",
        description="Initial learning rate (Adam) of the pre-trained layers; if "
        "training starts from scratch, all layers use this rate times the factor for "
        "new layers.",
    )
    head_maps: int = Field(
        32,
        ge=0,
        le=256,
        title="Feature maps of the last layer",
        description="Number of feature maps in the new last layer of diffusion_unet; "
        "this layer uses all levels of the decoder. 0: use a single convolution at the "
        "finest level.",
        json_schema_extra={"unit": "maps"},
    )
    head_rate: float = Field(
        100.0,
        ge=1,
        le=100,
        title="Last layer",
        description="Learning rate of new layers, as a multiple of the rate of the "
        "other layers.",
        json_schema_extra={"unit": "× rate"},
    )
    averaging: float = Field(
        0.99,
        ge=0,
        lt=1,
        title="Averaging",
        description="Decay of the moving average of the weights; the model uses the "
        "averaged weights.",
    )
    sampling: Literal["uniform", "structure"] = Field(
        "uniform",
        title="Sampling",
        description="Where patches are taken. uniform: everywhere; structure: more "
        "often in regions with structure.",
    )


class Method(_Method):
    """Minimises cross-entropy and Dice loss of the painted voxels."""

    roles = ("source", "target")
    output_role = "target"
    unpainted: int = UNPAINTED
    replaced_settings = frozenset({"out_channels", "fixed_time", "decoder_head"})
    loss_titles: Mapping[str, str] = {
        "missed overlap": "1 − mean Dice",
        "entropy": "cross-entropy",
    }
    config: Config

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.unpainted = self.config.unpainted
        # The outputs are numbered like the labels. There is therefore an output for 0
        # even if 0 means unpainted; it is then never the most likely class.
        self.labels = self.config.classes + (self.unpainted == 0)

    @property
    def _classes(self) -> range:
        """The numbers of the classes in the labels."""
        return range(int(self.unpainted == 0), self.labels)

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Also check that the method suits the dimensions and the network."""
        super().check(config)
        if config.dimensions == "3D":
            raise ConfigError(
                "Training on painted slices works slice by slice: set dimensions to 2D "
                "or 2.5D."
            )
        networks = networks_supporting(_has_head)
        if config.network not in networks:
            raise ConfigError(
                f"The network {config.network!r} has no last layer that can be "
                f"replaced: choose {format_alternatives(networks)}."
            )
        if config.normalisation != "stored":
            raise ConfigError(
                "Segmentation with few labels keeps the grey scale of the training "
                "data: set normalisation to stored."
            )
        if config.network_options.get("residual"):
            raise ConfigError(
                "The input cannot be added to label scores: remove residual from the "
                "network's options."
            )

    def network_kwargs(self) -> AnyDict:
        """Return the settings of the network, with one output per class."""
        head: AnyDict = {}
        if "decoder_head" in network_fields(self.config.network):
            head["decoder_head"] = self.config.head_maps
        return network_kwargs(
            self.config, out_channels=self.labels, residual=False, **head
        )

    def grey_scale(self) -> GreyScale | None:
        """Return the stored grey scale of the model to start from, if there is one."""
        if self.config.from_model is None:
            return None
        scale = zoo.find(self.config.from_model).card.normalisation
        if scale.mean is None or scale.std is None:
            return None
        return GreyScale(scale.mean, scale.std)

    def check_grey_scale(self, own: GreyScale, sources: Sequence[Volume]) -> list[str]:
        """Refuse scans with a grey scale other than that of the model to start from.

        Raises
        ------
        ModelError
            If the grey scales differ.
        """
        assert self.config.from_model is not None
        titles = ", ".join(volume.title for volume in sources)
        card = zoo.find(self.config.from_model).card
        return check_grey_scale(card, titles, own.mean, own.std)

    def check_targets(self, targets: Sequence[Volume]) -> None:
        """Raise `VolumeError` for wrong labels, too few classes or too many slices."""
        painted = check_painted(targets, self.labels, self.unpainted)
        if (n := sum(map(len, painted))) > _MAX_SLICES:
            raise VolumeError(
                f"{n} slices have labels, but this method is for up to {_MAX_SLICES}: "
                "use supervised instead, or paint fewer."
            )

    def scenes(
        self, volumes: Mapping[str, Sequence[Volume]]
    ) -> Mapping[str, Sequence[Volume]]:
        """Make an image of each painted slice; in 2.5D, with its neighbours."""
        self.check_targets(volumes["target"])
        sources, targets = [], []
        painted = check_painted(volumes["target"], self.labels, self.unpainted)
        pairs = zip(volumes["source"], volumes["target"], painted, strict=True)
        for source, target, slices in pairs:
            if source.axes == "YX":
                sources += [source] * len(slices)
                targets += [target] * len(slices)
                continue
            for z in slices:
                sources.append(self._slab(source, z))
                targets.append(self._slab(target, z, painted=True))
        return {"source": sources, "target": targets}

    def _slab(self, volume: Volume, z: int, *, painted: bool = False) -> Volume:
        reach = self.config.planes // 2
        low, high = max(0, z - reach), min(volume.shape[0], z + reach + 1)
        if not reach:
            data: AnyArray = np.asarray(volume.data[z])
        elif painted:  # only the labels of slice z are used
            shape = (high - low, *volume.shape[1:])
            data = np.full(shape, self.unpainted, volume.dtype)
            data[z - low] = np.asarray(volume.data[z])
        else:
            data = np.asarray(volume.data[low:high])
        n = data.ndim
        return volume.replace(
            data=data,
            axes="ZYX"[-n:],
            voxel_size=volume.voxel_size[-n:],
            origin=((volume.origin[0] + low * volume.voxel_size[0],) if n == 3 else ())
            + volume.origin[1:],
            name=f"{volume.name} slice {z}",
            source=None,
        )

    def prepare(self, patches: Patches) -> None:
        """Check that voxels are painted in the training and the held-out part."""
        super().prepare(patches)
        for held_out in (False, True):
            if not self._painted_classes(patches, held_out=held_out):
                where = "held out for validation" if held_out else "trained on"
                raise VolumeError(
                    f"Nothing is painted in the part of the slices that is {where}. "
                    "Paint more of a slice, or change the validation fraction or the "
                    "seed."
                )

    def _painted_classes(self, patches: Patches, *, held_out: bool) -> set[int]:
        """Return the classes painted in the part that is trained on or held out."""
        # Searching for the remaining classes is faster than sorting all voxels.
        absent = set(self._classes)
        for scene in patches.scenes:
            cut, target = scene.split, np.asarray(scene.volumes["target"].data)
            for low, high in (cut.validation,) if held_out else cut.train:
                part = target.take(range(low, high), cut.axis)
                absent = {k for k in absent if not (part == k).any()}
        return set(self._classes) - absent

    def remarks(self, patches: Patches) -> list[str]:
        """Warn about classes that are not painted where the model is trained."""
        trained = self._painted_classes(patches, held_out=False)
        absent = [str(k) for k in self._classes if k not in trained]
        if not absent:
            return []
        *others, last = absent
        be, them = (
            (f"Classes {', '.join(others)} and {last} are", "them")
            if others
            else (f"Class {last} is", "it")
        )
        return [
            f"{be} not painted in the part of the slices that is trained on (a strip "
            "at one end is held out to evaluate the model), so the model cannot learn "
            f"{them}. Paint {them} there, or correct the number of classes "
            f"(--classes {self.config.classes})."
        ]

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw a patch with painted voxels, and change contrast and brightness."""
        for _ in range(_TRIES):
            drawn = patches.draw(rng, ("source", "target"))
            if (drawn["target"] != self.unpainted).any():
                break
        if not patches.validation and self.config.augment:
            drawn["source"] = _with_other_greys(drawn["source"], rng)
        return {"source": drawn["source"], "target": drawn["target"]}

    def starting_weights(self, model: Model) -> dict[str, Tensor]:
        """Return the weights of the model, with a new last layer.

        If the model has the same classes, its own last layer is kept.
        """
        settings = model.card.provenance.get("settings") or {}
        known = dict(settings.get("training") or {}).get("unpainted", UNPAINTED)
        trained = model.network().state_dict()
        own: dict[str, Tensor] = self.modules[self.result].state_dict()
        new = {name: own[name] for name in own if name.startswith(_HEAD)}
        old = {name: trained[name] for name in trained if name.startswith(_HEAD)}
        shapes = ({name: x.shape for name, x in head.items()} for head in (new, old))
        is_equal = len({tuple(sorted(each.items())) for each in shapes}) == 1
        if is_equal and known == self.unpainted:
            new = old
        return {name: x for name, x in trained.items() if name not in old} | new

    def optimiser(self, group: str, parameters: list[Any]) -> Any:
        """Return Adam, with a larger learning rate for new layers."""
        import torch

        rate, factor = self.config.learning_rate, self.config.head_rate
        if self.config.from_model is None:
            return torch.optim.Adam(parameters, lr=rate * factor, betas=(0.9, 0.99))
        network: Any = self.modules[self.result]
        head = list(network.head.parameters())
        others = [p for p in parameters if all(p is not q for q in head)]
        groups: list[AnyDict] = [
            {"params": others},
            {"params": head, "lr": rate * factor},
        ]
        return torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99))

    def intended_use(self) -> str:
        """Return the intended use, with the classes, for the card."""
        return (
            f"{super().intended_use()} Its output is a label image with the classes "
            f"{self._classes[0]} … {self._classes[-1]} of the painted slices."
        )

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return cross-entropy plus Dice loss, for the painted voxels only."""
        scores, target = self.output(batch), batch["target"]
        entropy = losses.labels.cross_entropy(scores, target, self.unpainted)
        overlap = losses.labels.dice_loss(scores, target, self.unpainted)
        total = entropy + overlap
        return total, {"loss": total, "entropy": entropy}

    def validate(self, batch: Batch) -> dict[str, float]:
        """Return 1 minus the mean Dice overlap of the painted voxels."""
        is_painted = batch["target"] != self.unpainted
        predicted = self.output(batch)[is_painted]
        target = batch["target"][is_painted]
        dice = losses.labels.mean_dice(predicted, target, self.labels)
        return {"missed overlap": 1 - dice}


def _has_head(network: str) -> bool:
    # Networks with levels are U-Nets; other networks have no separate last layer.
    return {"out_channels", "levels"} <= network_fields(network).keys()


def _with_other_greys(patch: AnyArray, rng: np.random.Generator) -> AnyArray:
    """Change contrast and brightness at random, and add white noise."""
    contrast = np.exp(_CONTRAST * rng.standard_normal())
    brightness = _BRIGHTNESS * rng.standard_normal()
    noise = rng.uniform(0, _NOISE) * rng.standard_normal(patch.shape, np.float32)
    changed: AnyArray = (contrast * patch + brightness + noise).astype(np.float32)
    return changed
