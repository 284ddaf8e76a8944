"""``napari-geosr info``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from napari_geosr import io
from napari_geosr.cli.kit.console import print_json, print_notes, run_command
from napari_geosr.cli.kit.options import AS_FLAGS, InputPath, Json
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.config import (
    format_bytes,
)
from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.file_warnings import (
    FILE_WARNINGS,
    SIZE_GIVEN,
    Note,
    file_warnings,
)
from napari_geosr.core.machine.file_state import OPENED
from napari_geosr.core.noise import Noise
from napari_geosr.core.projections import Projections
from napari_geosr.core.questions import (
    UNNAMED_AXIS,
    VOXEL_SIZE_QUESTION,
    voxel_size_question,
)
from napari_geosr.core.reading import READING
from napari_geosr.core.units import shown_units
from napari_geosr.core.volume import Volume
from napari_geosr.io.projections import is_projections, read_projections
from napari_geosr.operations.inputs import InputConfig, open_series
from napari_geosr.operations.inputs.noise_source import NoiseSource, with_noise_steps
from napari_geosr.operations.inputs.scan import (
    describe_noise,
    given_size_warnings,
    open_questions,
)
from napari_geosr.operations.restore.series.plan import Point, noise_of_points

#: Smallest width to which rows are wrapped, in columns of the terminal.
_MIN_WIDTH = 40
#: Advice on correcting an assumption of a file reader, by kind of assumption.
_CORRECTIONS = {
    "axes": "give --axes, such as TYX for a time-lapse",
    "slice distance": "give --voxel-size and --unit",
    "unit": "give --voxel-size and --unit",
}


def info(
    input: InputPath,  # noqa: A002  # the name shown in the help
    /,
    *,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    noise: Annotated[
        bool,
        Parameter(
            negative="",
            help="Measure the noise: its level, with an interval, and its "
            "correlation. In a file with several channels, each channel is measured; "
            "in a time series, one time point.",
        ),
    ] = False,
    noise_source: Annotated[NoiseSource | None, AS_FLAGS] = None,
    json: Json = False,
) -> int:
    """Show a file's shape, axes, voxel size, origin and, on request, its noise."""
    reading = reading or InputConfig()
    noise_source = noise_source or NoiseSource()
    noise = noise or bool(noise_source.paths())
    if (
        not noise
        and reading == InputConfig()
        and (scan := _read_if_projections(input)) is not None
    ):
        if json:
            print_json(_describe_projections(scan))
            return 0
        for label, value in _projection_lines(scan):
            _print_row(label, value)
        suggest_next(f"reconstruct {quoted(input)} -o volume.ome.tif")
        return 0
    if noise:
        _refuse_projections(input, reading)
    volume = io.read(input, **reading.reading())
    if reading.channel is not None or reading.time is not None:
        volume = volume.take(time=reading.time, channel=reading.channel)
    found = _noise_of_points(volume, noise_source, reading) if noise else ()
    if json:
        measured = _noise_values(found) if noise else {}
        print_json(_describe(volume) | measured)
        return 0
    for label, value in _lines(volume):
        _print_row(label, value)
    if noise:  # last, because this may fail
        for point, one in found:
            label = "noise" if point is None else f"noise, {point.words}"
            text = describe_noise(one) if isinstance(one, Noise) else one
            _print_row(label, text)
        chosen = _chosen_words(volume, reading)
        suggest_next(f"models rank {quoted(input)}{chosen}")
    return 0


def _print_row(label: str, value: str) -> None:
    """Print a row; on a terminal, long values continue in their column."""
    line = f"{label:<12} {value}"
    if sys.stdout.isatty():
        line = fill(
            line,
            max(_MIN_WIDTH, get_terminal_size().columns - 1),
            subsequent_indent=" " * 13,
            break_long_words=False,
            break_on_hyphens=False,
        )
    print(line, flush=True)


def _noise_of_points(
    volume: Volume, source: NoiseSource, reading: InputConfig
) -> Iterator[tuple[Point | None, Noise | str]]:
    """Measure the noise of each channel; see `noise_of_points`."""
    if source.second is not None and len(source.paths()) == 1:
        second = open_series(source.second, reading)
        return noise_of_points(volume, second=second)
    reference = source.open(volume, reading)
    measured, _ = run_command(
        lambda should_stop: with_noise_steps(volume, reference, should_stop)
    )
    return noise_of_points(measured)


def _noise_values(
    measured: Iterable[tuple[Point | None, Noise | str]],
) -> dict[str, object]:
    """Return the noise for ``--json``: one object, or a list with one per channel."""
    rows: list[object] = []
    for point, found in measured:
        values = found.to_json_dict() if isinstance(found, Noise) else {"error": found}
        if point is None:
            return {"noise": values}
        rows.append({**point.to_dict(), **values})
    return {"noise": rows}


def _chosen_words(volume: Volume, reading: InputConfig) -> str:
    """Return the options for time point and channel in a suggested command."""
    chosen = {"time": ("T", reading.time), "channel": ("C", reading.channel)}
    return "".join(
        f" --{name} {word if given is None else given}"
        for name, (axis, given) in chosen.items()
        for word in (name.upper(),)
        if given is not None or axis in volume.axes
    )


def _refuse_projections(path: Path, reading: InputConfig) -> None:
    """Raise `ConfigError` if the noise of projections is to be measured."""
    if reading.dataset is None and is_projections(path):
        raise ConfigError(
            f"{path.name} contains projections, but the noise is measured in volumes. "
            "Reconstruct it first (napari-geosr reconstruct), or choose a dataset of "
            "the file with --dataset."
        )


def _read_if_projections(path: Path) -> Projections | None:
    """Read projections if the file contains them; report failures on stderr."""
    if not is_projections(path):
        return None
    try:
        return read_projections(path)
    except GeoSRError as error:
        print_notes([f"The file cannot be used as projections: {error}"])
        return None


def _describe_projections(scan: Projections) -> dict[str, object]:
    return {
        "name": scan.name,
        "kind": "projections",
        "path": None if scan.source is None else str(scan.source),
        "shape": list(scan.shape),
        "axes": ["angle", "row", "column"],
        "dtype": str(np.dtype(scan.data.dtype)),
        "angles": {
            "first": float(scan.angles[0]),
            "last": float(scan.angles[-1]),
            "range": scan.angular_range,
        },
        "flats": _count(scan.flats),
        "darks": _count(scan.darks),
        "pixel_size": list(scan.pixel_size),
        "unit": scan.unit,
        "centre": scan.centre,
        "geometry": scan.geometry,
        "source_distance": scan.source_distance,
        "detector_distance": scan.detector_distance,
        "line_integrals": scan.is_line_integrals,
        "provenance": [dict(entry) for entry in scan.provenance],
        "metadata": {key: _as_json_value(value) for key, value in _facts(scan)},
    }


def _count(frames: object) -> int:
    shape = getattr(frames, "shape", (0,))
    return int(shape[0])


def _projection_lines(scan: Projections) -> list[tuple[str, str]]:
    dtype = np.dtype(scan.data.dtype)
    nbytes = int(np.prod(scan.shape)) * dtype.itemsize
    n_angles, n_rows, n_columns = scan.shape
    size = " × ".join(f"{v:.6g}" for v in scan.pixel_size)
    pixel = f"{size} {scan.unit} (row, column)"
    if not scan.has_physical_size:
        pixel = "unknown; give --pixel-size and --unit to `reconstruct`"
    centre = "not in the file; `reconstruct` determines it"
    if scan.centre is not None:
        centre = f"column {scan.centre:g}"
    geometry = f"{scan.geometry} beam"
    if scan.geometry != "parallel":
        geometry += (
            f", source {scan.source_distance:g} and detector "
            f"{scan.detector_distance:g} {scan.unit} from the axis"
        )
    values = "line integrals" if scan.is_line_integrals else "counts"
    rows = [
        ("projections", f"{n_angles} of {n_rows} × {n_columns} pixels (row, column)"),
        ("data type", f"{dtype}, {format_bytes(nbytes)}; {values}"),
        (
            "angles",
            f"{scan.angles[0]:.6g} to {scan.angles[-1]:.6g} degrees, covering "
            f"{scan.angular_range:.4g} degrees",
        ),
        ("flat fields", str(_count(scan.flats) or "none")),
        ("dark fields", str(_count(scan.darks) or "none")),
        ("pixel size", pixel),
        ("axis", centre),
        ("geometry", geometry),
    ]
    return rows + _remarks(scan)


def _describe(volume: Volume) -> dict[str, object]:
    return {
        "name": volume.name,
        "path": None if volume.source is None else str(volume.source),
        "shape": list(volume.shape),
        "axes": volume.axes,
        "dtype": str(volume.dtype),
        "bytes": volume.nbytes,
        "lazy": volume.is_lazy,
        "voxel_size": [float(f"{v:.12g}") for v in volume.voxel_size],
        "unit": volume.unit,
        "origin": list(volume.origin),
        "provenance": [dict(entry) for entry in volume.provenance],
        "metadata": {key: _as_json_value(value) for key, value in _facts(volume)},
        "warnings": _warnings(volume),
        "questions": open_questions(volume, mixing=True),
    }


def _warnings(volume: Volume) -> list[str]:
    return [*file_warnings(volume.metadata), *given_size_warnings(volume)]


def _as_json_value(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _lines(volume: Volume) -> list[tuple[str, str]]:
    size = " × ".join(f"{v:.6g}" for v in volume.voxel_size)
    axes = ", ".join(volume.spatial_axes)
    if volume.has_physical_size:
        voxel = f"{size} {volume.unit} ({axes})"
    elif _has_no_size(volume):
        voxel = "unknown; give --voxel-size and --unit"
    else:
        voxel = f"unknown (numbers in the file: {size}); give --voxel-size and --unit"
    shape = " × ".join(map(str, volume.shape))
    rows = [
        ("shape", f"{shape} ({', '.join(volume.axes)})"),
        ("data type", f"{volume.dtype}, {format_bytes(volume.nbytes)}"),
        ("voxel size", voxel),
        ("origin", _origin_text(volume)),
    ]
    questions = [
        ("question", question) for question in open_questions(volume, mixing=True)
    ]
    warnings = [("warning", text) for text in _warnings(volume)]
    return rows + warnings + questions + _remarks(volume)


def _has_no_size(volume: Volume) -> bool:
    """Return whether the file contains no number that could be the voxel size."""
    asked = voxel_size_question(volume.metadata) is not None
    return asked or all(edge == 1 for edge in volume.voxel_size)


def _origin_text(volume: Volume) -> str:
    flat = len(volume.spatial_axes) == 2
    unit = shown_units(volume.unit, volume.voxel_size, flat=flat)
    return ", ".join(f"{v:.6g}" for v in volume.origin) + f" {unit}"


def _facts(data: Volume | Projections) -> list[tuple[str, object]]:
    """Return metadata without warnings and questions, which are shown separately."""
    elsewhere = (
        UNNAMED_AXIS,
        VOXEL_SIZE_QUESTION,
        FILE_WARNINGS,
        SIZE_GIVEN,
        OPENED,
        READING,
    )
    return [(k, v) for k, v in data.metadata.items() if k not in elsewhere]


def _correction_hint(value: object) -> str:
    """Describe how to correct an assumption made by the file reader."""
    if not isinstance(value, Note) or not value.corrected_by:
        return ""
    return f" If that is wrong, {_CORRECTIONS[value.corrected_by]}."


def _remarks(data: Volume | Projections) -> list[tuple[str, str]]:
    """Return the remaining metadata and provenance of the file."""
    rows = []
    for key, value in _facts(data):
        several = value if isinstance(value, list | tuple) else [value]
        rows += [(str(key), f"{one}{_correction_hint(one)}") for one in several]
    for entry in data.provenance:
        model = entry.get("model", {}).get("name", "")
        words = (entry.get("operation"), model, entry.get("time"))
        rows.append(("made by", " ".join(str(word) for word in words if word)))
    return rows
