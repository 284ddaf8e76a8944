"""The record of a reconstruction: what it was made of, and how."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from napari_geosr.core import provenance
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.operations.reconstruct.scan import ReadyScan
from napari_geosr.operations.reconstruct.scan_identity import scan_entry_steps


def record_steps(
    ready: ReadyScan, should_stop: ShouldStop
) -> Generator[Step, None, dict[str, Any]]:
    """Make the record of the run; the input is read once for its checksum."""
    import torch

    scan = ready.scan
    entry = yield from scan_entry_steps(ready.given, should_stop)
    record = yield from provenance.record_steps(
        "reconstruct",
        should_stop=should_stop,
        inputs={},
        settings=ready.config.model_dump(mode="json"),
        algorithm=ready.algorithm.model_dump(mode="json"),
        centre={
            "column": float(ready.centre.column),
            "method": ready.centre.method,
            "contrast": float(ready.centre.contrast),
        },
        used={
            "projections": scan.n_angles,
            "first_angle": float(scan.angles.min()),
            "last_angle": float(scan.angles.max()),
            "rows": [ready.first_row, ready.first_row + scan.n_rows],
            "joined_full_turn": ready.joined,
            "incident": ready.incident,
        },
        values=f"attenuation per {scan.unit}",
        device=ready.device,
        torch=torch.__version__,
        # Only the end of the run says otherwise: whatever stops it, it stays true.
        complete=False,
    )
    return {**record, "inputs": {"input": entry}}
