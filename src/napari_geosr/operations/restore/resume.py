"""Resumes an interrupted restoration, from its finished tiles."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_geosr.core.array_parts.boxes import (
    Box,
    boxes_from_lists,
    boxes_to_lists,
)
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.provenance import describe_other_input
from napari_geosr.core.steps import (
    SamplesKept,
    Step,
    StepIterator,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyDict, AnyDType, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.output import Output, copy_boxes
from napari_geosr.io.reading import read_file
from napari_geosr.io.suffixes import sibling_path
from napari_geosr.io.unfinished_files.hidden import with_user_names
from napari_geosr.io.unfinished_files.journal import SAMPLES, Journal
from napari_geosr.io.unfinished_files.unfinished import clear, find_unfinished
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.storage import CachedResult, find_unfinished_results

#: Suffix added to the names of standard deviations and of their file.
DEVIATION = "std"

#: Settings that are not compared: they affect only the course of a run, or name models,
#: which are compared by their weights.
_HOW = ("device", "memory", "threads", "backend", "model", "ensemble_with")

#: Default values, used for settings that are missing from a record.
_DEFAULTS = {name: field.default for name, field in RestoreConfig.model_fields.items()}

#: Difference to report if another channel or time point of the file was restored.
_OTHER_INPUT = "a different input"
_OTHER_PART = "a different part of the input"
#: Maximum difference between statistics of the same grey values, in units of their
#: standard deviation.
_ROUNDING = 1e-7

T = TypeVar("T")


def deviation_path(out: str | Path) -> Path:
    """Return the path of a result's standard deviations: ``STEM_std.SUFFIX``."""
    return sibling_path(Path(out), DEVIATION)


@dataclass(frozen=True)
class FinishedPart:
    """Finished tiles of an interrupted run.

    Attributes
    ----------
    volume : Volume
        Volume that contains the finished voxels.
    places : tuple of tuple of slice
        Finished boxes.
    tile : tuple of int or None
        Core size of the tiles of that run, if known.
    backend : str or None
        Backend that computed the boxes (`napari_geosr.inference.backends`), for
        resuming; None if no model was used.
    run : mapping
        Statistics of that run, from its record.
    """

    volume: Volume
    places: tuple[Box, ...]
    tile: tuple[int, ...] | None
    backend: str | None = None
    run: AnyMapping = field(default_factory=dict)

    @property
    def facts(self) -> AnyDict:
        """Recorded settings with which the remaining tiles must be computed."""
        found: AnyDict = {"run": dict(self.run)} if self.run else {}
        if self.tile is not None:
            found["run"] = {**self.run, "tile": list(self.tile)}
        if self.backend is not None:
            found["backend"] = {"name": self.backend}
        return found

    def copy_into(self, array: Any) -> None:
        """Copy the finished voxels box by box, a few megabytes at a time."""
        copy_boxes(self.volume.data, array, self.places)

    def writable(self) -> Any:
        """Return the volume's own array, to be completed.

        Raises
        ------
        ConfigError
            If it cannot be written.
        """
        array: Any = self.volume.data
        flags = getattr(array, "flags", None)
        frozen = getattr(array, "read_only", False)
        if (flags is not None and not flags.writeable) or frozen:
            raise ConfigError(
                f"{self.volume.title} cannot be written, so the restoration cannot be "
                "resumed in it. Save it to a file, or start a new restoration."
            )
        if not hasattr(array, "__setitem__"):
            raise ConfigError(
                f"{self.volume.title} was opened read-only: give an output file for "
                "the complete result."
            )
        return array


def finished_part(
    unfinished: Volume,
    record: AnyMapping,
    shape: Sequence[int],
    dtype: AnyDType,
) -> FinishedPart:
    """Find the part of `unfinished` that a run with this `record` can reuse.

    Parameters
    ----------
    record : mapping
        Provenance of the run that is about to start.
    shape, dtype
        Shape and type of its result.

    Raises
    ------
    ConfigError
        If `unfinished` is not an unfinished restoration, or belongs to another run.
    """
    title = with_user_names(unfinished.title)
    before = unfinished.provenance[-1] if unfinished.provenance else {}
    if before.get("operation") != "restore" or before.get("complete") is not False:
        raise ConfigError(
            f"{title} is not an unfinished restoration, so there is nothing to resume."
        )
    other = _differing(before, record)
    if tuple(unfinished.shape) != tuple(shape) or np.dtype(unfinished.dtype) != dtype:
        other = other or "a result of a different shape"
    if other:
        raise ConfigError(
            f"{title} was made with {other}, so its finished part does not match "
            "this run. Use the same input and settings as before, or start a new "
            "restoration."
        )
    # If a full disk prevented the finished tiles from being recorded, none is reused.
    places = tuple(boxes_from_lists(before.get("finished", [])))
    tile = (before.get("run") or {}).get("tile")
    return FinishedPart(
        unfinished, places, None if tile is None else tuple(tile), _backend(before)
    )


def part_of_killed_run(
    shape: Sequence[int], dtype: AnyDType, facts: AnyMapping
) -> FinishedPart | None:
    """Find the unfinished result of a killed run of the same restoration, if any.

    The search is limited to the cache.

    Parameters
    ----------
    shape, dtype
        Shape and type of the result.
    facts : mapping
        Known parts of its record. The checksum of the input is compared only when the
        run begins.
    """
    for volume in find_unfinished_results():
        before = volume.provenance[-1]
        known = {**facts, "inputs": before.get("inputs")}
        try:
            return finished_part(volume, known, shape, dtype)
        except ConfigError:
            continue  # the result is from another scan, model or setting
    return None


def _backend(record: AnyMapping) -> str:
    """Return the backend of a run; torch if its (older) record names none."""
    return str((record.get("backend") or {}).get("name", "torch"))


def _differing(before: AnyMapping, now: AnyMapping) -> str:
    """Describe a difference between two runs that affects the result; "" if none."""

    def seen(record: AnyMapping) -> AnyDict:
        # Earlier versions behaved as later ones do with the default values of new
        # settings.
        settings = _DEFAULTS | dict(record.get("settings") or {})
        if settings["sharpness"] == "auto":  # the chosen sharpness is compared below
            settings["sharpness"] = "scan"
        sharp = [one.get("as_sharp_as") for one in record.get("data_consistency") or ()]
        return {
            _OTHER_INPUT: _input_of(record).get("checksum"),
            _OTHER_PART: (record.get("series") or {}).get("points"),
            "a different model": (
                (record.get("model") or {}).get("weights_sha256"),
                (record.get("model") or {}).get("settings"),
                (record.get("uncertainty") or {}).get("weights_sha256"),
            ),
            "different standard deviations": (record.get("uncertainty") or {}).get(
                "this"
            ),
            "different settings": (
                {k: v for k, v in settings.items() if k not in _HOW},
                sharp,
            ),
            "a different output type": record.get("output_dtype"),
            "a different noise level": _noise_of(record),
        }

    ran = _backend(before)
    requested = (now.get("settings") or {}).get("backend", "auto")
    if requested not in ("auto", ran):
        return f"a different backend ({ran})"
    ours, theirs = seen(now), seen(before)
    for what, value in ours.items():
        if value != theirs[what]:
            if what == _OTHER_INPUT:
                return describe_other_input(_input_of(before), _input_of(now))
            return what
    return "" if _have_same_greys(now, before) else _OTHER_PART


def _noise_of(record: AnyMapping) -> object:
    """Return the noise level if it was not measured in the scan itself."""
    noise = record.get("noise") or {}
    return noise.get("level") if noise.get("source", "scan") != "scan" else None


def _input_of(record: AnyMapping) -> AnyMapping:
    return (record.get("inputs") or {}).get("input") or {}


def _have_same_greys(now: AnyMapping, before: AnyMapping) -> bool:
    """Return whether the statistics of two runs' grey values agree, up to rounding.

    The sums of grey values may differ, because other types of processor add them up in
    a different order.
    """

    def statistics(record: AnyMapping) -> list[tuple[Any, Any]]:
        grey = record.get("intensities") or {}
        return [
            (g.get("mean"), g.get("std")) for g in (grey, *grey.get("channels", ()))
        ]

    def agree(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> bool:
        if None in (*ours, *theirs):
            return ours == theirs
        tolerance = _ROUNDING * abs(theirs[1])
        return all(abs(a - b) <= tolerance for a, b in zip(ours, theirs, strict=True))

    ours, theirs = statistics(now), statistics(before)
    return len(ours) == len(theirs) and all(map(agree, ours, theirs))


def find_unfinished_deviation(out: Path) -> Volume:
    """Return the standard deviations that belong to the unfinished result `out`.

    The file of the deviations is renamed before that of the result. If a run is killed
    in between, the deviations are complete and can all be reused.

    Raises
    ------
    ConfigError
        If there are no such deviations.
    """
    path = deviation_path(out)
    if not path.exists():
        return find_unfinished(path)
    clear(path)
    whole = read_file(path)
    last = whole.provenance[-1] if whole.provenance else {}
    if last.get("operation") != "restore" or last.get("complete") is not True:
        raise ConfigError(
            f"{path.name} does not contain the standard deviations of a restoration, "
            "so there is nothing to resume. Choose another output."
        )
    box = tuple(slice(0, n) for n in whole.shape)
    record = {**last, "complete": False, "finished": boxes_to_lists([box])}
    return whole.replace(provenance=(*whole.provenance[:-1], record))


def begin_journal(output: Output | CachedResult, kept: FinishedPart | None) -> Journal:
    """Copy `kept` into a file to be filled, and return the journal of the file.

    A reopened file already contains `kept`.
    """
    if kept is None:
        return Journal(output)
    if output.is_reopened:
        return Journal(output, kept.places, kept.facts)
    journal = Journal(output)
    kept.copy_into(output.array)
    journal.add(kept.places, kept.facts)
    return journal


def journaled_steps(
    steps: Generator[Step, None, T], journals: Sequence[Journal]
) -> Generator[Step, None, T]:
    """Yield all steps, and record the finished tiles and samples."""
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, TileDone | SamplesKept):
                try:
                    for journal in journals:
                        if isinstance(step, TileDone):
                            journal.note(step.slices, step.facts)
                        else:
                            journal.add((), {SAMPLES: step.number})
                except FileError as error:
                    journals = ()
                    yield WarningIssued(
                        message=f"{error} If this run is killed, its finished part "
                        "will be lost."
                    )
            yield step
    return iterator.result
