"""Reference data on a model card, with which later volumes are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.models.card import TrainingData, TrainingStatistic
from napari_geosr.models.distribution import Signature, distance, draw_sample, signature
from napari_geosr.physics.simulated import open_simulated

#: Number of the first simulated volume that is not used for training, and how many such
#: volumes are drawn.
_OTHERS, _N_OTHERS = 50_000, 128
_MOST = 160


def training_data(sources: Sequence[str], seed: int, **said: Any) -> TrainingData:
    """Return examples of training volumes, and distances of similar volumes to them.

    Parameters
    ----------
    sources : sequence of str
        Names of the training volumes, ``simulated:KIND:FIRST-LAST``.
    seed : int
        Seed of the training.
    **said
        Further fields with text or numbers.
    """
    last = _OTHERS + _N_OTHERS // len(sources) - 1
    kinds = [source.split(":")[1] for source in sources]
    others = [f"simulated:{kind}:{_OTHERS}-{last}" for kind in kinds]
    return compared(_signatures(sources), _signatures(others), (seed,), **said)


def compared(
    examples: Sequence[Signature],
    held_out: Sequence[Signature],
    seeds: tuple[int, ...],
    **said: Any,
) -> TrainingData:
    """Return examples of training scans, and the distances of other scans to them."""
    quantiles = _rounded([s.quantiles for s in examples])
    spectra = _rounded([s.spectrum for s in examples])
    return TrainingData(
        intensity_quantiles=_reference(quantiles),
        intensity_distance=_spread(
            [distance(s.quantiles, quantiles) for s in held_out]
        ),
        examples=quantiles,
        spectrum=_reference(spectra),
        spectrum_distance=_spread([distance(s.spectrum, spectra) for s in held_out]),
        spectrum_examples=spectra,
        seeds=seeds,
        **said,
    )


def _signatures(names: Sequence[str]) -> list[Signature]:
    volumes = [volume for name in names for volume in open_simulated(name)]
    step = math.ceil(len(volumes) / _MOST)
    found = (signature(draw_sample(volume)) for volume in volumes[::step])
    return [made for made in found if made is not None]


def _rounded(rows: list[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), 3) for v in row) for row in rows)


def _reference(rows: tuple[tuple[float, ...], ...]) -> TrainingStatistic:
    values = np.array(rows)
    mean, sd = _rounded([values.mean(axis=0), values.std(axis=0)])
    return TrainingStatistic(mean=mean, sd=sd)


def _spread(values: list[float]) -> tuple[float, float]:
    median, largest = np.percentile(values, [50, 99])
    return round(float(median), 4), round(float(largest), 4)
