"""``napari-geosr plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import (
    name_in_errors,
    print_json,
    print_notes,
    run_command,
)
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    InputPath,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.operations.inputs import InputConfig, open_companion, open_volume
from napari_geosr.operations.measure.mask import check_known_place
from napari_geosr.operations.measure.planning import (
    SIZE_TITLES,
    SIZES_HEADING,
    PlanConfig,
    check_files,
    plan_files,
    plan_steps,
    write,
)

if TYPE_CHECKING:
    from napari_geosr.operations.measure.planning import ScanPlan


def plan(
    input: InputPath,  # noqa: A002  # the name shown in the help
    /,
    *,
    out: Annotated[
        Path,
        Parameter(alias="-o", help="Folder for the plan. Created if missing."),
    ],
    mask: Annotated[
        Path | None,
        Parameter(
            help="Sample mask, as a volume; non-zero voxels belong to the sample."
        ),
    ] = None,
    config: Annotated[PlanConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Plan the number, size and positions of scans to measure porosity precisely."""
    merged = settings_from(PlanConfig, config, settings)
    files = plan_files(out)
    check_files(files, overwrite=overwrite)
    volume = open_volume(input, reading)
    notes: list[str] = []
    sample = None
    if mask is not None:
        sample, notes = open_companion(mask, reading, volume)
        check_known_place(sample, volume)
    with name_in_errors(input):
        made, warnings = run_command(
            lambda should_stop: plan_steps(
                volume, merged, sample, should_stop=should_stop
            ),
            stopping="stopping after this slab (press Ctrl-C again to stop at once)",
        )
        write(files, volume, made, merged, mask=sample, overwrite=overwrite)
    if json:
        print_json(made.to_json_dict() | {"warnings": [*notes, *warnings]})
        return 0
    _print(made)
    print_notes(notes)
    print(f"plan: {files['json']}")
    return 0


def _print(made: ScanPlan) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", box=None, show_header=False)
    for label, text in made.rows():
        table.add_row(label, text)
    sizes = Table(*SIZE_TITLES, box=None)
    for row in made.size_rows():
        sizes.add_row(*row)
    console = Console()
    console.print(table, highlight=False)
    console.print(f"\n{SIZES_HEADING}", highlight=False)
    console.print(sizes, highlight=False)
    if made.size_note:
        console.print(made.size_note, highlight=False)
