"""``napari-geosr segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import STOPPING, print_json, run_command
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    InputPath,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.operations import segment as segmentation
from napari_geosr.operations.inputs import InputConfig, open_companion, open_volume
from napari_geosr.operations.segment.config import SegmentConfig


def segment(
    input: InputPath,  # noqa: A002  # the name shown in the help
    /,
    *,
    labels: Annotated[
        Path,
        Parameter(
            alias="-l",
            help="Label image that has the shape of the scan and contains the class "
            "number of each painted voxel.",
        ),
    ],
    out: Annotated[
        Path, Parameter(alias="-o", help="Label image to write, such as out.ome.tif.")
    ],
    probabilities: Annotated[
        Path | None,
        Parameter(
            alias="-p",
            help="Also write the probability of each class to this file, such as "
            "probabilities.ome.tif.",
        ),
    ] = None,
    config: Annotated[SegmentConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Segment a scan from a few strokes painted on it.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    merged = settings_from(SegmentConfig, config, settings)
    scan = open_volume(input, reading)
    painted, notes = open_companion(labels, reading, scan)
    result, warnings = run_command(
        lambda should_stop: segmentation.segment_steps(
            scan,
            painted,
            out,
            merged,
            probabilities=probabilities,
            overwrite=overwrite,
            should_stop=should_stop,
        ),
        stopping=STOPPING,
    )
    if json:
        print_json({**result.to_dict(), "warnings": [*notes, *warnings]})
        return 0
    print(f"Wrote {result.path}")
    if result.probabilities is not None:
        print(f"Wrote {result.probabilities}")
    for number, fraction in result.fractions.items():
        painted_voxels = f"{result.painted[number]:,} voxels painted"
        print(f"  class {number}: {100 * fraction:.2f} % ({painted_voxels})")
    suggest_next(f"measure {quoted(result.path)} -o report")
    return 0
