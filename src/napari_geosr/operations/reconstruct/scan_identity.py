"""Which scan it was: what a record says of it, and how two records are compared.

Whatever is gone on with (a reconstruction, a study, a training) is of one scan. The
checksum of its file is not enough: flat and dark fields, angles or the dataset within
the file may have been given otherwise the next time.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.volume import Volume

#: What two scans may differ in, in words, and the entries that tell.
_ASPECTS: Mapping[str, tuple[str, ...]] = {
    "another input": ("checksum",),
    "another part of the input": ("dataset", "shape", "dtype"),
    "other angles": ("angles",),
    "another beam": ("geometry", "source_distance", "detector_distance"),
    "other flat or dark fields": ("flats", "darks", "line_integrals"),
    "another pixel size": ("pixel_size", "unit"),
    "another rotation centre": ("centre",),
}


def scan_entry_steps(
    scan: Projections, should_stop: ShouldStop
) -> Generator[Step, None, dict[str, Any]]:
    """Describe a scan for a record, with checksums.

    Raises
    ------
    Cancelled
        If `should_stop` says so.
    FileError
        If its file cannot be read any more.
    """
    as_volume = Volume(
        scan.data,
        "ZYX",
        (1.0, *scan.pixel_size),
        scan.unit,
        name=scan.name,
        source=scan.source,
    )
    described = yield from provenance.describe_steps(as_volume, should_stop)
    angles = np.ascontiguousarray(scan.angles)
    entry = {
        **{k: v for k, v in described.items() if k not in ("axes", "voxel_size")},
        "axes": "angle, row, column",
        "dataset": scan.metadata.get("dataset"),
        "pixel_size": list(scan.pixel_size),
        "geometry": scan.geometry,
        "source_distance": scan.source_distance,
        "detector_distance": scan.detector_distance,
        "angles": f"crc32:{zlib.crc32(angles.tobytes()):08x}",
        "line_integrals": scan.is_line_integrals,
        **{
            name: None if frames is None else provenance.array_checksum(frames)
            for name, frames in (("flats", scan.flats), ("darks", scan.darks))
        },
    }
    return entry


def identity_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What of an entry says which scan it was, wherever its file lies now."""
    keys = [key for names in _ASPECTS.values() for key in names]
    return {key: entry[key] for key in keys if key in entry}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words what two entries, or identities, of scans differ in; empty: nothing.

    What an earlier release did not write down cannot be compared.
    """
    return [
        words
        for words, keys in _ASPECTS.items()
        if any(k in before and k in now and before[k] != now[k] for k in keys)
    ]
