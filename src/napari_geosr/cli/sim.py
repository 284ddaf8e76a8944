"""``napari-geosr sim``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from napari_geosr import io
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
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.inputs import InputConfig, check_not_source
from napari_geosr.operations.sim import (
    FramesConfig,
    SimCheck,
    SimConfig,
    SimResult,
    check_steps,
    open_frames,
    run_steps,
)
from napari_geosr.operations.sim.report import check_report, write_report

app = App(name="sim", help_epilogue=with_examples(*EXAMPLES["sim"]))

_RAW = Parameter(
    help="Raw frames: a stack of all angles and phases (TIFF, OME-TIFF, OME-Zarr, "
    "HDF5)."
)


@app.default
def reconstruct_sim(
    raw: Annotated[Path, _RAW],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            alias="-o",
            help="File to write: .ome.tif, .tif or .ome.zarr. Its folder must exist.",
        ),
    ],
    config: Annotated[SimConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    report: Annotated[
        Path | None,
        Parameter(
            help="Folder for the checks of the result: checks.json, residual.ome.tif "
            "(residual of the result, in units of the noise) and checks.png "
            "(with the spectrum). Created if missing."
        ),
    ] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Reconstruct raw frames of structured illumination and write the result.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    io.check_output(out, overwrite=overwrite)
    merged = settings_from(SimConfig, config, settings)
    if report is not None:
        check_report(report, merged, overwrite=overwrite)
    frames = open_frames(raw, merged, reading)
    check_not_source(frames.volume, out)
    notes: list[str] = []
    result, warnings = run_command(
        lambda should_stop: run_steps(
            frames, merged, out=out, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
        out=out,
        notes=notes,
    )
    has_report = report is not None and result.checks is not None
    note = ""
    if report is not None and has_report:
        note = write_report(report, result, overwrite=overwrite)
        warnings += [note] * bool(note)
    if json:
        print_json(_describe(result, warnings, notes))
        return 0
    for line in _pattern_lines(result):
        print(line)
    print(f"Wrote {result.path}")
    if has_report:
        print(note or f"Wrote {report}")
    suggest_next(f"compare {quoted(raw)} {quoted(out)} -o comparison")
    return 0


@app.command(
    name="check",
    help="Check raw frames, find their illumination patterns, and write a report.",
    help_epilogue=with_examples(*EXAMPLES["sim check"]),
)
def check_sim(
    raw: Annotated[Path, _RAW],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(alias="-o", help="Folder for the report. Created if missing."),
    ],
    config: Annotated[FramesConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Check raw frames, find their patterns, and write a report.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    merged = settings_from(FramesConfig, config, settings)
    frames = open_frames(raw, merged, reading)
    notes: list[str] = []
    check, warnings = run_command(
        lambda should_stop: check_steps(
            frames,
            merged,
            every_channel=True,
            out=out,
            overwrite=overwrite,
            should_stop=should_stop,
        ),
        stopping=STOPPING,
        notes=notes,
    )
    if json:
        found = check.to_json_dict()
        warnings = list(dict.fromkeys([*found["warnings"], *warnings]))
        said = {"warnings": warnings, "notes": notes}
        print_json({**found, **said, "folder": str(out)})
        return 0
    for line in _check_lines(check):
        print(line)
    print(f"Wrote {out}")
    suggest_next(f"sim {quoted(raw)} -o sim.ome.tif")
    return 0


def _modulation_text(modulation: Sequence[float]) -> str:
    """Return the modulation of each harmonic."""
    return " / ".join(f"{value:.2f}" for value in modulation)


def _pattern_lines(result: SimResult) -> list[str]:
    patterns = result.patterns
    unit = patterns.unit
    return [
        f"Angle {i}: direction {fringe.direction:.1f}°, period "
        f"{patterns.pixel_size / fringe.frequency:.4g} {unit}, modulation "
        f"{_modulation_text(fringe.modulation)}"
        for i, fringe in enumerate(patterns.fringes, start=1)
    ]


def _check_lines(check: SimCheck) -> list[str]:
    frames = check.frames
    lines = [
        f"{frames.angles} angles × {frames.phases} phases, order {frames.order}, "
        f"{frames.n_planes} slices"
    ]
    for each in (check, *check.others):
        where = frames.where(time=each.time, channel=each.channel).strip(" ()")
        lines += [f"{where[0].upper()}{where[1:]}"] if where else []
        lines += _plane_lines(each)
    return lines + [f"warning: {reason}" for reason in check.unchecked.values()]


def _plane_lines(check: SimCheck) -> list[str]:
    patterns = check.estimate.patterns
    lines = [f"Modulation contrast {check.contrast_to_noise:.1f} times the noise"]
    for i, fringe in enumerate(patterns.fringes, start=1):
        phases = " ".join(f"{math.degrees(p) % 360:.0f}°" for p in fringe.phases)
        text = (
            f"Angle {i}: direction {fringe.direction:.2f}°, period "
            f"{patterns.pixel_size / fringe.frequency:.4g} {patterns.unit}, phases "
            f"{phases}, modulation {_modulation_text(fringe.modulation)}"
        )
        if patterns.confidence:
            text += f", confidence {patterns.confidence[i - 1]:.1f}"
        lines.append(text)
    return lines + [f"warning: {warning}" for warning in check.warnings]


def _describe(result: SimResult, warnings: list[str], notes: list[str]) -> AnyDict:
    volume = result.volume
    return {
        "output": str(result.path),
        "method": result.method,
        "shape": list(volume.shape),
        "axes": volume.axes,
        "voxel_size": list(volume.voxel_size),
        "unit": volume.unit,
        "origin": list(volume.origin),
        "warnings": warnings,
        "notes": notes,
        "run": dict(result.summary),
    }
