"""``napari-geosr compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import STOPPING, print_json, print_notes, run_command
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.operations.compare import (
    CompareConfig,
    CompareFields,
    compare_steps,
)
from napari_geosr.operations.compare import files as report_files
from napari_geosr.operations.inputs import (
    InputConfig,
    check_not_source,
    open_companion,
    open_volume,
)

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.compare import QualityReport
    from napari_geosr.operations.compare.config import FscSource

_REFERENCE = "reference"


def compare(
    input: Annotated[  # noqa: A002  # the name shown in the help
        Path,
        Parameter(
            help="First volume: TIFF, folder of slices, OME-Zarr, HDF5/NeXus, NIfTI or "
            "raw file. Without --reference, the others are compared with this volume."
        ),
    ],
    /,
    *others: Annotated[
        Path, Parameter(help="One to five more volumes of the same object.")
    ],
    out: Annotated[
        Path,
        Parameter(alias="-o", help="Folder for the report. Created if missing."),
    ],
    reference: Annotated[
        Path | None,
        Parameter(
            help="Ground truth, or the best scan available; all volumes are compared "
            "with it."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        Parameter(
            help="Sample mask, as a volume; non-zero voxels belong to the sample."
        ),
    ] = None,
    fsc: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Estimate the resolution by Fourier correlation. halves A1 A2: "
            "between two halves of one scan; pair: between the first two volumes, "
            "which must be independent scans; single: within each volume, split in a "
            "checkerboard pattern.",
        ),
    ] = None,
    config: Annotated[CompareFields | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Compare volumes of one object with a base; print and write the results."""
    source, paths = _parse_fsc(fsc)
    fields = settings_from(CompareFields, config, settings)
    merged = CompareConfig.create(**fields.model_dump(), fsc=source)
    letters = [chr(ord("A") + i) for i in range(1 + len(others))]
    keys = [*letters, *([] if reference is None else [_REFERENCE])]
    base = keys[0] if reference is None else _REFERENCE
    given = [input, *others, *([] if reference is None else [reference])]
    _refuse_studies(given)
    files = report_files.plan(out, keys, base, merged)
    report_files.check(files, overwrite=overwrite)
    volumes = {letters[0]: open_volume(input, reading)}
    notes: list[str] = []

    def companion(path: Path) -> Volume:
        volume, new_notes = open_companion(path, reading, volumes[letters[0]])
        notes.extend(new_notes)
        return volume

    volumes |= {
        key: companion(path) for key, path in zip(keys[1:], given[1:], strict=True)
    }
    sample = None if mask is None else companion(mask)
    halves = None if paths is None else (companion(paths[0]), companion(paths[1]))
    companions = report_files.companions_by_name(sample, halves)
    for volume in (*volumes.values(), *companions.values()):
        check_not_source(volume, *files.values())
    with report_files.claimed(files):
        report, warnings = run_command(
            lambda should_stop: compare_steps(
                volumes,
                merged,
                reference=None if reference is None else _REFERENCE,
                mask=sample,
                halves=halves,
                should_stop=should_stop,
            ),
            stopping=STOPPING,
        )
        earlier = report_files.earlier_files(files)
        report_files.write(
            files, volumes, report, merged, companions=companions, overwrite=overwrite
        )
        inputs = (*volumes.values(), *companions.values())
        notes += earlier.remove(files.values(), inputs)
    if json:
        all_warnings = list(dict.fromkeys([*notes, *report.warnings, *warnings]))
        written = {kind: str(path) for kind, path in files.items()}
        print_json({**report.to_dict(), "warnings": all_warnings, "files": written})
    else:
        _print(report)
        print_notes((*notes, *report.remarks))
        print(f"report: {files['html']}")
        last, base_path = [input, *others][-1], reference or input
        suggest_next(
            f"measure {quoted(last)} --reference {quoted(base_path)} -o report"
        )
    return 0


def _refuse_studies(paths: Sequence[Path]) -> None:
    """Reject the folder of a study before it is read as a stack of slices.

    Raises
    ------
    FileError
        If one of the paths is such a folder.
    """
    # A study started in napari is stored in the folder of its job.
    folders = [f for path in paths for f in (path, path / "result")]
    folders = [folder for folder in folders if (folder / "study.json").exists()]
    if not folders:
        return
    from napari_geosr.operations.study.store import is_study

    for folder in folders:
        if is_study(folder):
            raise FileError(
                f"{folder} contains a study, which keeps the measured values and "
                "pictures of its reconstructions but not their voxels. Open its table "
                f"in {folder / 'report.html'}; to compare volumes, reconstruct them "
                "first (napari-geosr reconstruct)."
            )


def _parse_fsc(words: list[str] | None) -> tuple[FscSource, tuple[Path, Path] | None]:
    """Convert the words after ``--fsc`` to the setting and the files of two halves."""
    match words:
        case None:
            return "none", None
        case ["halves", one, other]:
            return "halves", (Path(one), Path(other))
        case ["pair"]:
            return "pair", None
        case ["single"]:
            return "single", None
    raise ConfigError(
        f"--fsc {' '.join(words)} is invalid. Use --fsc halves A1 A2 with two files, "
        "--fsc pair, or --fsc single."
    )


def _print(report: QualityReport) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", box=None)
    for key, title in report.titles.items():
        base = " (base)" if key == report.base else ""
        table.add_column(escape(f"{title}{base}"), overflow="fold")
    for row in report.rows():
        table.add_row(row.label, *row.texts)
    Console().print(table, highlight=False)
    for name, text in report.resolution_rows():
        print(f"Resolution, {name}: {text}")
