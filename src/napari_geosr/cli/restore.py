"""``napari-geosr restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_geosr.cli.options import (
    AS_FLAGS,
    InputPath,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.operations.inputs import InputConfig, open_volume
from napari_geosr.operations.restore import RestoreConfig, Restored, restore_steps


def restore(
    input: InputPath,  # noqa: A002  # the name that people see
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            help="File to write, in a folder that exists: .ome.tif, .tif or .ome.zarr."
        ),
    ],
    config: Annotated[RestoreConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Restore (denoise, super-resolve) a volume with a model, tile by tile."""
    from napari_geosr import io
    from napari_geosr.cli.console import print_json, run_command

    io.check_output(out, overwrite=overwrite)
    wanted = settings_from(RestoreConfig, config, settings)
    volume = open_volume(input, reading)
    result, warnings = run_command(
        lambda should_stop: restore_steps(
            volume,
            wanted,
            out=out,
            overwrite=overwrite,
            should_stop=should_stop,
        )
    )
    if json:
        print_json(_describe(result, warnings))
    elif result.complete:
        print(f"Wrote {result.path}")
    else:
        print(f"Stopped; the finished part is in {result.path}")
    return 0 if result.complete else 130


def _describe(result: Restored, warnings: list[str]) -> dict[str, object]:
    volume = result.volume
    return {
        "output": str(result.path),
        "complete": result.complete,
        "shape": list(volume.shape),
        "axes": volume.axes,
        "dtype": str(volume.dtype),
        "voxel_size": list(volume.voxel_size),
        "unit": volume.unit,
        "origin": list(volume.origin),
        "likeness": result.verdict.level,
        "warnings": warnings,
        "run": volume.provenance[-1].get("run") if volume.provenance else None,
    }
