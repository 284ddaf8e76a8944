"""``napari-geosr jobs preview``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_geosr import io
from napari_geosr.cli.kit.console import print_json
from napari_geosr.cli.kit.elsewhere import Host
from napari_geosr.cli.kit.options import Json, Overwrite
from napari_geosr.core.errors import ConfigError, JobError
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import previews
from napari_geosr.jobs.cluster.login_node import check_host
from napari_geosr.jobs.index import Elsewhere, find

#: Suffixes allowed for the file to which the preview is written.
_SUFFIXES = (".tif", ".tiff")


def preview_jobs(
    job: Annotated[str, Parameter(help="Folder or name of the job.")],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "-o"], help="TIFF file to write."),
    ] = None,
    host: Host = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Write a small preview of what a job has computed so far; return the exit code.

    With --host, only the preview is copied from the other computer, not the volume.
    With --json, the file is printed as base64 text instead.

    Raises
    ------
    ConfigError
        If it is unclear where to write the preview.
    JobError
        If there is no preview yet, or jobs of this kind have none.
    """
    if json:
        if host is not None:
            raise ConfigError("Give --host or --json, not both.")
        print_json(previews.to_json(find(job)))
        return 0
    if out is None or out.suffix.lower() not in _SUFFIXES:
        raise ConfigError("Give the TIFF file to write, such as -o preview.tif.")
    atomic.refuse_existing(out, overwrite)
    if host is not None:
        found = previews.fetch(Elsewhere(check_host(host), job), out) is not None
    else:
        preview = previews.preview_of(find(job))
        found = preview is not None
        if preview is not None:
            io.write(preview.volume, out, overwrite=overwrite)
    if not found:
        raise JobError(f"{job} has no preview yet. Try again later.")
    print(f"Wrote {out}")
    return 0
