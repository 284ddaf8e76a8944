"""``napari-geosr measure``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
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
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.units import shown_unit
from napari_geosr.operations.inputs import (
    InputConfig,
    check_not_source,
    open_companion,
    open_reference,
    open_volume,
)
from napari_geosr.operations.measure import (
    MeasureConfig,
    figure_rows,
    measure_several_steps,
    message_titles,
    named_warning,
    named_warnings,
    reference_first,
    reference_key,
)
from napari_geosr.operations.measure import files as report_files
from napari_geosr.operations.measure.files import column_titles
from napari_geosr.operations.measure.journal import MeasureJournal
from napari_geosr.operations.measure.mask import check_known_place
from napari_geosr.operations.measure.networks import (
    agreement_lines,
    agreement_of,
    check_distance,
)
from napari_geosr.operations.measure.remarks import includes_background

if TYPE_CHECKING:
    from napari_geosr.core.types import AnyDict
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport
    from napari_geosr.operations.measure.networks import GraphAgreement

#: Minimum width of the first column of a comparison (names of values), in characters.
_LABEL_WIDTH = 24
#: Space between two columns, in characters.
_GAP = 2


def measure(
    input: InputPath,  # noqa: A002  # the name shown in the help
    /,
    *,
    out: Annotated[
        Path,
        Parameter(alias="-o", help="Folder for the report. Created if missing."),
    ],
    reference: Annotated[
        tuple[Path, ...],
        Parameter(
            consume_multiple=True,
            negative="",
            help="One or more volumes to compare with; they are measured with the same "
            "settings.",
        ),
    ] = (),
    reference_time: Annotated[
        int | None,
        Parameter(
            help="Time point of the references, counted from 0; by default that of the "
            "input.",
        ),
    ] = None,
    reference_channel: Annotated[
        int | None,
        Parameter(
            help="Channel of the references, counted from 0; by default that of the "
            "input.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        Parameter(
            help="Sample mask, as a volume; non-zero voxels belong to the sample."
        ),
    ] = None,
    deviation: Annotated[
        Path | None,
        Parameter(
            name=["--deviation", "--uncertainty"],
            help="Deviation of each voxel of the input, as written by restore "
            "--uncertainty. The porosity is then given with an interval.",
        ),
    ] = None,
    graph_distance: Annotated[
        float | None,
        Parameter(
            help="With --graph and --reference: largest distance at which a branch "
            "counts as found, in the unit of the voxel size; by default twice the "
            "voxel size of the volume with the larger voxels."
        ),
    ] = None,
    labels: Annotated[
        bool,
        Parameter(
            name=["--write-labels", "--labels"],
            negative="",
            help="Also write a label volume in which every pore has its own number.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        Parameter(
            help="Number of processes that share the labelling and the computation of "
            "the local thickness; the memory is divided among them. By default, a "
            "single process is used. Requires the optional dependencies "
            "napari-geosr[cluster]."
        ),
    ] = None,
    config: Annotated[MeasureConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Segment the pores, count and measure them; write JSON, CSV, PNG and HTML."""
    references = {reference_key(i): path for i, path in enumerate(reference)}
    names = ["input", *references]
    merged = settings_from(MeasureConfig, config, settings)
    check_distance(graph_distance, reference=bool(reference), config=merged)
    files = report_files.plan(out, names, labels=labels, statistics=merged.statistics)
    report_files.check(files, overwrite=overwrite)
    volumes = {"input": open_volume(input, reading)}
    notes: list[str] = []
    for name, path in references.items():
        volumes[name], new_notes = open_reference(
            path,
            reading,
            volumes["input"],
            time=reference_time,
            channel=reference_channel,
        )
        notes += new_notes
    sample = _companion(mask, reading, volumes["input"], notes, must_be_placed=True)
    deviations = _companion(deviation, reading, volumes["input"], notes)
    companions = [c for c in (sample, deviations) if c is not None]
    for volume in (*volumes.values(), *companions):
        check_not_source(volume, *files.values())
    # Journals written by earlier releases have these keys.
    given = {"mask": sample, "uncertainty": deviations}
    report_files.check_space(files, volumes["input"])
    journal = MeasureJournal(out, volumes, given, merged)
    with report_files.claimed(files), name_in_errors(input), journal.explained_stop():
        reports, warnings = run_command(
            lambda should_stop: measure_several_steps(
                volumes,
                merged,
                sample,
                deviation=deviations,
                keep_labels=labels,
                journal=journal.of,
                workers=workers,
                should_stop=should_stop,
            ),
            stopping="stopping after this slab (press Ctrl-C again to stop at once)",
        )
        agreement = agreement_of(reports, graph_distance)
        earlier = report_files.earlier_files(files)
        written = report_files.write(
            files,
            volumes,
            reports,
            merged,
            companions={"mask": sample, "deviation": deviations},
            more=_of_graphs(agreement),
            overwrite=overwrite,
        )
        journal.remove()
        notes += filter(None, [journal.note()])
        notes += earlier.remove(written.values(), (*volumes.values(), *companions))
    if json:
        said = [*notes, *_merged_warnings(volumes, reports, warnings)]
        print_json(_describe(reports, said) | _of_graphs(agreement))
        return 0
    _print(volumes, reports)
    if agreement is not None:
        scan = volumes["input"]
        unit = shown_unit(scan.unit, scan.voxel_size, flat=reports["input"].is_flat)
        print("\n".join(agreement_lines(agreement, unit)))
    remaining = _remaining_warnings(volumes, reports, warnings)
    print_notes(filter(None, [*notes, *remaining, _missing_size(volumes["input"])]))
    print(f"report: {files['html']}")
    first = references.get("reference")
    _suggest(input, first, out, volumes["input"], reports["input"])
    return 0


def _companion(
    path: Path | None,
    reading: InputConfig | None,
    like: Volume,
    notes: list[str],
    *,
    must_be_placed: bool = False,
) -> Volume | None:
    """Open a volume that belongs to the input, if any; append its notes to `notes`."""
    if path is None:
        return None
    volume, new_notes = open_companion(path, reading, like)
    notes += new_notes
    if must_be_placed:
        check_known_place(volume, like)
    return volume


def _of_graphs(agreement: GraphAgreement | None) -> AnyDict:
    """Return the agreement of the graphs as an additional entry of the JSON file."""
    return {} if agreement is None else {"graph_agreement": agreement.to_json_dict()}


def _missing_size(volume: Volume) -> str:
    """Describe what is unknown about the voxel size and how to specify it."""
    if volume.has_physical_size:
        return ""
    missing, options = "voxel size", "--voxel-size and --unit"
    if any(edge != 1 for edge in volume.voxel_size):
        missing, options = "unit of the voxel size", "--unit"
    return (
        f"The {missing} is unknown: give {options} to obtain volumes and number "
        "densities in physical units."
    )


def _suggest(
    path: Path,
    reference: Path | None,
    out: Path,
    volume: Volume,
    report: PorosityReport,
) -> None:
    if includes_background(report.warnings):
        other = "" if reference is None else f" --reference {quoted(reference)}"
        rest = f"--sample auto -o {quoted(f'{out}_auto')}"
        suggest_next(f"measure {quoted(path)}{other} {rest}")
    elif reference is not None:
        pair = f"{quoted(reference)} {quoted(path)}"
        suggest_next(f"compare {pair} -o comparison")
    elif scan := _restored_from(volume):
        suggest_next(f"compare {quoted(scan)} {quoted(path)} -o comparison")
    else:
        suggest_next(f"models rank {quoted(path)}")


def _restored_from(volume: Volume) -> Path | None:
    """Return the scan that a volume was restored from, if the file still exists."""
    last = volume.provenance[-1] if volume.provenance else {}
    inputs = last.get("inputs")
    if last.get("operation") != "restore" or not isinstance(inputs, Mapping):
        return None
    paths = [each.get("path") for each in inputs.values() if isinstance(each, Mapping)]
    found = [Path(path) for path in paths if isinstance(path, str)]
    return found[0] if found and found[0].exists() else None


def _merged_warnings(
    volumes: dict[str, Volume], reports: dict[str, PorosityReport], issued: list[str]
) -> list[str]:
    """Return all warnings, each once, with the names of their volumes.

    A warning that was issued once for each of several volumes is in all their reports.
    """
    reported = {text for key in reports for text in _by_text(volumes, reports, key)}
    reported |= {text for report in reports.values() for text in report.warnings}
    others = [text for text in issued if text not in reported]
    return [*others, *_remaining_warnings(volumes, reports, [])]


def _remaining_warnings(
    volumes: dict[str, Volume], reports: dict[str, PorosityReport], issued: list[str]
) -> list[str]:
    """Return the reports' warnings not yet issued, with the names of their volumes."""
    titles = message_titles(volumes)
    return named_warnings(
        {
            titles[key]: [
                text
                for named, text in _by_text(volumes, reports, key).items()
                if named not in issued and text not in issued
            ]
            for key in reports
        },
        {titles[key]: volume.name for key, volume in volumes.items()},
    )


def _by_text(
    volumes: dict[str, Volume], reports: dict[str, PorosityReport], key: str
) -> dict[str, str]:
    """Return the warnings of a report, keyed by the text with which they are issued."""
    title = message_titles(volumes)[key] if len(volumes) > 1 else ""
    name = volumes[key].name
    return {named_warning(w, title, name): w for w in reports[key].warnings}


def _describe(
    reports: dict[str, PorosityReport], warnings: list[str]
) -> dict[str, object]:
    values: dict[str, object] = reports["input"].to_json_dict()
    values["warnings"] = list(dict.fromkeys(warnings))
    others = list(reports.values())[1:]
    return values | {
        reference_key(i): report.to_json_dict() for i, report in enumerate(others)
    }


def _widths(cells: list[list[str]], separator: str) -> list[int]:
    """Return, for each column, the length of the longest text between separators."""
    return [
        max(
            len(part)
            for text in column
            for line in text.split("\n")
            for part in line.split(separator)
        )
        for column in zip(*cells, strict=True)
    ]


def _broken(text: str, width: int) -> str:
    """Break long lines between words, but not between groups of digits."""
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def _blocks(widths: list[int], available: int) -> list[list[int]]:
    """Divide columns into tables that fit into the terminal; return their indices.

    Parameters
    ----------
    widths : list of int
        Number of characters that each column needs.
    available : int
        Number of characters available next to the labels.
    """
    blocks: list[list[int]] = [[]]
    left = available
    for i, width in enumerate(widths):
        if blocks[-1] and width + _GAP > left:
            blocks.append([])
            left = available
        blocks[-1].append(i)
        left -= width + _GAP
    return blocks


def _shared(
    block: list[int], widths: list[int], most: list[int], available: int
) -> dict[int, int]:
    """Return the width of each column of a block, with the free space shared out."""
    chosen = {i: widths[i] for i in block}
    for _ in range(available - sum(widths[i] + _GAP for i in block)):
        lacking = [i for i in block if chosen[i] < most[i]]
        if not lacking:
            break
        chosen[min(lacking, key=lambda i: chosen[i])] += 1
    return chosen


def _print(volumes: dict[str, Volume], reports: dict[str, PorosityReport]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    compared = len(reports) > 1
    reports = reference_first(reports)
    names = list(reference_first(column_titles(volumes)).values())
    several = len(names) > 2
    rows = figure_rows(reports)
    if several:  # a column for each change would not fit into a terminal
        cells = [
            [f"{t}\n{d}".rstrip() for t, d in zip(r.texts, r.differences, strict=True)]
            for r in rows
        ]
    else:
        cells = [[*row.texts, *row.differences[1:]] for row in rows]
    titles = [*names, *(["change"] if compared and not several else [])]
    columns = Console().width
    names_of_rows = [[row.label] for row in rows]
    (labels,) = _widths(names_of_rows, "\n")
    full = _widths(cells, "\n")
    if compared:  # break labels if all columns do not fit next to them
        (word,) = _widths(names_of_rows, " ")
        free = columns - _GAP - sum(width + _GAP for width in full)
        labels = min(labels, max(_LABEL_WIDTH, word, free))
    available = columns - labels - _GAP
    widths = _widths(cells, " ")  # values and units on separate lines
    if sum(widths) + _GAP * len(widths) > available:
        widths = full
    most = [max(n, len(title)) for n, title in zip(full, titles, strict=True)]
    for block in _blocks(widths, available):
        chosen = _shared(block, widths, most, available)
        # Lines are broken here, because `rich` would also break numbers at the narrow
        # spaces between their digits.
        table = Table(box=None)
        table.add_column("", width=labels)
        for i, width in chosen.items():
            table.add_column(escape(titles[i]), overflow="fold", width=width)
        for row, texts in zip(rows, cells, strict=True):
            shown = [
                _broken(
                    # A band or a remark is shown on a line of its own.
                    texts[i] if full[i] <= width else texts[i].replace(" (", "\n("),
                    width,
                )
                for i, width in chosen.items()
            ]
            table.add_row(*map(escape, (_broken(row.label, labels), *shown)))
        needed = labels + _GAP + sum(width + _GAP for width in chosen.values())
        # Lines that are too long are broken by the terminal; with a narrower table,
        # `rich` would cut the numbers off.
        Console(width=max(columns, needed)).print(table, highlight=False)
    if compared:  # also stated in the dock and in the report
        change = "second lines: change" if several else "change:"
        print(f"{change} relative to {names[0]}")
