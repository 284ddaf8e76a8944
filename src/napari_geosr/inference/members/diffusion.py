"""Samples of a diffusion model that agree with the scan.

Each member is a possible object: an image that is likely under the model and that
reproduces the scan up to its noise. The members are drawn by
`napari_geosr.learning.diffusion.posterior`, or, with models that were trained on pairs
of scans, by `napari_geosr.learning.diffusion.conditional`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import ConfigError

if TYPE_CHECKING:
    from napari_geosr.inference.members import EnsembleInputs
    from napari_geosr.inference.members._samples import SampledNetwork

TITLE = "diffusion samples"
HELP = (
    "objects that agree with the scan, sampled with a diffusion model (train ddpm or "
    "srdiff)"
)
NEEDS_OTHERS = False
#: Whether the members are drawn by a generative model.
GENERATIVE = True

#: Default number of samples.
_N_DEFAULT = 8


def make(inputs: EnsembleInputs) -> SampledNetwork:
    """Return a network that draws samples from the first model.

    Raises
    ------
    ConfigError
        If the model is not a diffusion model, or needs adjacent slices.
    """
    from napari_geosr.inference.members._samples import SampledNetwork

    model = inputs.models[0]
    card = model.card
    if not card.draws_samples:
        raise ConfigError(
            f"The model {card.name!r} cannot draw samples: its task is {card.task}. "
            "Choose a diffusion model (napari-geosr train ddpm or srdiff), or "
            "--uncertainty tta."
        )
    if card.adjacent_slices > 1:
        raise ConfigError(
            f"The model {card.name!r} needs adjacent slices and cannot draw samples. "
            "Train a model with --dimensions 2D or 3D."
        )
    network: Any = model.network()
    factors = network.spec.upscale_factor
    if not card.gives_samples:
        factors = (inputs.upscale_factor,) * len(card.axes)
    spec = replace(network.spec, upscale_factor=factors, n_outputs=2)
    return SampledNetwork(
        network, spec, inputs.n_members or _N_DEFAULT, inputs.seed, inputs.steps
    )
