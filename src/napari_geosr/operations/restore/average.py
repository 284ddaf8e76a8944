"""Restore several scans of one object and average the model's results.

Noise2Inverse learns from reconstructions of disjoint subsets of the projections, and
its result is the mean of the network's outputs for these reconstructions [1]_. Two
scans of one object, as used by Noise2Noise, are averaged in the same way.

References
----------
.. [1] Hendriksen, Pelt, Batenburg. Noise2Inverse: self-supervised deep convolutional
   denoising for tomography. IEEE TCI 6, 1320-1335 (2020).
   doi:10.1109/TCI.2020.3019647
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDType
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.inference.members import NONE
from napari_geosr.learning.mean_volume import mean_volume
from napari_geosr.learning.methods.noise2inverse import inputs
from napari_geosr.models import zoo
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.preparation import prepare_steps
from napari_geosr.operations.restore.ranking import AUTO
from napari_geosr.operations.restore.run import RestorationResult, run_steps
from napari_geosr.operations.restore.verdict.steps import reported_verdict_steps
from napari_geosr.operations.storage import array_for

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard

T = TypeVar("T")

#: Pattern for a number with its sign; numbers are ignored when warnings are compared.
_FIGURE = re.compile(r"[-+]?\d[\d.,]*")
#: Number of planes that are summed at a time.
_PLANES = 8


def restore_average_steps(
    volumes: Sequence[Volume],
    config: RestoreConfig,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    look: bool = False,
    strict: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorationResult]:
    """Restore scans of one object and average the results.

    The model's card defines its inputs: each of the volumes, or for each volume the
    mean of all others (Noise2Inverse, strategy X:1).

    Parameters
    ----------
    volumes : sequence of Volume
        At least two, on the same grid.
    out : path, optional
        File to write at the end. By default the result is kept in memory, or in a zarr
        array in the cache folder if it does not fit.
    look, strict : bool
        As in `napari_geosr.operations.restore.restore_steps`: `look` applies to the
        first volume, `strict` to all of them.

    Yields
    ------
    Step
        The steps of each restoration.

    Returns
    -------
    RestorationResult

    Raises
    ------
    Cancelled
        If `should_stop` returns True. Nothing is returned, because a mean over some of
        the inputs is not a valid result.
    ConfigError, ModelError, VolumeError, DeviceMemoryError, FileError
        If the run fails; the message states the problem and what to do.
    """
    if out is not None:
        io.check_output(out, overwrite=overwrite)
    if len(volumes) < 2:
        raise ConfigError("An average needs at least two inputs of the same object.")
    volumes = [volume.select() for volume in volumes]
    for volume in volumes:
        check_not_source(volume, *([] if out is None else [out]))
    mean_volume(volumes, "all")  # raises an error for inputs that do not match
    if config.model == AUTO:
        raise ConfigError(
            "A model can be chosen only for one scan, not for the mean of several: "
            "rank the models for one of them (napari-geosr models rank) and give the "
            "model's name."
        )
    card = zoo.find(config.model).card
    _check_settings(config, card)
    if card.inputs not in (1, len(volumes)):
        yield WarningIssued(
            message=f"The model {card.name!r} was trained with {card.inputs} inputs "
            f"of one object, but {len(volumes)} are given: the noise level of their "
            "mean differs from that in training."
        )
    given = inputs(volumes, "X:1" if card.run_on == "others" else "1:X")
    first = yield from _mean_steps(given, config, should_stop, look=look, strict=strict)
    yield StageStarted(message="Finishing the mean")
    described = {}
    for i, volume in enumerate(volumes):
        described[f"input {i + 1}"] = yield from provenance.describe_steps(
            volume, should_stop
        )
    data, n_clipped = first.volume.data, 0
    if config.output_dtype == "input" and volumes[0].dtype.kind in "iu":
        data, n_clipped = _rounded(data, volumes[0].dtype)
    record = {
        **first.volume.provenance[-1],
        "inputs": described,
        "settings": config.model_dump(mode="json"),
        "output_dtype": str(data.dtype),
        "mean_over": {"outputs": len(given), "run_on": card.run_on},
    }
    volume = first.volume.replace(
        data=data,
        name=f"{volumes[0].name} · {card.name}",
        provenance=(*volumes[0].provenance, record),
    )
    if out is not None:
        written = io.write(volume, out, overwrite=overwrite)
        volume = io.read_back(written).replace(name=volume.name)
    if n_clipped:
        yield WarningIssued(
            message=f"{n_clipped} voxels lay outside the range of {data.dtype} and "
            "were clipped. Choose float32 output to keep them."
        )
    path = None if out is None else Path(out)
    return replace(first, volume=volume, path=path)


def _check_settings(config: RestoreConfig, card: ModelCard) -> None:
    if config.uncertainty != NONE:
        raise ConfigError(
            "--average and --uncertainty cannot be combined: omit one of them."
        )
    if card.labels > 1:
        raise ConfigError(
            f"The model {card.name!r} outputs labels, and labels have no mean. "
            "Restore the scans separately, without --average."
        )


def _mean_steps(
    given: Sequence[Volume],
    config: RestoreConfig,
    should_stop: ShouldStop,
    *,
    look: bool,
    strict: bool,
) -> Generator[Step, None, RestorationResult]:
    """Restore each volume in float32, and return the mean of the results.

    Metadata and records are those of the first restoration.
    """
    total: Any = None
    reported: set[str] = set()
    plain = config.model_copy(update={"output_dtype": "float32"})
    for i, volume in enumerate(given):
        yield StageStarted(message=f"Input {i + 1} of {len(given)}: {volume.name}")
        prepared = yield from _without_repetition(
            prepare_steps(volume, plain, should_stop=should_stop, alone=False),
            reported,
            volume.name,
        )
        if strict or (look and total is None):  # if strict, check every input
            prepared = yield from _without_repetition(
                reported_verdict_steps(
                    prepared, strict=strict, should_stop=should_stop
                ),
                reported,
                volume.name,
            )
        restored = yield from _without_repetition(
            run_steps(prepared, should_stop=should_stop), reported, volume.name
        )
        if not restored.complete:
            raise Cancelled(
                f"Stopped at input {i + 1} of {len(given)}, before the mean was "
                "complete."
            )
        if total is None:
            ran = restored.volume.provenance[-1]["backend"]["name"]
            # Use one backend for all scans.
            plain = plain.model_copy(update={"backend": ran})
            first, total = restored, array_for(restored.volume.shape, np.dtype("f4"))
        for key in _slabs(total):
            part = np.asarray(restored.volume.data[key]) / np.float32(len(given))
            total[key] = np.asarray(total[key]) + part
    return replace(first, volume=first.volume.replace(data=total))


def _without_repetition(
    steps: Generator[Step, None, T], reported: set[str], name: str
) -> Generator[Step, None, T]:
    """Yield all steps except repeated warnings; return the result.

    Warnings about two volumes count as equal if their first sentences differ only in
    numbers and in the `name` of the volume. Later sentences are not compared.
    """
    with StepIterator(steps) as iterator:
        for step in iterator:
            if not isinstance(step, WarningIssued):
                yield step
            elif (gist := _first_sentence(step.message, name)) not in reported:
                reported.add(gist)
                yield step
    return iterator.result


def _first_sentence(reported: str, name: str) -> str:
    """Return the first sentence without the volume's name and the numbers."""
    return _FIGURE.sub("", reported.replace(name, "")).split(". ")[0]


def _rounded(values: Any, dtype: AnyDType) -> tuple[Any, int]:
    """Convert `values` to integers; also return how many were clipped."""
    limits = np.iinfo(dtype)
    found, n_clipped = array_for(values.shape, dtype), 0
    for key in _slabs(values):
        # float64 represents the limits of all integer types exactly, except for 64-bit
        # types.
        wide = np.rint(np.asarray(values[key], np.float64))
        n_clipped += int(np.count_nonzero((wide < limits.min) | (wide > limits.max)))
        found[key] = np.clip(wide, limits.min, limits.max).astype(dtype)
    return found, n_clipped


def _slabs(array: ArrayLike) -> Iterator[slice]:
    """Yield slabs of a few planes each, because the array may be on disk."""
    for start in range(0, array.shape[0], _PLANES):
        yield slice(start, start + _PLANES)
