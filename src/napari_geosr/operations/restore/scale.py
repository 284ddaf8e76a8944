"""Converts between grey scales of volumes and models; checks the strength."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.types import AnyDType
from napari_geosr.inference.padding import padding_value
from napari_geosr.networks import needs_noise

if TYPE_CHECKING:
    from napari_geosr.core.volume import ArrayLike, Volume
    from napari_geosr.inference.intensity import IntensityStatistics
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.card import ModelCard

#: Percentiles that enclose nearly all voxels.
_RANGE_PERCENTILES = (0.5, 99.5)
#: Minimum fraction of the grey-value range that these percentiles should span.
_MIN_FILLED_SHARE = 0.1
#: Maximum number of voxels that are examined completely; larger volumes are sampled.
_MAX_VOXELS = 2**22


def unit_range(dtype: AnyDType, statistics: IntensityStatistics) -> tuple[float, float]:
    """Return the grey values mapped to 0 and 1, as in image-processing programs.

    For 8-bit values these are 0 and 255. Values that are already between 0 and 1 keep
    their scale; otherwise the minimum and the maximum correspond to 0 and 1.
    """
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind in "bf" and statistics.minimum >= 0.0 and statistics.maximum <= 1.0:
        return 0.0, 1.0
    return statistics.minimum, statistics.maximum


def percentiles(source: ArrayLike, levels: Sequence[float]) -> tuple[float, ...]:
    """Return the percentiles of the finite voxels of an array.

    In arrays of up to 4 million voxels, all voxels are used; in larger ones, every n-th
    voxel along each axis (the same voxels in every run).

    Raises
    ------
    VolumeError
        If no voxel is finite, or the outermost percentiles are equal.
    """
    n = math.prod(source.shape)
    every = max(1, math.ceil((n / _MAX_VOXELS) ** (1 / len(source.shape))))
    planes = [
        np.asarray(source[i])[(slice(None, None, every),) * (len(source.shape) - 1)]
        for i in range(0, source.shape[0], every)
    ]
    values = np.concatenate([plane.reshape(-1) for plane in planes])
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not values.size:
        raise VolumeError("No voxel has a finite value.")
    found = tuple(float(v) for v in np.percentile(values.astype(np.float64), levels))
    if not found[0] < found[-1]:
        raise VolumeError(
            f"The percentiles {levels[0]:g} and {levels[-1]:g} of the grey values are "
            f"equal ({found[0]:g}), so the grey values cannot be scaled for this "
            "model. Crop the scan to the sample, or choose another model."
        )
    return found


def scaled(
    statistics: IntensityStatistics, card: ModelCard, volume: Volume
) -> IntensityStatistics:
    """Return the statistics with the grey scale that the model's card requires.

    A stored scale comes from the training data and is kept on the card. Otherwise the
    scale is computed from the whole volume, never from a part.

    Parameters
    ----------
    statistics : IntensityStatistics
    card : ModelCard
    volume : Volume
        The whole volume.

    Raises
    ------
    VolumeError
        If the volume has too few different values for the scale.
    """
    normalisation = card.normalisation
    own: tuple[float, float] | None = None
    if normalisation.kind == "stored":
        assert normalisation.mean is not None
        assert normalisation.std is not None
        own = normalisation.mean, normalisation.std
    elif normalisation.kind == "unit":
        low, high = unit_range(volume.dtype, statistics)
        own = low, high - low
    elif normalisation.kind == "percentiles":
        assert normalisation.percentiles is not None
        try:
            low, high = percentiles(volume.data, normalisation.percentiles)
        except VolumeError as error:
            raise VolumeError(f"{volume.title}: {error}") from error
        own = low, high - low
    output, hot = own, statistics.hot
    padding = padding_value(volume.data)
    if card.labels > 1:  # labels have no grey scale
        output = 0.0, 1.0
        hot = None if hot is None else replace(hot, kept=False)
        padding = None
    elif normalisation.output_mean is not None:
        assert normalisation.output_std is not None
        output = normalisation.output_mean, normalisation.output_std
        padding = padding if output == own else None
    return replace(statistics, input=own, output=output, hot=hot, padding=padding)


def scale_doubts(card: ModelCard, volume: Volume) -> Iterator[str]:
    """Warn if a few extreme voxels widen a scale defined by minimum and maximum."""
    if card.normalisation.kind != "unit" or volume.dtype == np.uint8:
        return

    try:
        lowest, low, high, highest = percentiles(
            volume.data, (0, *_RANGE_PERCENTILES, 100)
        )
    except VolumeError:
        return
    part = (high - low) / (highest - lowest)
    if part < _MIN_FILLED_SHARE and not 0 <= lowest < highest <= 1:
        yield (
            f"{card.name} expects grey values from 0 to 1, but in {volume.title} a few "
            "voxels stretch the range: 99 % of all voxels lie within only "
            f"{100 * part:.1f} % of the range, so their contrast is low for the model. "
            "Clip the outliers first."
        )


def with_padding(
    statistics: IntensityStatistics, cards: Sequence[ModelCard], volume: Volume
) -> IntensityStatistics:
    """Return statistics for an ensemble of models with separate scales.

    The value of constant padding is included if all models return the grey values of
    the scan.
    """
    if any(card.normalisation.output_mean is not None for card in cards):
        return statistics
    return replace(statistics, padding=padding_value(volume.data))


def check_same_scale(cards: tuple[ModelCard, ...]) -> None:
    """Raise `ConfigError` if models of an ensemble have incompatible scales."""
    for card in cards:
        if card.normalisation.kind in ("unit", "percentiles"):
            raise ConfigError(
                f"The grey scale that the model {card.name!r} derives from each "
                "volume cannot be combined with that of other models. Exclude the "
                "model from the ensemble."
            )


def check_strength(models: Sequence[Model]) -> None:
    """Raise `ConfigError` if a model has no strength setting."""
    for model in models:
        is_filter = not model.card.has_weights and model.card.task == "denoise"
        if not is_filter and not needs_noise(model.restorer()):
            raise no_strength(model)


def no_strength(model: Model) -> ConfigError:
    """Return the error for a model that has no strength setting."""
    return ConfigError(
        f"The model {model.card.name!r} does not use the noise level, so its strength "
        "cannot be set: leave --strength at 1, or choose a noise-bounded model or a "
        "filter."
    )
