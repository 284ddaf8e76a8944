"""``napari-geosr jobs repair``."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_geosr.cli.jobs.manage import Job
from napari_geosr.cli.kit.console import print_json, run_command
from napari_geosr.cli.kit.elsewhere import on_any_host
from napari_geosr.cli.kit.options import Json
from napari_geosr.cli.kit.verbosity import quoted
from napari_geosr.core.errors import JobError
from napari_geosr.core.types import AnyDict
from napari_geosr.io.unfinished_files.journal import written_by_job
from napari_geosr.jobs import index
from napari_geosr.jobs.index import find
from napari_geosr.operations import restore as restoration
from napari_geosr.operations.restore.job import RestoreJob

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.jobs.folder import JobFolder
    from napari_geosr.operations.restore import Repair


@on_any_host
def repair_jobs(job: Job, /, *, json: Json = False) -> int:
    """Check the OME-Zarr that a job has written and recompute damaged shards.

    Every chunk is compared with its checksum. Shards that are damaged or missing are
    listed and restored again if the scan and the model are unchanged; all other shards
    are left unchanged.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    JobError
        If the job is running, has not finished, or is not a restoration.
    """
    folder = find(job)
    status = folder.status()
    if status.is_alive:
        raise JobError(index.in_use_text(status, "be repaired now"))
    if status.operation != "restore":
        raise JobError(
            f"{status.name} is not a restoration: only restored volumes can be "
            "repaired. Run the job again in a new folder."
        )
    if status.state != "done":
        raise JobError(
            f"{status.name} is {status.state}, so its result cannot be repaired. "
            f"Resume it first: napari-geosr jobs resume {quoted(folder.path)}"
        )
    repair, _ = run_command(
        lambda should_stop: _repair_steps(folder, should_stop),
        stopping="stopping after this tile; the parts repaired so far are kept",
    )
    if json:
        print_json(
            {
                "output": str(repair.path),
                "shards": repair.n_shards,
                "repaired": list(repair.damaged),
            }
        )
    elif repair.damaged:
        print(f"Repaired {repair.path}: {', '.join(repair.damaged)}")
    else:
        print(f"{repair.path} is intact: all {repair.n_shards:,} shards were read.")
    return 0


def _repair_steps(
    folder: JobFolder, should_stop: ShouldStop
) -> Generator[Step, None, Repair]:
    settings = RestoreJob.from_values(_without_operation(folder.values()))
    with folder.hold(), written_by_job(folder.own_path):
        return (
            yield from restoration.repair_steps(
                settings, folder.path, should_stop=should_stop
            )
        )


def _without_operation(values: AnyDict) -> AnyDict:
    return {name: value for name, value in values.items() if name != "operation"}
