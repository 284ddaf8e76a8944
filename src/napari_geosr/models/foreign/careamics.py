"""Import CAREamics checkpoints: Noise2Void, CARE and Noise2Noise with its U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import networks
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.types import AnyMapping
from napari_geosr.models.card import Normalisation
from napari_geosr.models.foreign import ModelSource, tensors
from napari_geosr.models.foreign.draft import ImportDraft, name_of

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.foreign_formats import careamics as format_

ABOUT = "CAREamics checkpoints (.ckpt)"
SUFFIXES = tensors.SUFFIXES
#: Constant that CAREamics adds to a standard deviation.
_EPS_STD = 1e-6
#: Constant that CAREamics adds to a range of grey values.
_EPS_RANGE = 1e-8
_METHODS = {
    "n2v": "Noise2Void",
    "n2v2": "N2V2",
    "structn2v": "structN2V",
    "care": "CARE",
    "n2n": "Noise2Noise",
}


def recognises(source: ModelSource) -> bool:
    """Whether this is a weights file saved by CAREamics."""
    return source.suffix in SUFFIXES and is_checkpoint(source.tensors)


def read(source: ModelSource, channel: int | None) -> ImportDraft:
    """Import the one-channel network of a checkpoint."""
    del channel
    return draft(source.path, source.tensors)


def is_checkpoint(content: AnyMapping) -> bool:
    """Whether the contents of a file were saved by CAREamics."""
    settings = content.get("hyper_parameters")
    return (
        isinstance(settings, Mapping)
        and "state_dict" in content
        and ("algorithm_config" in settings or "algorithm" in settings)
    )


def draft(path: Path, content: AnyMapping) -> ImportDraft:
    """Import the network of a checkpoint.

    Raises
    ------
    ModelError
        If the method is not supported, or the network is not a U-Net with one channel.
    """
    settings = content["hyper_parameters"]
    algorithm = settings.get("algorithm_config", settings)
    kind = str(algorithm.get("algorithm", ""))
    if kind not in _METHODS or not isinstance(algorithm.get("model"), Mapping):
        raise ModelError(
            f"{path} is a CAREamics checkpoint for {kind or 'an unknown method'}; "
            f"only {', '.join(_METHODS.values())} can be imported."
        )
    shape = shape_of(algorithm["model"], str(path))
    state = {
        str(key).removeprefix("model."): tensor
        for key, tensor in content["state_dict"].items()
        if str(key).startswith("model.")
    }
    data = (content.get("datamodule_hyper_parameters") or {}).get("data_config") or {}
    normalisation, remark = _normalisation(data)
    info = content.get("careamics_info") or {}
    method = _METHODS[kind]
    return ImportDraft(
        name=name_of(str(info.get("experiment_name") or path.stem)),
        title=f"{method} by CAREamics: {info.get('experiment_name') or path.stem}",
        task="denoise",
        origin="careamics",
        config=config_of(shape),
        weights=weights_of(state),
        normalisation=normalisation,
        description=(
            f"Denoises: a U-Net with {shape.depth} levels, trained by CAREamics with "
            f"{method}, imported from {path.name}."
        ),
        not_for=(
            "Scans or noise unlike its training data; measurements, until its results "
            "have been compared with ground truth for scans of your kind."
        ),
        remarks=(remark,) if remark else (),
        provenance={
            "library": f"CAREamics {info.get('version', 'of unknown version')}",
            "algorithm": kind,
        },
    )


def shape_of(model: AnyMapping, where: str) -> format_.UNetSettings:
    """Return the settings of the U-Net, from the settings of a CAREamics model.

    Raises
    ------
    ModelError
        If the network is not a U-Net, or has several input or output channels.
    """
    from napari_geosr.networks.foreign_formats import careamics as format_

    known = format_.UNetSettings.model_fields
    architecture = str(model.get("architecture", "UNet"))
    if architecture != "UNet":
        raise ModelError(f"{where}: the network {architecture} cannot be imported.")
    try:
        shape = format_.UNetSettings.create(
            **{k: v for k, v in model.items() if k in known}
        )
    except ConfigError as error:
        raise ModelError(
            f"{where}: the settings of its U-Net are invalid: {error}"
        ) from error
    if (shape.in_channels, shape.num_classes) != (1, 1):
        raise ModelError(
            f"{where} has {shape.in_channels} input and {shape.num_classes} output "
            "channels; only models with one channel can be imported."
        )
    return shape


def config_of(shape: format_.UNetSettings) -> networks.foreign.NetworkConfig:
    """Return the settings of the adapter for a U-Net with the settings `shape`."""
    return networks.foreign.NetworkConfig(
        format="careamics",
        settings=shape.model_dump(mode="json"),
        ndim=shape.conv_dims,
        multiple_of=(2**shape.depth,) * shape.conv_dims,
    )


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by their names in the adapter."""
    return {
        f"inner.{key}": tensor
        for key, tensor in state.items()
        if not key.endswith(".kernel")  # blur kernels, which some versions save
    }


def _normalisation(data: AnyMapping) -> tuple[Normalisation, str]:
    """Return the scaling of the training data, and a remark if it is unknown."""
    given = data.get("normalization")
    scheme = given if isinstance(given, Mapping) else {}
    kind = scheme.get("name", "mean_std")
    if kind == "none":
        return _stored(0.0, 1.0, 0.0, 1.0), ""
    pairs = {
        "mean_std": (("input_means", "input_stds"), ("target_means", "target_stds")),
        "quantile": (
            ("input_lower_quantile_values", "input_upper_quantile_values"),
            ("target_lower_quantile_values", "target_upper_quantile_values"),
        ),
        "min_max": (("input_mins", "input_maxes"), ("target_mins", "target_maxes")),
    }.get(str(kind))
    if pairs is None:
        return Normalisation(), _UNKNOWN
    source, target = (_two(scheme, pair) for pair in pairs)
    if not scheme:  # CAREamics before 0.2
        source = _two(data, ("image_means", "image_stds"))
        target = _two(data, ("target_means", "target_stds"))
    if source is None:
        return Normalisation(), _UNKNOWN
    scales = []
    for first, second in (source, target or source):
        if kind == "mean_std":
            scales += [first, second + _EPS_STD]
        else:
            scales += [first, second - first + _EPS_RANGE]
    if scheme.get("skip_target"):  # targets were not scaled during training
        scales[2:] = [0.0, 1.0]
    return _stored(*scales), ""


_UNKNOWN = (
    "The file does not record how the training data were scaled: volumes are scaled "
    "by their own mean and standard deviation."
)


def _two(values: AnyMapping, names: tuple[str, str]) -> tuple[float, float] | None:
    statistics = []
    for name in names:
        value = values.get(name)
        value = value[0] if isinstance(value, list | tuple) and value else value
        if not isinstance(value, int | float):
            return None
        statistics.append(float(value))
    return statistics[0], statistics[1]


def _stored(
    mean: float, std: float, output_mean: float, output_std: float
) -> Normalisation:
    return Normalisation(
        kind="stored",
        mean=mean,
        std=std,
        output_mean=output_mean,
        output_std=output_std,
    )
