"""The record of a reconstruction: what it was made of, and how."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.steps import ResultReady, ShouldStop, Step, relay
from napari_geosr.core.volume import Volume
from napari_geosr.operations.reconstruct_scan import ReadyScan


def record_steps(
    ready: ReadyScan, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Make the record of the run; the input is read once for its checksum."""
    import torch

    given, scan = ready.given, ready.scan
    as_volume = Volume(
        given.data,
        "ZYX",
        (1.0, *given.pixel_size),
        given.unit,
        name=given.name,
        source=given.source,
    )
    described: Mapping[str, Any] = yield from relay(
        provenance.describe_steps(as_volume, should_stop)
    )
    angles = np.ascontiguousarray(given.angles)
    entry = {
        **{k: v for k, v in described.items() if k not in ("axes", "voxel_size")},
        "axes": "angle, row, column",
        "dataset": given.metadata.get("dataset"),
        "pixel_size": list(given.pixel_size),
        "geometry": given.geometry,
        "source_distance": given.source_distance,
        "detector_distance": given.detector_distance,
        "angles": f"crc32:{zlib.crc32(angles.tobytes()):08x}",
        "line_integrals": given.is_line_integrals,
        **{
            name: None if frames is None else provenance.array_checksum(frames)
            for name, frames in (("flats", given.flats), ("darks", given.darks))
        },
    }
    record: dict[str, Any] = yield from relay(
        provenance.record_steps(
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
            },
            values=f"attenuation per {scan.unit}",
            device=ready.device,
            torch=torch.__version__,
            # Only the end of the run says otherwise: whatever stops it, it stays true.
            complete=False,
        )
    )
    yield ResultReady(result={**record, "inputs": {"input": entry}})
