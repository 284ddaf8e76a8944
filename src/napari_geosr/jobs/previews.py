"""Small previews of what jobs have computed so far, here and on other computers.

A preview is one plane with at most 512 × 512 voxels; the volume itself is not copied.
"""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core.array_parts.boxes import Box, boxes_from_lists, n_voxels
from napari_geosr.core.errors import FileError, JobError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import ReadOptions
from napari_geosr.io.reading import read_file
from napari_geosr.io.suffixes import incomplete_path, suffix_of
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.hidden import leftovers
from napari_geosr.io.unfinished_files.journal import read_journal
from napari_geosr.jobs.cluster.login_node import output_of, profile_for
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import Elsewhere
from napari_geosr.jobs.kinds import FIT_NETWORKS, read_job, result_kind

#: Largest edge of a preview, in voxels.
_MAX_EDGE = 512
#: Largest preview that is accepted from another computer, in bytes.
_MAX_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Preview:
    """A small part of the result of a job.

    Attributes
    ----------
    stamp : int
        A number that changes whenever the preview changes.
    volume : Volume
        A plane of the result, or of the latest preview of a training run.
    """

    stamp: int
    volume: Volume


def preview_of(job: JobFolder) -> Preview | None:
    """Read the latest preview of a job on this computer; None if there is none yet.

    Training runs write previews. For jobs that compute a volume, the preview is the
    most complete plane, subsampled to every n-th voxel.

    Raises
    ------
    JobError
        If jobs of this kind have no previews, or the settings cannot be read.
    FileError
        If the volume cannot be read, or the result was moved.
    """
    status = job.status()
    if job.preview.is_file():
        volume = io.read(job.preview)
        return Preview(job.preview.stat().st_mtime_ns, _plane_of(volume, ()))
    if status.operation in FIT_NETWORKS:
        return None
    if result_kind(status.operation) != "volume":
        raise JobError(f"{status.name} computes no volume, so it has no preview.")
    values: Any = read_job(job.values(), job.path)[0]
    out: Path = values.result(job.path)
    if status.state != "done":
        found = _of_parts(out)
        if found is not None or job.status().state != "done":
            return found
    return _of_result(out)


def _of_result(out: Path) -> Preview:
    """Return the preview of a finished result."""
    try:
        stamp = out.stat().st_mtime_ns
    except OSError as error:
        raise FileError(
            f"The result is no longer at {out}. If it was moved, open it from its new "
            "location."
        ) from error
    return Preview(stamp, _plane_of(io.read(out), ()))


def _of_parts(out: Path) -> Preview | None:
    """Return the preview of an unfinished result; None if there is none."""
    entries = map(read_journal, leftovers(out, suffix_of(out)))
    known = [entry for entry in entries if entry is not None and entry.boxes]
    parts = [(entry.part, entry.boxes) for entry in known]
    stopped = incomplete_path(out)
    part = stopped
    try:
        if stopped.exists():
            boxes = _finished_boxes(read_file(stopped, ReadOptions()))
            parts.append((stopped, boxes))
        if not parts:
            return None
        part, boxes = max(parts, key=lambda each: sum(map(n_voxels, each[1])))
        plane = _plane_of(read_file(part, ReadOptions()), boxes)
    except (FileError, OSError):
        if part.exists():
            raise
        return None
    # If the file is renamed while it is being read, some values are missing.
    return Preview(sum(map(n_voxels, boxes)), plane) if part.exists() else None


def _finished_boxes(stopped: Volume) -> Sequence[Box]:
    """Return the finished boxes of a run that was stopped, from its record."""
    record = stopped.provenance[-1] if stopped.provenance else {}
    return boxes_from_lists(record.get("finished", []))


def _plane_of(volume: Volume, boxes: Sequence[Box]) -> Volume:
    """Subsample the middle plane, or the plane with the most voxels in `boxes`."""
    lead = volume.shape[:-2]
    index = np.unravel_index(_plane_number(volume.shape, boxes), lead) if lead else ()
    step = -(-max(volume.shape[-2:]) // _MAX_EDGE)
    slices = (*(slice(i, i + 1) for i in index), *[slice(None, None, step)] * 2)
    size, origin = list(volume.voxel_size), list(volume.origin)
    if volume.axes[-3:-2] == "Z":
        origin[-3] += float(index[-1]) * size[-3]
    size[-2:] = [each * step for each in size[-2:]]
    data = np.asarray(volume.data[slices])
    if boxes:
        place = [int(i) for i in index]
        covered = _covered(boxes, place, volume.shape)[::step, ::step]
        kind = data.dtype if data.dtype.kind == "f" else np.dtype(np.float32)
        data = np.where(covered, data.astype(kind), kind.type(np.nan))
    return volume.replace(
        data=data,
        voxel_size=tuple(size),
        origin=tuple(origin),
        source=None,
    )


def _covered(
    boxes: Sequence[Box], index: Sequence[int], shape: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Return a mask of the finished voxels of a plane; all others are 0 in the file."""
    covered = np.zeros(tuple(shape[-2:]), bool)
    for box in boxes:
        axes = zip(box, index, shape, strict=False)
        if all(i in range(*part.indices(n)) for part, i, n in axes):
            covered[tuple(box[-2:])] = True
    return covered


def _plane_number(shape: Sequence[int], boxes: Sequence[Box]) -> int:
    """Find the most complete plane; in a tie, the one nearest to the middle."""
    finished = np.zeros(tuple(shape[:-2]))
    for box in boxes:
        rows, columns = (len(range(*s.indices(n))) for s, n in _pairs(box, shape))
        finished[tuple(box[:-2])] += rows * columns
    flat = finished.ravel()
    best = np.flatnonzero(flat == flat.max())
    return int(best[np.argmin(abs(best - flat.size // 2))])


def _pairs(box: Box, shape: Sequence[int]) -> list[tuple[slice, int]]:
    return list(zip(box[-2:], shape[-2:], strict=True))


def to_json(job: JobFolder) -> dict[str, object]:
    """Return the latest preview as plain values; without one, ``tiff`` is empty.

    Raises
    ------
    GeoSRError
        As in `preview_of`.
    """
    found = preview_of(job)
    if found is None:
        return {"stamp": -1, "tiff": ""}
    with tempfile.TemporaryDirectory(prefix="napari-geosr-") as folder:
        path = Path(folder) / "preview.tif"
        io.write(found.volume, path)
        tiff = base64.b64encode(path.read_bytes()).decode()
    return {"stamp": found.stamp, "tiff": tiff}


def fetch(job: Elsewhere, to: Path, should_stop: ShouldStop = never_stop) -> int | None:
    """Copy the latest preview of a job on another computer into a TIFF file.

    Parameters
    ----------
    job : Elsewhere
    to : Path
        File to write; it is replaced.
    should_stop : callable
        Called while ssh runs.

    Returns
    -------
    int or None
        The stamp of the preview; None if there is none yet.

    Raises
    ------
    JobError
        If the computer does not respond, or its answer is not a preview.
    FileError
        If the file cannot be written.
    Cancelled
        If `should_stop` returns True.
    """
    words = ["jobs", "preview", job.folder, "--json"]
    text = output_of(job.host, words, profile_for(job.host), should_stop=should_stop)
    try:
        values = json.loads(text)
        stamp, tiff = int(values["stamp"]), cast("str", values["tiff"])
        content = base64.b64decode(tiff, validate=True)
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise JobError(
            f"The response from {job.host} is not a preview. Install the same version "
            "of napari-geosr on both computers."
        ) from error
    if not content:
        return None
    if len(content) > _MAX_BYTES:
        raise JobError(f"The preview from {job.host} is too large.")
    atomic.write_bytes(to, content, overwrite=True)
    return stamp
