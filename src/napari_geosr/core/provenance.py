"""Provenance: records of operations, inputs and settings, for reproducibility."""

from __future__ import annotations

import hashlib
import math
import platform
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.addresses import ADDRESS, METADATA_CHECKSUM
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.file_warnings import assumed_distances, file_warnings
from napari_geosr.core.machine.file_state import (
    FileState,
    KnownContents,
    file_state,
    is_identical,
    remember_contents,
    state_when_opened,
)
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.text.display import printable
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.version import __version__
from napari_geosr.core.volume import ArrayLike, Volume

#: Maximum size, in bytes, of files that are hashed completely; for larger files, only a
#: sample of blocks is hashed.
_WHOLE_FILE_BYTES = 2 * 10**9
_BLOCK = 1 << 20
#: Number of blocks between progress reports, read in about a fifth of a second.
_BLOCKS_PER_REPORT = 64
#: Metadata key of a function that takes a volume and `should_stop`. The function
#: returns whether voxels that can be edited, such as those of a layer, are still those
#: of the source file.
IS_IN_FILE = "is_in_file"
#: Operations that write a difference: a residual, or the noise that was removed.
_DIFFERENCES = ("check", "difference")

#: Change that is recorded if the voxels of a layer differ from those in its file.
_EDITED = "edited after it was opened"

#: Cache of checksums of large files, keyed by path, inode, size and times of change.
_checksum_cache: OrderedDict[tuple[Any, ...], str] = OrderedDict()
_MAX_CACHED = 32
#: Minimum time, in seconds, since the last change of a file for its checksum to be
#: cached: a newer file may change again within the resolution of its time stamp.
_SETTLED_SECONDS = 2.0


def checksum(
    path: Path,
    should_stop: ShouldStop = never_stop,
    on_progress: Callable[[int, int], None] | None = None,
) -> str:
    """Return a file's checksum: ``sha256:…``, or ``sha256-sampled:…`` above 2 GB.

    If a file exceeds 2 GB, only blocks spread over the file are hashed. Large files are
    not read again unless they have changed.

    Parameters
    ----------
    path : Path
    should_stop : callable
        Called before every block of 1 MiB.
    on_progress : callable, optional
        Called at intervals with the number of blocks read and the total number.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    key = _state(path)
    if key in _checksum_cache:
        return _checksum_cache[key]
    size = path.stat().st_size
    digest = hashlib.sha256()
    whole = size <= _WHOLE_FILE_BYTES
    if whole:
        positions = np.arange(0, size, _BLOCK)
    else:
        positions = np.linspace(0, size - _BLOCK, 512).astype(np.int64)
        digest.update(str(size).encode())
    with path.open("rb") as stream:
        for i, position in enumerate(positions):
            if should_stop():
                raise Cancelled("Stopped before the first tile.")
            stream.seek(int(position))
            digest.update(stream.read(_BLOCK))
            if on_progress is not None and (i + 1) % _BLOCKS_PER_REPORT == 0:
                on_progress(i + 1, len(positions))
    text = f"{'sha256' if whole else 'sha256-sampled'}:{digest.hexdigest()}"
    settled = time.time() - path.stat().st_mtime >= _SETTLED_SECONDS
    if is_large(path) and settled and key == _state(path):
        _checksum_cache[key] = text
        while len(_checksum_cache) > _MAX_CACHED:
            _checksum_cache.popitem(last=False)
    return text


def is_large(path: Path) -> bool:
    """Whether reading a file for its checksum may take a noticeable time."""
    return path.stat().st_size > _BLOCKS_PER_REPORT * _BLOCK


def _state(path: Path) -> tuple[Any, ...]:
    status = path.stat()
    changed = status.st_mtime_ns, status.st_ctime_ns
    return str(path.resolve()), status.st_ino, status.st_size, *changed


def folder_checksum(path: Path, should_stop: ShouldStop = never_stop) -> str:
    """Return ``sha256-listing:…`` of the names, sizes and first bytes of all files."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        if should_stop():
            raise Cancelled("Stopped before the first tile.")
        with file.open("rb") as stream:
            head = stream.read(4096)
        digest.update(
            f"{file.relative_to(path)}:{file.stat().st_size}:".encode() + head
        )
    return f"sha256-listing:{digest.hexdigest()}"


def array_checksum(data: ArrayLike) -> str:
    """Return ``crc32-sampled:…`` of up to 64 evenly spaced planes of an array."""
    crc = zlib.crc32(f"{tuple(data.shape)}{data.dtype}".encode())
    if data.ndim < 3:
        planes = [np.asarray(data)]
    elif data.ndim > 3:  # sample planes of the last two axes, not whole volumes
        leading = tuple(data.shape[:-2])
        flat = np.unique(np.linspace(0, math.prod(leading) - 1, 64).astype(int))
        places = zip(*np.unravel_index(flat, leading), strict=True)
        planes = [np.asarray(data[tuple(map(int, place))]) for place in places]
    else:
        index = np.unique(np.linspace(0, data.shape[0] - 1, 64).astype(int))
        planes = [np.asarray(data[int(i)]) for i in index]
    for plane in planes:
        crc = zlib.crc32(np.ascontiguousarray(plane).tobytes(), crc)
    return f"crc32-sampled:{crc:08x}"


def describe_steps(
    volume: Volume, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, AnyDict]:
    """Describe an input: its name, path, shape and checksum.

    The checksum of a file is given only if the file has not changed since it was
    opened. Otherwise, ``changed`` is set, a warning is issued, and the checksum is that
    of the voxels if they are already in memory, or None if they are not. If a layer was
    edited, or the file was deleted, the checksum is likewise that of the voxels.

    Raises
    ------
    FileError
        If the input's file can no longer be read.
    """
    source, changed = volume.source, ""
    address = volume.metadata.get(ADDRESS)
    before = state_when_opened(volume) or file_state(source)
    checksum_text: str | None
    try:
        if source is not None and source.is_file():
            if is_large(source) and _state(source) not in _checksum_cache:
                yield StageStarted(message="Computing the checksum of the input")
            checksum_text = checksum(source, should_stop)
        elif source is not None and source.is_dir():
            checksum_text = folder_checksum(source, should_stop)
        elif address is not None:  # hashing the voxels would fetch all of them
            checksum_text = str(volume.metadata.get(METADATA_CHECKSUM))
        elif source is not None and before is not None and before.is_folder:
            # The folder no longer exists; voxels that are not in memory cannot be read.
            checksum_text = None if volume.is_lazy else array_checksum(volume.data)
        else:
            checksum_text = array_checksum(volume.data)
    except OSError as error:
        raise FileError(
            f"{volume.title} cannot be read ({error.strerror or error}). Check that "
            "its file is still there and complete."
        ) from error
    if source is not None and before is not None and file_state(source) is None:
        changed = "deleted or moved after it was opened"
        message = f"{volume.title} was {changed}"
        if volume.is_lazy and before.is_folder:
            checksum_text = None
            message += (
                ", so parts of the result may be missing. Put it back, and repeat "
                "the run."
            )
        else:  # an open file stays readable
            message += "; the result is complete and based on its contents."
        yield WarningIssued(message=message)
    elif source is not None and _has_changed(before, source):
        checksum_text, changed = None, "after it was opened"
        message = f"{volume.title} was changed after it was opened"
        if volume.is_lazy:
            message += (
                ", so the result may be a mixture of old and new data. Repeat the run."
            )
        else:
            checksum_text = array_checksum(volume.data)
            message += (
                ", so the result is based on its earlier contents. The record does not "
                "contain the file's checksum. Repeat the run to use the new contents."
            )
        yield WarningIssued(message=message)
    elif source is not None and _is_edited(volume, should_stop):
        checksum_text, changed = array_checksum(volume.data), _EDITED
    elif source is not None and before is not None:
        assert checksum_text is not None
        remember_contents(source, before, _contents(source, checksum_text))
    warned = file_warnings(volume.metadata)
    assumed = assumed_distances(volume.metadata) if volume.has_physical_size else ()
    return {
        "name": printable(volume.name),
        "path": _place(source, address),
        "shape": list(volume.shape),
        "axes": volume.axes,
        "dtype": str(volume.dtype),
        "voxel_size": list(volume.voxel_size),
        "unit": volume.unit,
        "checksum": checksum_text,
        **({"changed": changed} if changed else {}),
        **({"warnings": [str(each) for each in warned]} if warned else {}),
        **({"made_from": origins} if (origins := _origins(volume)) else {}),
        **({"assumptions": [str(each) for each in assumed]} if assumed else {}),
    }


def describe_other_input(before: AnyMapping, now: AnyMapping) -> str:
    """Describe, for a message, how the input of a run differs from that of another.

    Parameters
    ----------
    before, now : mapping
        Descriptions of the two inputs in the records of the runs.
    """
    old, new = before.get("path"), now.get("path")
    if not old or not new:
        return "a different input"
    if old != new:
        return f"a different input ({old} instead of {new})"
    return f"a different input ({new} has changed since then)"


def _is_edited(volume: Volume, should_stop: ShouldStop) -> bool:
    """Whether the voxels of a layer are no longer those of its file."""
    is_in_file = volume.metadata.get(IS_IN_FILE)
    return callable(is_in_file) and not is_in_file(volume, should_stop)


def _origins(volume: Volume) -> list[str]:
    """Return the recorded checksums of all files from which `volume` was made."""
    found: dict[str, None] = {}
    for entry in volume.provenance:
        inputs = entry.get("inputs")
        for facts in inputs.values() if isinstance(inputs, Mapping) else ():
            text = facts.get("checksum") if isinstance(facts, Mapping) else None
            if isinstance(text, str):
                found[text] = None
    return list(found)


def _contents(source: Path, text: str) -> KnownContents:
    """Return the contents of a source that has the checksum `text`."""
    compute = folder_checksum if source.is_dir() else checksum

    def is_same() -> bool:
        with suppress(OSError):
            return compute(source) == text
        return False

    return KnownContents(is_same, is_complete=text.startswith("sha256:"))


def _place(source: Path | None, address: object) -> str | None:
    """Return the path or address of an input; None if it is only in memory."""
    place = address if source is None else source
    return None if place is None else printable(str(place))


def _has_changed(before: FileState | None, source: Path) -> bool:
    if before is None or before.matches(now := file_state(source)):
        return False
    return not is_identical(source, before, now)


def is_difference(provenance: Sequence[AnyMapping]) -> bool:
    """Whether a volume is a difference of two others, according to its records.

    The grey values of a difference are those of neither volume, so measurements in a
    difference are meaningless.
    """
    return bool(provenance) and provenance[-1].get("operation") in _DIFFERENCES


def record(
    operation: str,
    *,
    inputs: Mapping[str, Volume],
    settings: AnyMapping,
    model: AnyMapping | None = None,
    **more: Any,
) -> AnyDict:
    """Create a JSON-serialisable record of a run of `operation`.

    Parameters
    ----------
    operation : str
        Name of the command, such as ``"restore"``.
    inputs : mapping of str to Volume
        Inputs of the run by role; each is described with a checksum.
    settings : mapping
        All settings of the run.
    model : mapping, optional
        Name and checksum of the model.
    **more
        Further JSON-serialisable entries.
    """
    steps = record_steps(
        operation, inputs=inputs, settings=settings, model=model, **more
    )
    return run_to_end(steps)


def record_steps(
    operation: str,
    *,
    inputs: Mapping[str, Volume],
    settings: AnyMapping,
    model: AnyMapping | None = None,
    should_stop: ShouldStop = never_stop,
    **more: Any,
) -> Generator[Step, None, AnyDict]:
    """Create the same record as `record`, in steps: large inputs take seconds to hash.

    Parameters
    ----------
    operation, inputs, settings, model, **more
        As in `record`.
    should_stop : callable
        Called while checksums are computed.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    FileError
        If an input's file cannot be read.
    """
    described = {}
    for key, volume in inputs.items():
        described[key] = yield from describe_steps(volume, should_stop)
    entry: AnyDict = {
        "software": "napari-geosr",
        "version": __version__,
        "operation": operation,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "inputs": described,
        "settings": dict(settings),
    }
    if model is not None:
        entry["model"] = dict(model)
    return {**entry, **more}
