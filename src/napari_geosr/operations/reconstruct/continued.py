"""Go on with a reconstruction that was stopped or killed: which rows are finished.

A run that is stopped keeps its file as ``STEM.incomplete.SUFFIX`` and says in it which
rows are there. A run that is killed cannot: it leaves a hidden file in the making, and
beside it a journal of the rows that had been handed to the system by then.
"""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core import processes, provenance
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.atomic import asked_for, leftovers, remove, write_text
from napari_geosr.io.output import Output
from napari_geosr.io.suffixes import incomplete_path, suffix_of
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.restore.continued import KeptPart

Rows = tuple[int, int]

#: Settings that change how a run goes, but not one voxel of its result.
_HOW = ("device", "memory", "threads")
#: Seconds between two entries of the journal.
_INTERVAL = 10.0
#: Seconds after which a journal of another computer is taken for one of a dead run.
_SILENCE = 600.0


class StillWrittenError(ConfigError):
    """Another run writes to the file at this moment."""


class Journal:
    """Which rows of a file in the making a killed run would leave, and who writes."""

    def __init__(self, output: Output | None) -> None:
        self.output = output
        if output is not None:
            self._write([])

    def note(self, rows: list[Rows]) -> None:
        """Say that these rows are finished; only now and then is it written."""
        if self.output is None or time.monotonic() - self._last < _INTERVAL:
            return
        self.output.array.flush()
        self._write(rows)

    def _write(self, rows: list[Rows]) -> None:
        assert self.output is not None
        entry = {
            "rows": joined(rows),
            "pid": os.getpid(),
            "started": processes.own_start(),
            "host": socket.gethostname(),
        }
        place, path = journal_of(self.output.temporary), self.output.path
        try:
            write_text(place, json.dumps(entry), overwrite=True, durable=False)
        except FileError as error:
            said = str(error).replace(journal_of(path).name, path.name)
            raise FileError(said) from error
        self._last = time.monotonic()

    def close(self) -> None:
        """Remove it: the file says itself what is finished, or is no more."""
        if self.output is not None:
            remove(journal_of(self.output.temporary))


def journal_of(partial: Path) -> Path:
    """Where the journal of a file in the making is."""
    return partial.with_name(f"{partial.name}.rows.json")


def find_unfinished(out: Path) -> Volume:
    """What an earlier run to `out` left, stopped or killed.

    Raises
    ------
    StillWrittenError
        If a run still writes to it.
    ConfigError
        If there is nothing.
    """
    parts = leftovers(out, suffix_of(out))
    journals = [(part, entry) for part in parts if (entry := _journal(part))]
    for part, entry in journals:
        if _still_runs(entry, journal_of(part)):
            raise StillWrittenError(
                f"A run still writes to {out.name} (process {entry.get('pid')} on "
                f"{entry.get('host')}). Wait for its end, or stop it."
            )
    stopped = incomplete_path(out)
    if stopped.exists():
        return io.read(stopped)
    for part, entry in journals:
        # Killed before the first rows were noted; of other computers nobody knows.
        if not entry["rows"] and entry.get("host") == socket.gethostname():
            remove(part)
            remove(journal_of(part))
    for part, entry in journals:
        if entry["rows"]:
            return _of_a_killed_run(part, entry)
    raise ConfigError(
        f"There is no {stopped.name} beside {out.name} to go on with: leave --continue "
        "out."
    )


def left_unfinished(out: Path) -> Volume | None:
    """What an earlier run to `out` left, if it left something that can be used.

    Raises
    ------
    StillWrittenError
        If a run still writes to it.
    """
    try:
        return find_unfinished(out)
    except StillWrittenError:
        raise
    except ConfigError:
        return None


def _journal(partial: Path) -> AnyDict | None:
    try:
        entry = json.loads(journal_of(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or it was cut off
        return None
    return entry if isinstance(entry, dict) and "rows" in entry else None


def _still_runs(entry: AnyMapping, journal: Path) -> bool:
    """Whether the run that wrote a journal goes on; never one of this process."""
    pid, started = entry.get("pid"), entry.get("started")
    if entry.get("host") != socket.gethostname():
        # On a folder that computers share, only the journal's age tells.
        return journal.exists() and time.time() - journal.stat().st_mtime < _SILENCE
    if not isinstance(pid, int):
        return False
    if pid == os.getpid():
        return False
    if isinstance(started, int | float):
        return processes.still_runs(pid, started)
    # Earlier releases wrote no start: who came after the last entry did not write it.
    return journal.exists() and processes.runs_since(pid, journal.stat().st_mtime)


def _of_a_killed_run(partial: Path, entry: AnyMapping) -> Volume:
    try:
        volume = io.read(partial)
    except FileError as error:
        raise ConfigError(
            f"What the earlier run left of {asked_for(partial.name)} cannot be read. "
            f"Delete it ({partial.name}) and reconstruct from the start."
        ) from error
    if not volume.provenance:
        raise ConfigError(
            f"What the earlier run left of {asked_for(partial.name)} does not say what "
            f"it was made with: delete it ({partial.name}) and reconstruct from the "
            "start."
        )
    boxes = boxes_of([(int(a), int(b)) for a, b in entry["rows"]], volume.shape)
    last = {**volume.provenance[-1], "finished": boxes}
    return volume.replace(provenance=(*volume.provenance[:-1], last))


def boxes_of(rows: list[Rows], shape: tuple[int, ...]) -> list[list[list[int]]]:
    """Finished rows as boxes for the record: ``[start, stop]`` along Z, Y, X."""
    return [[[a, b], [0, shape[1]], [0, shape[2]]] for a, b in joined(rows)]


def joined(rows: list[Rows]) -> list[Rows]:
    """Ranges of rows, from low to high, those that touch as one."""
    found: list[Rows] = []
    for start, stop in sorted(rows):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def rows_of(kept: KeptPart) -> list[Rows]:
    """Finished rows of a part."""
    return [(int(box[0].start), int(box[0].stop)) for box in kept.places]


def centre_of(unfinished: Volume) -> AnyDict | None:
    """What the record of an unfinished run says of the rotation axis."""
    record = unfinished.provenance[-1] if unfinished.provenance else {}
    found = record.get("centre")
    return dict(found) if isinstance(found, Mapping) and "column" in found else None


def kept_part(
    unfinished: Volume, record: AnyMapping, shape: tuple[int, ...]
) -> KeptPart:
    """Find what of `unfinished` a run with this `record` need not do again.

    Raises
    ------
    ConfigError
        If `unfinished` is no unfinished reconstruction, or not by the same run.
    """
    title = asked_for(unfinished.title)
    before = unfinished.provenance[-1] if unfinished.provenance else {}
    if before.get("operation") != "reconstruct" or "finished" not in before:
        raise ConfigError(
            f"{title} is no unfinished reconstruction, so there is nothing to go on "
            "with."
        )
    other = _differing(before, record)
    if tuple(unfinished.shape) != shape:
        other = other or "slices of another shape"
    if other:
        raise ConfigError(
            f"{title} was made with {other}, so its finished part does not fit the "
            "rest. Take the same again, or reconstruct from the start."
        )
    places = tuple(
        tuple(slice(start, stop) for start, stop in box) for box in before["finished"]
    )
    return KeptPart(unfinished, places, None)


def _differing(before: AnyMapping, now: AnyMapping) -> str:
    """What two runs differ in that would show in the result; "" if in nothing."""
    usual = ReconstructConfig().model_dump(mode="json")

    def seen(record: AnyMapping) -> AnyDict:
        # What an earlier release did not know is as by default.
        settings = {**usual, **(record.get("settings") or {})}
        return {
            "another rotation centre": (record.get("centre") or {}).get("column"),
            "other settings": {k: v for k, v in settings.items() if k not in _HOW},
            "other settings of the algorithm": record.get("algorithm"),
        }

    ours, theirs = seen(now), seen(before)
    found = differences(_entry_of(before), _entry_of(now))
    found += [what for what in ours if ours[what] != theirs[what]]
    return next(iter(found), "")


def _entry_of(record: AnyMapping) -> AnyMapping:
    return (record.get("inputs") or {}).get("input") or {}


def remove_unfinished(unfinished: Volume, finished: Path) -> None:
    """Delete the file of the part, now that what is left for `finished` holds it."""
    path = unfinished.source
    if path is None:
        return
    left = [incomplete_path(finished), *leftovers(finished, suffix_of(finished))]
    if path.resolve() in [known.resolve() for known in left]:
        remove(path)
        remove(journal_of(path))


#: What two scans may differ in, in words, and the entries that tell.
_ASPECTS: Mapping[str, tuple[str, ...]] = {
    "another input": ("checksum",),
    "another part of the input": ("dataset", "shape", "dtype"),
    "other angles": ("angles",),
    "another beam": ("geometry", "source_distance", "detector_distance"),
    "other flat or dark fields": ("flats", "darks", "line_integrals"),
    "another pixel size": ("pixel_size", "unit"),
    "another rotation centre": ("centre",),
}


def scan_entry_steps(
    scan: Projections, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Describe a scan for a record, with checksums.

    Raises
    ------
    Cancelled
        If `should_stop` says so.
    FileError
        If its file cannot be read any more.
    """
    as_volume = Volume(
        scan.data,
        "ZYX",
        (1.0, *scan.pixel_size),
        scan.unit,
        name=scan.name,
        source=scan.source,
    )
    described = yield from provenance.describe_steps(as_volume, should_stop)
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
    """What of an entry says which scan it was, wherever its file lies now."""
    keys = [key for names in _ASPECTS.values() for key in names]
    return {key: entry[key] for key in keys if key in entry}


def differences(before: AnyMapping, now: AnyMapping) -> list[str]:
    """In words what two entries, or identities, of scans differ in; empty: nothing.

    What an earlier release did not write down cannot be compared.
    """
    return [
        words
        for words, keys in _ASPECTS.items()
        if any(k in before and k in now and before[k] != now[k] for k in keys)
    ]
