"""Plan a scan: the number, size and positions of spots, and the files of the plan."""

from __future__ import annotations

import csv
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

from napari_geosr.core import provenance
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.lazy import cache_limited
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.measure import planning
from napari_geosr.measure.budget import cache_bytes
from napari_geosr.measure.planning.config import PlanConfig
from napari_geosr.measure.planning.result import SIZE_TITLES, SIZES_HEADING, ScanPlan
from napari_geosr.measure.reports.export import write_json
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.inputs.scan import input_warnings
from napari_geosr.operations.measure import files as report_files
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.measure.mask import align_mask, placement_remark

__all__ = [
    "SIZES_HEADING",
    "SIZE_TITLES",
    "PlanConfig",
    "ScanPlan",
    "check_files",
    "plan_files",
    "plan_record",
    "plan_steps",
    "write",
]


def plan_steps(
    volume: Volume,
    config: PlanConfig,
    mask: Volume | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ScanPlan]:
    """Plan how many spots to scan, and where, for a porosity of the required precision.

    Parameters
    ----------
    volume : Volume
        A low-resolution scan of the whole sample, or a high-resolution scan of one
        spot. Axes (Z, Y, X) or (Y, X); other axes must have length one.
    config : PlanConfig
    mask : Volume, optional
        Sample mask; non-zero voxels are sample. If its grid differs from that of
        `volume`, it is resampled by position.
    should_stop : callable

    Yields
    ------
    Step
        Also a `WarningIssued` for each remark.

    Returns
    -------
    ScanPlan

    Raises
    ------
    VolumeError
        If the volume cannot be measured, or the spot does not fit into it.
    Cancelled
        If `should_stop` returns True.
    """
    volume = one_volume(volume)
    for remark in input_warnings(volume):
        yield WarningIssued(message=remark)
    sample = None
    if mask is not None:
        if placed := placement_remark(mask, volume):
            yield WarningIssued(message=placed)
        sample = align_mask(mask, volume)
    nbytes = cache_bytes(volume.data, config.porosity_config())
    with cache_limited(volume.data, nbytes):
        return (
            yield from planning.plan_steps(
                volume, config, sample, should_stop=should_stop
            )
        )


def plan_files(folder: str | Path) -> dict[str, Path]:
    """Return the paths of a plan's files by kind: ``json``, ``sizes``, ``spots``."""
    folder = Path(folder).expanduser()
    return {
        "json": folder / "plan.json",
        "sizes": folder / "sizes.csv",
        "spots": folder / "spots.csv",
    }


check_files = report_files.check


def plan_record(
    volume: Volume, config: PlanConfig, mask: Volume | None = None
) -> AnyDict:
    """Create the provenance record of a plan; this reads the files or voxels."""
    given = {} if mask is None else {"mask": mask}
    return provenance.record(
        "plan",
        inputs={"input": volume, **given},
        settings=config.model_dump(mode="json"),
    )


def write(
    files: Mapping[str, Path],
    volume: Volume,
    plan: ScanPlan,
    config: PlanConfig,
    *,
    mask: Volume | None = None,
    record: AnyMapping | None = None,
    overwrite: bool = False,
) -> None:
    """Write the files of a plan: all of them or, if the disk is full, none.

    Parameters
    ----------
    record : mapping, optional
        The provenance record; by default, it is created by `plan_record`.

    Raises
    ------
    FileError
        If the folder cannot be created, or a file cannot be written.
    """
    check_not_source(volume, *files.values())
    if record is None:
        record = plan_record(volume, config, mask)
    with ExitStack() as stack:
        stack.enter_context(atomic.created_folder(files["json"].parent))
        made = stack.enter_context(
            atomic.replacing_all(list(files.values()), overwrite=overwrite)
        )
        values = plan.to_json_dict() | {"provenance": record}
        write_json(made[files["json"]], values)
        atomic.write_text(made[files["sizes"]], sizes_table(plan))
        atomic.write_text(made[files["spots"]], spots_table(plan))


def sizes_table(plan: ScanPlan) -> str:
    """Return a CSV table of spot sizes and the number of spots needed for each."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            f"edge ({plan.shown_unit})",
            "cubes",
            "sd",
            "measured",
            "spots",
            "half_width",
            "fraction_scanned",
        ]
    )
    for row in plan.sizes:
        writer.writerow(
            [
                f"{row.voxels * plan.voxel_size:.6g}",
                row.n_cubes,
                f"{row.sd:.6g}",
                row.is_measured,
                row.n_spots,
                f"{row.half_width:.6g}",
                "" if row.share is None else f"{row.share:.6g}",
            ]
        )
    return text.getvalue()


def spots_table(plan: ScanPlan) -> str:
    """Return a CSV table of the centres of the spots."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = "yx" if plan.flat else "zyx"
    axes = [f"{axis} ({plan.shown_unit})" for axis in names]
    writer.writerow(["spot", *axes, "porosity"])
    for spot in plan.spots:
        # Stages position samples to fractions of a micrometre over many centimetres.
        centre = [f"{value:.12g}" for value in spot.centre[-len(names) :]]
        writer.writerow([spot.stratum, *centre, f"{spot.porosity:.6g}"])
    return text.getvalue()
