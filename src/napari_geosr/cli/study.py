"""``napari-geosr study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from napari_geosr.cli.commands import EXAMPLES
from napari_geosr.cli.kit.console import STOPPING, print_json, run_command
from napari_geosr.cli.kit.help_pages import with_examples
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.operations.inputs import open_volume
from napari_geosr.operations.reconstruct import open_projections
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput
from napari_geosr.operations.study import study_labels_steps, study_steps
from napari_geosr.operations.study.config import LabelsStudyConfig, StudyConfig
from napari_geosr.operations.study.report import terminal_table
from napari_geosr.operations.study.subset import ScanSubset

if TYPE_CHECKING:
    from napari_geosr.operations.study import LabelsStudySummary, StudySummary

app = App(name="study", help_epilogue=with_examples(*EXAMPLES["study"]))


Folder = Annotated[
    Path,
    Parameter(
        alias="-o",
        help="Folder for the table and the report. An existing study there is resumed.",
    ),
]


@app.command(
    name="projections",
    help_epilogue=with_examples(*EXAMPLES["study projections"]),
)
def study_projections(
    projections: Annotated[
        Path,
        Parameter(
            help="The complete scan: projections as HDF5 (Data Exchange or NXtomo), "
            "TIFF stack or folder."
        ),
    ],
    /,
    *,
    out: Folder,
    reference: Annotated[
        Path | None,
        Parameter(
            help="Ground truth with the same slices as the reconstruction; "
            "by default the reconstruction from all projections."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        Parameter(
            help="Sample mask, as a volume; non-zero voxels belong to the sample."
        ),
    ] = None,
    config: Annotated[StudyConfig | None, AS_FLAGS] = None,
    reading: Annotated[ProjectionsInput | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Find the fewest projections that still give the correct porosity and pore sizes.

    With `--exposure`, also find the shortest exposure.
    """
    merged = settings_from(StudyConfig, config, settings)
    scan = open_projections(projections, reading)
    given = {
        "reference": None if reference is None else open_volume(reference, None),
        "mask": None if mask is None else open_volume(mask, None),
    }
    done, warnings = run_command(
        lambda should_stop: study_steps(
            scan, out, merged, **given, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        print_json(
            {
                "rows": done.rows,
                "reference": done.reference,
                "savings": done.savings,
                "fewest": done.fewest,
                "least": done.least,
                "files": {key: str(path) for key, path in done.files.items()},
                "warnings": warnings,
            }
        )
    else:
        _print(done)
    return 0


@app.command(name="labels", help_epilogue=with_examples(*EXAMPLES["study labels"]))
def study_labels(
    *,
    source: Annotated[Path, Parameter(help="The scan, as a stack of slices.")],
    labels: Annotated[
        Path,
        Parameter(
            help="Labels of some or all slices: classes 0, 1, 2 …, and 255 where "
            "nothing is painted."
        ),
    ],
    out: Folder,
    config: Annotated[LabelsStudyConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Find how many labelled slices suffice for a segmentation."""
    merged = settings_from(LabelsStudyConfig, config, settings)
    scan, painted = open_volume(source, None), open_volume(labels, None)
    done, warnings = run_command(
        lambda should_stop: study_labels_steps(
            scan, painted, out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        files = {key: str(path) for key, path in done.files.items()}
        print_json(
            {
                "curve": done.curve,
                "fewest": done.fewest,
                "rows": done.rows,
                "files": files,
                "warnings": warnings,
            }
        )
    else:
        _print_labels(done)
    return 0


def _slices(count: int) -> str:
    return "labelled slice" if count == 1 else "labelled slices"


def _print_labels(done: LabelsStudySummary) -> None:
    print("Mean intersection over union on the held-out slices, in %")
    for each in done.curve:
        spread = "" if each["spread"] is None else f" ± {100 * each['spread']:.1f}"
        print(
            f"  {each['labels']:>3} {_slices(each['labels'])}, {each['method']}: "
            f"{100 * each['mean_iou']:.1f}{spread}"
        )
    for method, count in done.fewest.items():
        are = "is" if count == 1 else "are"
        print(
            f"{method}: {count} {_slices(count)} {are} enough to come "
            "within 1 percentage point of the result with the largest number tried"
        )
    print(f"Wrote {done.files['csv']}")


def _print(done: StudySummary) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(terminal_table(done), highlight=False)
    for name, least in done.least.items():
        text = "none of those tried" if least is None else ScanSubset.of(least).title
        console.print(
            f"{escape(name)}: smallest scan that still gives the correct porosity: "
            f"{text}",
            highlight=False,
        )
    print(f"report: {done.files['html']}")
