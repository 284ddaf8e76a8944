"""Prepares a reconstruction: rows, rotation axis, checks and warnings."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, cast

from napari_geosr.core.angles import closes_turn, covered_degrees, distinct_places
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    CentreFound,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.inference.device import pick_device
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.scan import (
    ReconstructionInput,
    given_centre,
    is_off_middle,
    ready_scan,
    used_projections,
)
from napari_geosr.tomography import engines
from napari_geosr.tomography.algorithms import beam_of
from napari_geosr.tomography.centre import Centre, find_centre
from napari_geosr.tomography.fan_weights import needed_degrees
from napari_geosr.tomography.preprocess import beam_without_sample

if TYPE_CHECKING:
    from napari_geosr.physics.projection.geometry import FanGeometry, ParallelGeometry
    from napari_geosr.tomography.preparation_config import PreparationConfig

#: Minimum fraction of the required angular range that a complete scan covers, and of
#: its views that have different directions.
_COMPLETE = 0.95


def prepare_steps(
    projections: Projections,
    config: ReconstructConfig,
    *,
    known: Centre | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ReconstructionInput]:
    """Choose rows and projections, find the rotation axis and check the settings.

    Parameters
    ----------
    known : Centre, optional
        The rotation axis, if it has already been found with the same settings.

    Yields
    ------
    Step
        `CentreFound`.

    Returns
    -------
    ReconstructionInput

    Raises
    ------
    ProjectionsError, ConfigError
        If projections and settings are inconsistent, or the axis cannot be found.
    """
    if projections.geometry == "cone" and config.algorithm == "fbp":
        # FDK is the cone-beam version of FBP.
        config = config.model_copy(update={"algorithm": "fdk"})
    device = pick_device(config.device)
    # Both halves of a scan use the rotation axis of the whole scan, so that they
    # coincide.
    whole = config.model_copy(update={"half": "all"})
    searched = used_projections(projections, whole)
    thinned = used_projections(projections, config)
    first, last = config.rows or (0, projections.n_rows)
    scan = thinned if config.rows is None else thinned.rows(first, last)
    for note in projections.metadata.get("notes", ()):
        yield WarningIssued(message=note)
    for note in _warnings(scan, config):
        yield WarningIssued(message=note)
    incident = beam_without_sample(projections, config.preparation())
    centre = yield from _centre_steps(searched, config, known, incident, should_stop)
    for note in centre.notes:
        yield WarningIssued(message=note)
    ready = ready_scan(projections, scan, config, centre, device, first, incident)
    _check_early(ready)
    doubts = _fan_wedge_warnings(ready.geometry)
    for note in (*doubts, *_note_unjoined_views(ready), *_note_equivalent_views(ready)):
        yield WarningIssued(message=note)
    yield CentreFound(centre=centre)
    return ready


def _check_early(ready: ReconstructionInput) -> None:
    """Refuse invalid settings early.

    Otherwise, they would be refused only after the first block had been prepared.
    """
    engines.require(
        ready.config.engine, ready.config.algorithm, ready.geometry, ready.algorithm
    )
    ready.max_rows()


def _warnings(scan: Projections, config: ReconstructConfig) -> list[str]:
    """Return warnings to show before the reconstruction begins."""
    notes = []
    if scan.geometry == "parallel":
        seen = 180.0 - sum(width for _, width in scan.wedges)
        covered = min(scan.angular_range, seen)
        notes += _wedge_warnings(covered, 180.0)
    iterates = "iterations" in type(config.algorithm_config()).model_fields
    if iterates and config.size is not None and config.size < scan.n_columns:
        notes.append(
            f"Slices of {config.size} voxels are narrower than the {scan.n_columns} "
            f"columns of the detector: with {config.algorithm}, material outside the "
            "slices will cause artefacts inside them. Omit the size unless there is "
            "only air outside."
        )
    return notes


def _wedge_warnings(degrees: float, needed: float) -> list[str]:
    """Return a warning about a missing wedge in a scan."""
    if degrees >= _COMPLETE * needed:
        return []
    return [
        f"The projections cover {degrees:.4g} of {needed:.4g} degrees, so edges "
        "parallel to the missing beam directions will be blurred."
    ]


def _fan_wedge_warnings(geometry: ParallelGeometry) -> list[str]:
    """Warn if a fan- or cone-beam scan has a missing wedge; fbp and fdk refuse it."""
    if beam_of(geometry) == "parallel":
        return []
    fan = cast("FanGeometry", geometry)
    return _wedge_warnings(covered_degrees(fan.angles), needed_degrees(fan))


def _note_unjoined_views(ready: ReconstructionInput) -> list[str]:
    """Return a note if a full turn was scanned but opposite views are not joined."""
    scan, column = ready.scan, ready.centre.column
    around = ready.config.full_turn == "auto" and closes_turn(scan.angles)
    if scan.geometry != "parallel" or not around or ready.joined:
        return []
    if scan.is_full_turn or not is_off_middle(scan, column):
        return []
    return [
        f"The rotation axis, column {column:.2f}, is off-centre and the views cover a "
        "full turn, but not in opposite pairs, so they were not joined. If the sample "
        "extends beyond the detector on the shorter side, join the views (--full-turn "
        "join)."
    ]


def _note_equivalent_views(ready: ReconstructionInput) -> list[str]:
    """Return a note if the selected views cover each direction from both sides."""
    scan, every = ready.scan, ready.config.every
    alone = scan.geometry == "parallel" and not ready.joined
    if every == 1 or not alone or not scan.is_full_turn:
        return []
    n = len(distinct_places(scan.angles, 180.0))
    if n > _COMPLETE * scan.n_angles:
        return []
    return [
        f"The {scan.n_angles} projections used (--every {every}) cover only {n} "
        "directions, each from both sides: with an odd number of projections over a "
        "full turn, all directions would differ."
    ]


def _centre_steps(
    scan: Projections,
    config: ReconstructConfig,
    known: Centre | None,
    incident: float | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, Centre]:
    """Determine the rotation axis: from the settings, the file, or automatically."""
    if config.centre != "auto":
        return given_centre(float(config.centre), "given")
    if known is not None:
        return known
    if scan.centre is not None:
        return given_centre(scan.centre, "from the file")
    yield StageStarted(message="Finding the rotation axis")
    preparation = preparation_for_axis(config, incident)
    found = find_centre(scan, preparation=preparation, should_stop=should_stop)
    return found


def preparation_for_axis(
    config: ReconstructConfig, incident: float | None
) -> PreparationConfig:
    """Return the settings with which projections are prepared to find the axis.

    Stripe removal smooths the sinogram along the detector, which would move the axis.
    """
    return config.preparation().model_copy(
        update={"incident": incident, "stripes": "none"}
    )
