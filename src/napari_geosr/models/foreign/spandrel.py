"""Import 2D weights supported by spandrel: super-resolution and denoising."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr import networks
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.text.vocabulary import Task
from napari_geosr.core.types import AnyMapping
from napari_geosr.models.card import Normalisation
from napari_geosr.models.foreign import ModelSource, tensors
from napari_geosr.models.foreign.draft import RGB_REMARK, ImportDraft, name_of
from napari_geosr.models.foreign.tensors import find_state, some_names

if TYPE_CHECKING:
    from torch import nn

ABOUT = "weights of 2D networks that spandrel supports (.pth, .pt, .safetensors)"
SUFFIXES = tensors.SUFFIXES
#: Try this format last, because spandrel recognises a network only from its tensors.
FALLBACK = True
#: Maximum difference from the library's own result, on a scale from 0 to 1.
_TOLERANCE = 1e-3
RANGE_REMARK = (
    "It works on grey values from 0 to 1. 8-bit values are divided by 255, values "
    "between 0 and 1 are unchanged, and all others are scaled from their lowest to "
    "their highest value; the result is scaled back and stays within that range."
)
_DENOISER_REMARK = (
    "Denoisers of this kind were trained for one noise level on that scale; inspect "
    "the result to see whether this level suits your scan."
)


def recognises(source: ModelSource) -> bool:
    """Whether this is a weights file, judged by its suffix."""
    return source.suffix in SUFFIXES


def read(source: ModelSource, channel: int | None) -> ImportDraft:
    """Import the network; several output channels are averaged."""
    del channel
    return draft(source.path, source.tensors)


def draft(path: Path, content: AnyMapping) -> ImportDraft:
    """Import the network to which the tensors of a file belong.

    Raises
    ------
    ModelError
        If spandrel is missing, or supports no image network with these tensors.
    """
    from napari_geosr.networks.foreign_formats import spandrel as format_

    state, holder = find_state(content)
    if not state:
        raise ModelError(
            f"{path} does not contain named tensors: it is not a weights file."
        )
    descriptor = find_descriptor(path, state)
    architecture = descriptor.architecture
    config = networks.foreign.NetworkConfig(
        format="spandrel",
        settings={"architecture": str(architecture.id)},
        in_channels=descriptor.input_channels,
        out_channels=descriptor.output_channels,
        upscale_factor=descriptor.scale,
        multiple_of=(_multiple(descriptor),) * 2,
        minimum_size=(max(1, descriptor.size_requirements.minimum),) * 2,
        after=(("clip", 0.0, 1.0),),
    )
    scale = descriptor.scale
    task: Task = "super-resolution" if scale > 1 else "denoise"
    channels = "colour" if descriptor.input_channels > 1 else "grey"
    task_text = (
        f"Enlarges images by a factor of {scale}" if scale > 1 else "Restores images"
    )
    remarks = [RANGE_REMARK]
    if descriptor.input_channels > 1:
        remarks.append(RGB_REMARK)
    if task == "denoise":
        remarks.append(_DENOISER_REMARK)
    if holder:
        remarks.append(f"The file's tensors under {holder!r} are used.")
    network = format_.SpandrelNetwork(descriptor)
    return ImportDraft(
        name=name_of(path.stem),
        title=f"{architecture.name}: {path.stem}",
        task=task,
        origin="spandrel",
        config=config,
        weights={f"inner.{key}": t for key, t in network.state_dict().items()},
        normalisation=Normalisation(kind="unit"),
        description=(
            f"{task_text} slice by slice with a {architecture.name} network "
            f"({', '.join([*descriptor.tags, channels])}), imported from {path.name}. "
            "The file does not record the training data."
        ),
        not_for=(
            "Measurements, until its results have been compared with ground truth "
            "for scans of your kind: networks of this family are made for "
            "photographs and invent detail."
        ),
        modalities=("photo",),
        remarks=tuple(remarks),
        provenance={"library": f"spandrel {format_.version()}"},
        check=_comparison_with(descriptor),
    )


def find_descriptor(path: Path, state: AnyMapping) -> Any:
    """Return the library's descriptor of the image network with these tensors.

    Raises
    ------
    ModelError
        If spandrel is missing or does not support such a network.
    """
    from napari_geosr.networks.foreign_formats import spandrel as format_

    try:
        library = format_.library()
    except ConfigError as error:
        raise ModelError(str(error)) from error
    version = format_.version()
    try:
        descriptor = library.ModelLoader().load_from_state_dict(dict(state))
    except library.UnsupportedModelError as error:
        raise ModelError(
            f"{path}: spandrel {version} does not recognise a network with these "
            f"tensors ({some_names(state)}). Update spandrel and try again: pip "
            "install -U spandrel"
        ) from error
    except Exception as error:  # similar networks can fail anywhere in spandrel
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{path}: its tensors ({some_names(state)}) resemble a network that "
            f"spandrel {version} supports, but do not match it ({reason}). This "
            "variant is not supported."
        ) from error
    channels = (descriptor.input_channels, getattr(descriptor, "output_channels", 0))
    if (
        descriptor.architecture.id in format_.UNSUPPORTED
        or descriptor.purpose not in ("SR", "Restoration")
        or not set(channels) <= {1, 3}
        or descriptor.size_requirements.square
    ):
        raise ModelError(
            f"{path} is a {descriptor.architecture.name} network "
            f"({descriptor.purpose}, {channels[0]} to {channels[1]} channels). Only "
            "networks that restore grey or colour images of any size can be imported."
        )
    descriptor.eval()
    return descriptor


def _multiple(descriptor: Any) -> int:
    """Return the required divisor of sizes, including the size of attention windows."""
    multiple = int(descriptor.size_requirements.multiple_of)
    settings = getattr(descriptor.model, "hyperparameters", {})
    window = settings.get("window_size", 1)
    if not isinstance(window, int) or window < 1:
        return multiple
    return math.lcm(multiple, window)


def _comparison_with(descriptor: Any) -> Callable[[nn.Module], None]:
    """Return a function that compares a network with the library's own forward pass."""

    def check(network: nn.Module) -> None:
        """Compare the results for an image of structure and noise with an odd size."""
        import torch

        side = max(40, int(descriptor.size_requirements.minimum)) + 5
        generator = torch.Generator().manual_seed(0)
        waves = torch.linspace(0, 9, side).sin()
        image = 0.5 + 0.25 * waves[:, None] * waves[: side - 4]
        image = image + 0.1 * torch.randn(image.shape, generator=generator)
        x = image.clamp(0, 1)[None, None]
        theirs = descriptor(x.repeat(1, descriptor.input_channels, 1, 1))
        with torch.no_grad():
            ours = network(x)
        difference = float((ours - theirs.mean(1, keepdim=True)).abs().max())
        if not difference <= _TOLERANCE:
            raise ModelError(
                "The output of the imported network differs from spandrel's own by "
                f"{difference:.2g} (on a scale from 0 to 1), so it was not imported. "
                "Please report this and attach the file."
            )

    return check
