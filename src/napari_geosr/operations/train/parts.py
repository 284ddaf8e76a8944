"""Reconstruct the parts of a scan into files in a job's folder.

All parts use the same rotation axis, incident intensity and size, so that their voxels
and grey values correspond.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError, FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    CentreFound,
    PreviewReady,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    recount,
)
from napari_geosr.core.types import AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.unfinished import usable_unfinished_steps
from napari_geosr.operations.reconstruct import (
    prepare_steps,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.fewer_views import ScanPart
from napari_geosr.operations.reconstruct.resume import (
    differences,
    scan_entry_steps,
)

if TYPE_CHECKING:
    from napari_geosr.learning.config import TrainingConfig
    from napari_geosr.operations.train.scans import ProjectionsConfig

#: Types of steps of a reconstruction or restoration that a training run reports.
REPORTED_STEPS = (StageStarted, CentreFound, WarningIssued)

#: Settings that are determined from the whole scan and apply to its parts.
_SHARED = ("centre", "incident", "full_turn")

Places = Sequence[tuple[ScanPart, Path]]


def shared_settings_steps(
    scan: Projections,
    scans: ProjectionsConfig,
    training: TrainingConfig,
    places: Places,
    should_stop: ShouldStop,
) -> Generator[Step, None, ReconstructConfig]:
    """Determine the settings that all parts share, using the whole scan.

    Parameters
    ----------
    scan : Projections
    scans : ProjectionsConfig
    training : TrainingConfig
    places : list of (ScanPart, Path)
        Parts of the scan, and the files of their reconstructions.
    should_stop : callable

    Raises
    ------
    FileError
        If existing reconstructions were made from other projections.
    ProjectionsError
        If the scan cannot be used, or its rotation axis cannot be found.
    Cancelled
        If `should_stop` returns True.
    """
    config = scans.reconstruction(device=training.device, threads=training.threads)
    whole = None
    for part, path in places:
        if path.exists():
            record = yield from _check_record_steps(path, part.scan, should_stop)
            if part.light == 1 and whole is None:
                whole = record
    if whole is not None:
        before = ReconstructConfig.from_mapping(whole["settings"])
        shared = {n: getattr(before, n) for n in _SHARED}
        return config.model_copy(update=shared)
    ready = yield from prepare_steps(scan, config, should_stop=should_stop)
    shared = {
        "centre": float(ready.centre.column),
        "incident": ready.incident if config.incident is None else config.incident,
        # In a part of the views, a full turn may not be recognised.
        "full_turn": "join" if ready.joined else "keep",
    }
    return config.model_copy(update=shared)


def were_views_joined(paths: Iterable[Path]) -> bool | None:
    """Return whether opposite views were joined; None if no file exists."""
    for path in paths:
        if path.exists():
            settings = io.read(path).provenance[-1]["settings"]
            return bool(settings.get("full_turn") == "join")
    return None


def _check_record_steps(
    path: Path, scan: Projections, should_stop: ShouldStop
) -> Generator[Step, None, AnyMapping]:
    """Return the provenance of a reconstruction, checking that the scan matches."""
    record = io.read(path).provenance[-1]
    now = yield from scan_entry_steps(scan, should_stop)
    changed = differences(record["inputs"]["input"], now)
    if changed:
        raise FileError(
            f"{scan.title} has changed since this training run began: {path.name} was "
            f"made with {' and '.join(changed)}. To resume, use the original scan; "
            "otherwise start a new training run."
        )
    return record


def reconstruct_parts_steps(
    places: Places, config: ReconstructConfig, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Reconstruct all missing parts, a block of rows at a time.

    Yields
    ------
    Step
        `StageStarted` for each part and `BlockDone` within it.

    Raises
    ------
    Cancelled
        If `should_stop` returns True; finished slices are kept.
    GeoSRError
        If the run fails.
    """
    for i, (part, path) in enumerate(places):
        if path.exists():
            continue
        require_one_process("Projections are reconstructed")
        stage = f"Reconstruction {i + 1} of {len(places)}: {part.title}"
        yield StageStarted(message=stage)
        with atomic.explained(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        steps = reconstruct_steps(
            part.scan,
            _with_part_intensity(config, part),
            out=path,
            unfinished=(yield from usable_unfinished_steps(path)),
            should_stop=should_stop,
        )
        done = yield from recount(steps, *REPORTED_STEPS)
        if not done.complete:
            raise Cancelled(f"Stopped during reconstruction {i + 1} of {len(places)}.")


def _with_part_intensity(
    config: ReconstructConfig, part: ScanPart
) -> ReconstructConfig:
    """Return settings with the incident intensity of a part; None if it is unknown."""
    if config.incident is None or part.light == 1:
        return config
    incident = None if part.light is None else config.incident * part.light
    return config.model_copy(update={"incident": incident})


def require_one_process(what: str) -> None:
    """Refuse to run as one of several processes, which would all write the files.

    Raises
    ------
    ConfigError
        If this is one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"{what} by a single process, but this job was started with several. Run "
            "it once without a multi-process launcher."
        )


def preview_slice_steps(path: Path, index: int | None) -> Generator[Step, None, None]:
    """Show a slice of a reconstruction until training provides a preview."""
    volume = io.read(path)
    z = volume.shape[0] // 2 if index is None else min(index, volume.shape[0] - 1)
    origin = (volume.origin[0] + z * volume.voxel_size[0], *volume.origin[1:])
    plane = np.asarray(volume.data[z : z + 1])
    yield PreviewReady(volume=volume.replace(data=plane, origin=origin, source=None))
