"""``napari-geosr explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import print_json, run_command
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    InputPath,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.operations import explain as explanation
from napari_geosr.operations.explain.config import ExplainConfig
from napari_geosr.operations.inputs import InputConfig, open_volume

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.operations.explain import ExplainResult


def explain(
    input: InputPath,  # noqa: A002  # the name shown in the help
    /,
    *,
    out: Annotated[
        Path,
        Parameter(alias="-o", help="Folder for the results. Created if missing."),
    ],
    pores: Annotated[
        Path | None,
        Parameter(
            help="Pore table (pores.csv) written by measure for this model's result; "
            "every pore in it is explained, instead of a single voxel."
        ),
    ] = None,
    config: Annotated[ExplainConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Show which voxels of a scan determine a voxel or pore of the restored volume.

    The input is the scan; the model restores the required part of it. --at takes voxel
    indices in the result. The command writes the values as JSON, the attributions as
    volumes on the grid of the scan and, with --pores, a pore table with evidence.
    """
    merged = settings_from(ExplainConfig, config, settings)
    explanation.check_files(out, merged, pores=pores is not None, overwrite=overwrite)
    volume = open_volume(input, reading)

    def steps(
        should_stop: ShouldStop,
    ) -> Generator[Step, None, tuple[ExplainResult, dict[str, Path]]]:
        result = yield from explanation.explain_steps(
            volume, merged, pores, should_stop=should_stop
        )
        written = yield from explanation.write_steps(
            result, out, overwrite=overwrite, should_stop=should_stop
        )
        return result, written

    (result, written), warnings = run_command(steps)
    if json:
        print_json(_describe(result, written, warnings))
        return 0
    print(result.sentence)
    if result.table is None:
        for name, finding in result.explanations[0].findings.items():
            if finding.sentence != result.sentence:
                print(f"  {name}: {finding.sentence}")
    print(f"Wrote {', '.join(str(path) for path in written.values())}")
    return 0


def _describe(
    result: ExplainResult, written: dict[str, Path], warnings: list[str]
) -> AnyDict:
    return {
        **result.to_json_dict(),
        "files": {name: str(path) for name, path in written.items()},
        "warnings": warnings,
    }
