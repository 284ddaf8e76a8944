"""Base of learning methods: modules, batches and optimisation steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.learning.architecture import (
    check_network,
    network_bound,
    network_fields,
    network_kwargs,
)
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.labels import check_labels
from napari_geosr.learning.noise_input import apply_network
from napari_geosr.networks import build_network

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.learning.statistics import GreyScale
    from napari_geosr.models.bundle import Model

Arrays = dict[str, "AnyArray"]
Batch = dict[str, "Tensor"]
Losses = dict[str, "Tensor"]


class Updater(Protocol):
    """Interface of the training loop, as used by a method's step."""

    #: Number of steps done, and total number of steps.
    step: int
    steps: int

    def update(
        self,
        group: str,
        batches: Sequence[Batch],
        loss: Callable[[Batch], tuple[Tensor, Losses]],
    ) -> dict[str, float]:
        """Update the weights of one optimiser with the mean loss of `batches`.

        The batches are parts of a batch that may not fit into memory as a whole; their
        gradients are added up. If memory runs out, they are split into smaller batches
        and `loss` is called again for all patches. Returns the means of the named
        losses.
        """
        ...


class Method:
    """Base of all methods; by default, one network is trained with one loss.

    Attributes
    ----------
    roles : tuple of str
        Names of the sets of volumes that the method reads, as in ``config``.
    paired : bool
        Whether volumes of different roles show the same region.
    one_object : bool
        Whether all volumes show the same object. If so, the same block of all volumes
        is held out for validation, and the volumes are restored together.
    run_on : {"each", "others"}
        Input of the trained model if there are several volumes of one object: each
        volume, or the mean of all others.
    noisy_target : bool
        Whether targets are as noisy as sources: errors relative to the targets then
        include the noise of the targets, and differ from errors relative to a clean
        object.
    upscale_factor : int
        Voxels of the target per voxel of the source along each axis.
    labels : int
        Number of labels that the model predicts; 1 if it outputs grey values.
    stops_by_risk : bool
        Whether training ends when the expected error on held-out blocks stops falling,
        and returns the initial model if that is as good.
    unpainted : int or None
        Value of unlabelled voxels in a label image; None if all voxels have a label.
    replaced_settings : frozenset of str
        Settings of the network that may differ from those of the model to start from,
        because `starting_weights` replaces the layers concerned.
    validation_measure : str
        Description of the first value of `validate`, if it is the mean squared
        prediction error of voxels that are hidden from the network; otherwise empty.
    task : str
        Task on the card, for models that keep the voxel size.
    denoises : tuple of str
        Roles that the network restores; a noise-bounded network receives their noise.
        Empty if the method changes more than the noise, because noise-bounded networks
        are then not suitable.
    fits_last_layer : bool
        Whether ``"target"`` of a sample is, on average, the desired output for
        ``"source"`` (at the voxels of ``"mask"``, if there is one), so that a linear
        last layer can be fitted to it at the start.
    loss_titles : mapping of str to str
        Titles of the loss curves by name, up to 20 characters.
    """

    roles: tuple[str, ...] = ("source",)
    paired = True
    one_object = False
    noisy_target = False
    validation_measure = ""
    stops_by_risk = False
    fits_last_layer = False
    denoises: tuple[str, ...] = ()
    unpainted: int | None = None
    replaced_settings: frozenset[str] = frozenset()
    task: Literal["denoise", "translate", "generate"] = "denoise"
    # The type is read-only, because subclasses replace the mapping.
    loss_titles: Mapping[str, str] = {}
    #: The module that becomes the model.
    result = "network"
    #: Role of the scan that determines the grey scale of the model's output, "source"
    #: or "target".
    output_role = "source"

    @property
    def run_on(self) -> Literal["each", "others"]:
        return "each"

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.upscale_factor = 1
        self.labels = 1
        self.modules: dict[str, nn.Module] = {}

    @classmethod
    def check(cls, config: TrainingConfig) -> None:
        """Raise `ConfigError` if data are missing, or the network is not suitable."""
        if not config.source:
            raise ConfigError("Give the volume to train on (--source).")
        needs_target = "target" in cls.roles
        if needs_target and not config.target:
            raise ConfigError(
                "This method needs a target for each source: give --target."
            )
        if config.target and not needs_target:
            raise ConfigError(
                "This method learns from the sources alone: remove --target."
            )
        if needs_target and cls.paired and len(config.source) != len(config.target):
            raise ConfigError(
                f"There are {len(config.source)} sources and {len(config.target)} "
                "targets. Give one target for each source, in the same order."
            )
        check_network(config)
        if not cls.denoises and "bound" in network_fields(config.network):
            raise ConfigError(
                f"{config.network} limits the change of each voxel to a multiple of "
                "its noise, but this method needs larger changes: choose another "
                "network, such as msdnet."
            )

    @property
    def label_roles(self) -> tuple[str, ...]:
        """Roles of label volumes, which have no grey scale."""
        return (self.output_role,) if self.labels > 1 else ()

    def scenes(
        self, volumes: Mapping[str, Sequence[Volume]]
    ) -> Mapping[str, Sequence[Volume]]:
        """Assign the given volumes to the roles of patches.

        The i-th volumes of all roles become one scene.
        """
        return volumes

    def inspect(self, volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
        """Inspect the volumes before training; return notes for the user, as sentences.

        Only a few slices are read.
        """
        return []

    def check_targets(self, targets: Sequence[Volume]) -> None:
        """Raise `VolumeError` if label targets contain anything but labels."""
        check_labels(targets, self.labels)

    def independent_noise_along(self) -> str:
        """Return the axes (of ``"xyz"``) along which noise must be independent.

        Empty if the noise of neighbouring voxels may be correlated. The caller measures
        the noise of the sources before training, and warns if it is correlated along
        these axes.
        """
        return ""

    def prepare(self, patches: Patches) -> None:
        """Prepare the method for the training data before the first step."""

    def remarks(self, patches: Patches) -> list[str]:
        """Return warnings about the data that are trained on, as sentences."""
        return []

    def network_kwargs(self) -> AnyDict:
        """Return the settings of the network that becomes the model, for its card."""
        more = (
            {"upscale_factor": self.upscale_factor} if self.upscale_factor > 1 else {}
        )
        return network_kwargs(self.config, **more)

    @property
    def needs_noise(self) -> bool:
        """Whether the noise of the volumes must be measured before training."""
        kwargs = self.network_kwargs()
        return network_bound(self.config.network, kwargs) is not None

    @property
    def normalisation(self) -> Literal["stored", "volume"]:
        """Kind of normalisation: stored statistics, or those of each volume."""
        return self.config.normalisation

    def grey_scale(self) -> GreyScale | None:
        """Return the grey scale of the patches; None to compute it from the volumes."""
        return None

    def check_grey_scale(self, own: GreyScale, sources: Sequence[Volume]) -> list[str]:
        """Check that the sources fit the result of `grey_scale`; return warnings.

        Parameters
        ----------
        own : GreyScale
            Grey scale of the sources.
        sources : sequence of Volume
        """
        return []

    def starting_weights(self, model: Model) -> dict[str, Tensor]:
        """Return the weights of a trained model, from which training starts."""
        return model.network().state_dict()

    def noise_bound(self) -> float | None:
        """Return the bound on voxel changes, in noise levels; None if unbounded."""
        # With an upscale factor, only means over voxels of the scan are bounded.
        if self.upscale_factor > 1:
            return None
        return network_bound(self.config.network, self.network_kwargs())

    def output(self, batch: Batch) -> Tensor:
        """Return the network's output for ``batch["source"]``, with the patches' noise.

        See `napari_geosr.learning.noise_input`.
        """
        return apply_network(self.modules[self.result], batch)

    def build(self) -> dict[str, nn.Module]:
        """Create the modules with initial weights."""
        network = build_network(self.config.network, **self.network_kwargs())
        return {self.result: network}

    def state(self) -> AnyDict:
        """Return the state kept between steps, as tensors for the checkpoint."""
        return {}

    def restore_state(self, state: AnyMapping) -> None:
        """Load a state returned by `state`."""

    def intended_use(self) -> str:
        """Return the intended use, for the card."""
        return "Volumes recorded in the same way as the training data."

    def card_fields(self) -> AnyDict:
        """Return further fields of the model's card."""
        return {}

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Return the names of the modules updated by each optimiser."""
        return {self.result: (self.result,)}

    def optimiser(self, group: str, parameters: list[Any]) -> Any:
        """Create the optimiser for a group of modules."""
        import torch

        return torch.optim.Adam(
            parameters, lr=self.config.learning_rate, betas=(0.9, 0.99)
        )

    def draw(self, patches: Patches, rng: np.random.Generator) -> Arrays:
        """Draw one sample: arrays (C, [Z,] Y, X), a function of `rng` only."""
        return patches.draw(rng, self.roles)

    def loss(self, batch: Batch) -> tuple[Tensor, Losses]:
        """Return the loss of a batch, and its named parts."""
        raise NotImplementedError

    def train_step(self, loop: Updater, batches: Sequence[Batch]) -> dict[str, float]:
        """Take one step; methods with several optimisers use all of them here."""
        return loop.update(self.result, batches, self.loss)

    def validate(self, batch: Batch) -> dict[str, float]:
        """Evaluate a batch of the validation block, without gradients."""
        _, losses = self.loss(batch)
        return {name: float(value) for name, value in losses.items()}
