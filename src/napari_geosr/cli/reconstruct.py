"""``napari-geosr reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import Field, create_model

from napari_geosr import io
from napari_geosr.cli.kit.console import STOPPING, print_json, run_command
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    Json,
    Overwrite,
    SettingsPath,
)
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.reconstruct import (
    find_unfinished,
    open_projections,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct.config import (
    SHARED_SETTINGS,
    ReconstructConfig,
    ReconstructFields,
    algorithm_options,
)
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop
    from napari_geosr.operations.reconstruct import ReconstructionResult


def _algorithm_flags() -> type[Config]:
    """Create flags for the settings of algorithms, including those of plugins."""
    fields: AnyDict = {
        name: (
            Annotated[kind | None, Parameter(negative="")],
            Field(None, title=title, description=help_),
        )
        for name, (kind, title, help_) in algorithm_options().items()
    }
    flags: type[Config] = create_model("AlgorithmFlags", __base__=Config, **fields)
    return flags


AlgorithmFlags = _algorithm_flags()


def reconstruct(
    projections: Annotated[
        Path,
        Parameter(
            help="Projections as HDF5 (Data Exchange or NXtomo), as a TIFF stack or "
            "as a folder; or a sinogram as TIFF."
        ),
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            alias="-o",
            help="File to write: .ome.tif, .tif or .ome.zarr. Its folder must exist.",
        ),
    ],
    config: Annotated[ReconstructFields | None, AS_FLAGS] = None,
    special: Annotated[AlgorithmFlags | None, AS_FLAGS] = None,  # type: ignore[valid-type]
    reading: Annotated[ProjectionsInput | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    resume: Annotated[
        bool,
        Parameter(
            name="--continue",
            negative="",
            help="Resume a run that was stopped or killed; finished slices are not "
            "computed again.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        Parameter(
            help="Number of processes that share the slices; memory and CPU threads "
            "are divided among them. By default, a single process is used. Requires "
            "the optional dependencies napari-geosr[cluster]."
        ),
    ] = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Reconstruct a volume from projections and write it to `out`.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    io.check_output(out, overwrite=overwrite, continues=resume)
    merged = merge_settings(config, special, settings)
    scan = open_projections(projections, reading)
    unfinished = find_unfinished(out) if resume else None

    def steps(should_stop: ShouldStop) -> Any:
        return reconstruct_steps(
            scan,
            merged,
            out=out,
            overwrite=overwrite,
            unfinished=unfinished,
            workers=workers,
            should_stop=should_stop,
        )

    result, warnings = run_command(steps, stopping=STOPPING, out=out)
    if json:
        print_json(_describe(result, warnings))
    elif result.complete:
        print(f"Rotation axis at column {_axis(result)}")
        print(f"Wrote {result.path}")
        suggest_next(f"restore {quoted(result.path)} -m auto -o restored.ome.tif")
    else:
        print(
            f"Stopped; the finished part is in {result.path}. To resume, "
            "repeat the command with --continue."
        )
    return 0 if result.complete else 130


def merge_settings(
    config: ReconstructFields | None, special: Config | None, path: Path | None
) -> ReconstructConfig:
    """Combine the settings file with the flags; the flags take precedence."""
    options = {} if special is None else special.model_dump(exclude_none=True)
    given = {} if config is None else config.model_dump(exclude_unset=True)
    stored: AnyDict = {}
    if path is not None:
        stored = ReconstructFields.from_yaml(path).model_dump(exclude_unset=True)
    if given.get("algorithm", stored.get("algorithm")) != stored.get("algorithm"):
        for name in (*SHARED_SETTINGS, "options"):  # set for another algorithm
            stored.pop(name, None)
    both = {**stored.get("options", {}), **given.pop("options", {}), **options}
    return ReconstructConfig.create(**{**stored, **given, "options": both})


#: Descriptions of how the rotation axis was obtained, if not determined by this run.
_ORIGINS = {"given": "as given", "from the file": "from the file"}


def _axis(result: ReconstructionResult) -> str:
    origin = _ORIGINS.get(result.centre.method, "determined from the projections")
    return f"{result.centre.column:.2f} ({origin})"


def _describe(result: ReconstructionResult, warnings: list[str]) -> dict[str, object]:
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
        "values": f"attenuation per {volume.unit}",
        "centre": {"column": result.centre.column, "method": result.centre.method},
        "warnings": warnings,
        "run": result.summary,
    }
