"""Resumes a reconstruction that was stopped or killed, from its finished rows."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.array_parts.boxes import Box, boxes_from_lists
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.file_state import OPENED
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.hidden import with_user_names
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.restore.resume import FinishedPart

Rows = tuple[int, int]

#: Settings that affect the course of a run, but not its result.
_RUN_SETTINGS = ("device", "memory", "threads")


def boxes_of(rows: list[Rows], shape: tuple[int, ...]) -> list[Box]:
    """Convert ranges of rows to boxes along Z, Y, X."""
    rest = (slice(0, shape[1]), slice(0, shape[2]))
    return [(slice(a, b), *rest) for a, b in joined(rows)]


def joined(rows: list[Rows]) -> list[Rows]:
    """Return the ranges of rows in ascending order, with adjacent ranges merged."""
    found: list[Rows] = []
    for start, stop in sorted(rows):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def rows_of(kept: FinishedPart) -> list[Rows]:
    """Return the finished rows of an unfinished result."""
    return [(int(box[0].start), int(box[0].stop)) for box in kept.places]


def centre_of(unfinished: Volume) -> AnyDict | None:
    """Return the rotation axis recorded by an unfinished run; None if there is none."""
    record = unfinished.provenance[-1] if unfinished.provenance else {}
    found = record.get("centre")
    return dict(found) if isinstance(found, Mapping) and "column" in found else None


def finished_part(
    unfinished: Volume, record: AnyMapping, shape: tuple[int, ...]
) -> FinishedPart:
    """Find the part of `unfinished` that a run with this `record` can reuse.

    Parameters
    ----------
    unfinished : Volume
    record : mapping
        Provenance of the resuming run.
    shape : tuple of int
        Shape of the result of this run.

    Raises
    ------
    ConfigError
        If `unfinished` is not an unfinished reconstruction, or belongs to another run.
    """
    title = with_user_names(unfinished.title)
    before = unfinished.provenance[-1] if unfinished.provenance else {}
    if before.get("operation") != "reconstruct" or "finished" not in before:
        raise ConfigError(
            f"{title} is not an unfinished reconstruction, so there is nothing to "
            "resume."
        )
    other = _differing(before, record)
    if tuple(unfinished.shape) != shape:
        other = other or "slices of a different shape"
    if other:
        raise ConfigError(
            f"{title} was made with {other}, so its finished part does not match this "
            "run. Use the same input and settings as before, or start a new "
            "reconstruction."
        )
    places = tuple(boxes_from_lists(before["finished"]))
    run = before.get("run") or {}
    counted = {name: run[name] for name in ("preparation", "sums") if name in run}
    return FinishedPart(unfinished, places, None, run=counted)


def _differing(before: AnyMapping, now: AnyMapping) -> str:
    """Describe a difference between two runs that affects the result; "" if none."""
    usual = ReconstructConfig().model_dump(mode="json")

    def seen(record: AnyMapping) -> AnyDict:
        # Use default values for settings that an earlier release did not have.
        settings = {**usual, **(record.get("settings") or {})}
        return {
            "a different rotation centre": (record.get("centre") or {}).get("column"),
            "different settings": {
                k: v for k, v in settings.items() if k not in _RUN_SETTINGS
            },
            "different settings of the algorithm": record.get("algorithm"),
        }

    ours, theirs = seen(now), seen(before)
    old, new = _entry_of(before), _entry_of(now)
    found = differences(old, new)
    if found[:1] == [_OTHER_INPUT]:
        return provenance.describe_other_input(old, new)
    found += [what for what in ours if ours[what] != theirs[what]]
    return next(iter(found), "")


def _entry_of(record: AnyMapping) -> AnyMapping:
    return (record.get("inputs") or {}).get("input") or {}


_OTHER_INPUT = "a different input"
#: Descriptions of possible differences between two scans, and the entries to compare.
_ASPECTS: Mapping[str, tuple[str, ...]] = {
    _OTHER_INPUT: ("checksum",),
    "a different part of the input": ("dataset", "shape", "dtype"),
    "different angles": ("angles",),
    "a different beam": ("geometry", "source_distance", "detector_distance"),
    "different flat or dark fields": ("flats", "darks", "line_integrals"),
    "a different pixel size": ("pixel_size", "unit"),
    "a different rotation centre": ("centre",),
}


def as_volume(scan: Projections) -> Volume:
    """Return the projections as a volume that refers to the same file."""
    return Volume(
        scan.data,
        "ZYX",
        (1.0, *scan.pixel_size),
        scan.unit,
        name=scan.name,
        source=scan.source,
        metadata={k: v for k, v in scan.metadata.items() if k == OPENED},
    )


def scan_entry_steps(
    scan: Projections, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Describe a scan for a record, with checksums.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    FileError
        If the scan's file can no longer be read.
    """
    described = yield from provenance.describe_steps(as_volume(scan), should_stop)
    angles = np.ascontiguousarray(scan.angles)
    entry = {
        **{k: v for k, v in described.items() if k not in ("axes", "voxel_size")},
        "axes": "angle, row, column",
        "dataset": scan.metadata.get("dataset"),
        "pixel_size": list(scan.pixel_size),
        "geometry": scan.geometry,
        "source_distance": scan.source_distance,
        "detector_distance": scan.detector_distance,
        "angles": f"crc32:{zlib.crc32(angles.tobytes()):08x}",
        "line_integrals": scan.is_line_integrals,
        **{
            name: None if frames is None else provenance.array_checksum(frames)
            for name, frames in (("flats", scan.flats), ("darks", scan.darks))
        },
    }
    return entry


def identity_of(entry: AnyMapping) -> AnyDict:
    """Return the values in an entry that identify a scan, without its path."""
    keys = [key for names in _ASPECTS.values() for key in names]
    return {key: entry[key] for key in keys if key in entry}


def differences(before: AnyMapping, now: AnyMapping) -> list[str]:
    """List the differences between the entries (or identities) of two scans.

    Properties that an earlier release did not record are not compared.
    """
    return [
        words
        for words, keys in _ASPECTS.items()
        if any(k in before and k in now and before[k] != now[k] for k in keys)
    ]
