"""What a card keeps of its training data, for comparison with later volumes."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_geosr.models.card import Reference, TrainingData
from napari_geosr.models.distribution import Signature, distance, draw_sample, signature
from napari_geosr.physics.simulated import open_simulated

#: Numbers of simulated volumes that are no training volumes, and how many are drawn.
_OTHERS, _N_OTHERS = 50_000, 128
_MOST = 160


def training_data(source: str, seed: int, **said: Any) -> TrainingData:
    """Examples of the volumes trained on, and how far others of the kind lie.

    Parameters
    ----------
    source : str
        Their name, ``simulated:KIND:FIRST-LAST``.
    seed : int
        Of the training.
    **said
        Further fields, in words or numbers.
    """
    kind = source.split(":")[1]
    others = f"simulated:{kind}:{_OTHERS}-{_OTHERS + _N_OTHERS - 1}"
    examples, held_out = _signatures(source), _signatures(others)
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
        seeds=(seed,),
        **said,
    )


def _signatures(names: str) -> list[Signature]:
    volumes = open_simulated(names)[:_MOST]
    found = (signature(draw_sample(volume)) for volume in volumes)
    return [made for made in found if made is not None]


def _rounded(rows: list[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), 3) for v in row) for row in rows)


def _reference(rows: tuple[tuple[float, ...], ...]) -> Reference:
    values = np.array(rows)
    mean, sd = _rounded([values.mean(axis=0), values.std(axis=0)])
    return Reference(mean=mean, sd=sd)


def _spread(values: list[float]) -> tuple[float, float]:
    median, largest = np.percentile(values, [50, 99])
    return round(float(median), 4), round(float(largest), 4)
