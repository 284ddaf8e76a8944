"""Finds the regions to explain: a voxel, the pore around it, or pores of a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_geosr.core.documents import read_json
from napari_geosr.core.errors import ConfigError, FileError, VolumeError
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.volume import Volume

if TYPE_CHECKING:
    from napari_geosr.attribution import AttributionResult
    from napari_geosr.attribution._window import ExplainedScan
    from napari_geosr.inference.tiles.tiling import Box

Phase = Literal["dark", "bright"]

#: Search radii for a pore, in voxels of the result, tried in this order.
_SEARCH_RADII = (16, 32, 48)
#: Minimum difference between the mean grey values of pore and solid, as a fraction of
#: the contrast.
_MIN_PHASE_DIFFERENCE = 0.5
#: Maximum relative difference in voxel count between a pore of the table and the
#: matching pore of the result.
_SIZE_TOLERANCE = 0.2


@dataclass(frozen=True, eq=False)
class ExplainedRegion:
    """A region of the result that is explained.

    Attributes
    ----------
    kind : {"voxel", "region", "pore"}
    at : tuple of int
        A voxel of the region (Z, Y, X).
    threshold : float or None
        Threshold between pore and solid, for a pore.
    notes : tuple of str
    """

    kind: Literal["voxel", "region", "pore"]
    region: Box
    mask: AnyArray
    at: tuple[int, int, int]
    threshold: float | None = None
    phase: Phase = "dark"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PoreRow:
    """A row of a pore table.

    Attributes
    ----------
    box : tuple of (int, int)
        First voxel, and the voxel after the last, along each axis of the volume.
    """

    label: int
    voxels: int
    box: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Findings for one region.

    Attributes
    ----------
    target : ExplainedRegion
    findings : mapping of AttributionResult
        Findings by method.
    sentence : str
        The main finding.
    overlays : mapping of Volume
        Attributions by method, on the scan's grid, at their position.
    row : PoreRow or None
        Row of the pore table, if the pore was read from a table.
    n_missing, n_inputs : int
        Number of NaN or infinite input voxels, and number of all input voxels.
    """

    target: ExplainedRegion
    findings: Mapping[str, AttributionResult]
    sentence: str
    overlays: Mapping[str, Volume]
    row: PoreRow | None = None
    n_missing: int = 0
    n_inputs: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Limitations, as sentences."""
        found = [note for f in self.findings.values() for note in f.notes]
        return tuple(dict.fromkeys([*self.target.notes, *found]))


@dataclass(frozen=True)
class StoredPoreTable:
    """The pores of a measured result, and how they were segmented.

    Attributes
    ----------
    text : tuple of tuple of str
        Rows of the file, starting with the header; empty if there is no file.
    shape : tuple of int
        Shape of the volume that was measured; empty if unknown.
    measured : mapping
        Recorded facts about that volume, such as its name and checksum.
    """

    path: Path
    rows: tuple[PoreRow, ...]
    text: tuple[tuple[str, ...], ...]
    threshold: float | None = None
    phase: Phase | None = None
    connectivity: Literal[6, 26] = 26
    shape: tuple[int, ...] = ()
    measured: AnyMapping = field(default_factory=dict)


def read_pores(path: str | Path) -> StoredPoreTable:
    """Read a pore table of ``measure``, and the threshold from the report next to it.

    Raises
    ------
    FileError
        If the file cannot be read or is not a pore table.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / "pores.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            text = tuple(tuple(row) for row in csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"The pore table {path} cannot be read: {reason}.") from error
    names = [name.partition(" (")[0] for name in text[0]] if text else []
    axes = [a for a in "zyx" if f"bbox_start_{a}" in names]
    if not {"label", "voxels"} <= set(names) or axes[-2:] != ["y", "x"]:
        raise FileError(
            f"{path} is not a pore table: it needs the columns label, voxels and "
            "bbox_start_… that napari-geosr measure writes."
        )
    rows = []
    for number, cells in enumerate(text[1:], start=2):
        row = dict(zip(names, cells, strict=False))
        try:
            box = tuple(
                (int(row[f"bbox_start_{a}"]), int(row[f"bbox_end_{a}"])) for a in axes
            )
            rows.append(PoreRow(int(row["label"]), int(row["voxels"]), box))
        except (KeyError, ValueError) as error:
            raise FileError(
                f"Line {number} of the pore table {path} is damaged ({error}). Measure "
                "the volume again."
            ) from error
    if not rows:
        raise FileError(f"The pore table {path} contains no pores.")
    return StoredPoreTable(path, tuple(rows), text, **_facts_of_report(path))


def _facts_of_report(path: Path) -> AnyDict:
    """Read how the pores of a table were segmented, and in which volume.

    The information comes from the report next to the table, if there is one.
    """
    report = path.with_name(path.name.replace("pores.csv", "report.json"))
    if report == path or not report.is_file():
        return {}
    try:
        found: Any = read_json(report)
        facts: AnyDict = {
            "threshold": float(found["threshold"]),
            "phase": found["phase"],
            "connectivity": 6 if found.get("connectivity") == 6 else 26,
        }
    except (OSError, UnicodeDecodeError, ConfigError, KeyError, TypeError, ValueError):
        return {}
    if "local_window" in found or "hysteresis" in found:
        raise FileError(
            f"The pores of {path} were found with a local threshold or hysteresis and "
            "cannot be explained. Measure with one threshold for all voxels."
        )
    with suppress(KeyError, TypeError, ValueError):
        facts["shape"] = tuple(int(n) for n in found["shape"])
        facts["measured"] = dict(found["provenance"]["inputs"]["input"])
    return facts


def foreign_table_warning(table: StoredPoreTable, record: AnyMapping) -> str:
    """Return a warning if a pore table was not measured on a result of the scan.

    Parameters
    ----------
    table : StoredPoreTable
    record : mapping
        Information about the scan in the provenance record.

    Returns
    -------
    str
        The warning; empty if the table belongs to the scan, or if its volume is not
        recorded.
    """
    measured = table.measured
    known = [str(measured.get("checksum")), *measured.get("made_from", ())]
    checksum = str(record.get("checksum"))
    kind = checksum.partition(":")[0]  # compare only checksums of the same kind
    if checksum in known or not any(each.startswith(f"{kind}:") for each in known):
        return ""
    name, scan = measured.get("name", "another volume"), record.get("name")
    return (
        f"The pores of {table.path} were measured on {name!r}, which, according to "
        f"its record, was not made from {scan!r}. Only pores of the same size at the "
        "same position are explained. Check that both show the same sample."
    )


def voxel_of(
    volume: Volume,
    scene: ExplainedScan,
    at: tuple[int, ...] | None,
    position: tuple[float, ...] | None,
) -> tuple[int, int, int]:
    """Return the voxel of the result to explain, as (Z, Y, X).

    Raises
    ------
    ConfigError
        If no voxel is given, or its coordinates do not fit the axes or are not finite.
    VolumeError
        If the voxel is outside the result, or the scan is not finite there.
    """
    axes, n = ", ".join(volume.axes), len(volume.axes)
    given = at if at is not None else position
    if given is None:
        raise ConfigError(
            "Specify what to explain: a voxel (--at), a position (--position) or "
            "pores (--pores)."
        )
    if len(given) != n:
        raise ConfigError(
            f"{volume.title} has the axes {axes}: {n} numbers are needed, not "
            f"{len(given)} ({', '.join(f'{v:g}' for v in given)})."
        )
    if not all(math.isfinite(value) for value in given):
        raise ConfigError(
            f"{', '.join(f'{v:g}' for v in given)} is not a position: finite numbers "
            "are needed."
        )
    scale, shape = scene.layout.scale[-n:], scene.result_shape[-n:]
    if at is None:
        assert position is not None
        size, origin = volume.upscaled_geometry(scale)
        at = tuple(
            round((p - o) / v) for p, o, v in zip(position, origin, size, strict=True)
        )
    if not all(0 <= i < length for i, length in zip(at, shape, strict=True)):
        factor = max(scale)
        finer = (
            ""
            if factor == 1
            else (f", {factor} times as many as the scan along each enlarged axis")
        )
        raise VolumeError(
            f"The voxel {axes} = {', '.join(map(str, at))} lies outside the result, "
            f"which has {' × '.join(map(str, shape))} voxels{finer}. Voxels are "
            "counted from 0."
        )
    place = tuple(i // s for i, s in zip(at, scale, strict=True))
    if not np.isfinite(np.asarray(volume.data[tuple(slice(i, i + 1) for i in place)])):
        raise VolumeError(
            f"{volume.title} is NaN or infinite at the voxel {axes} = "
            f"{', '.join(map(str, place))}, and so is the result: choose another voxel."
        )
    z, y, x = (0,) * (3 - n) + at
    return z, y, x


def voxel_target(
    scene: ExplainedScan, at: tuple[int, int, int], radius: int
) -> ExplainedRegion:
    """Return one voxel of the result, or a cube around it."""
    single = tuple(slice(i, i + 1) for i in at)
    region = scene.clipped(single, radius)
    mask = np.ones([part.stop - part.start for part in region], bool)
    return ExplainedRegion("region" if radius else "voxel", region, mask, at)


def pore_at(
    scene: ExplainedScan,
    at: tuple[int, int, int],
    threshold: float | None,
    phase: Phase,
    contrast: float,
) -> ExplainedRegion | None:
    """Return the pore of the result that contains a voxel; None if there is none.

    Parameters
    ----------
    threshold : float or None
        Threshold between pore and solid; if None, Otsu's threshold of the neighbourhood
        is used, provided that it has two phases.
    contrast : float
        Expected difference between the two phases of the scan.
    """
    region = scene.clipped([slice(i, i + 1) for i in at])
    for by in _SEARCH_RADII:
        region = scene.clipped([slice(i, i + 1) for i in at], by)
        window = scene.window(region)
        greys = window.grey(window.values())
        value = _otsu(greys, contrast) if threshold is None else threshold
        if value is None:
            continue
        here = tuple(i - part.start for i, part in zip(at, region, strict=True))
        pores = greys <= value if phase == "dark" else greys > value
        if not pores[here]:
            return None
        mask = _component(pores, here)
        if not _is_cut(scene, region, mask):
            return _cut_out("pore", region, mask, at, value, phase)
    if value is None:
        return None
    note = (
        f"The pore extends more than {_SEARCH_RADII[-1]} voxels from the chosen voxel: "
        "only the part around this voxel is explained."
    )
    return _cut_out("pore", region, mask, at, value, phase, (note,))


def _otsu(greys: AnyArray, contrast: float) -> float | None:
    """Return Otsu's threshold; None if the means of its classes differ too little."""
    from skimage.filters import threshold_otsu

    if not greys.max() > greys.min():
        return None
    value = float(threshold_otsu(greys))
    low = greys <= value
    apart = float(greys[~low].mean() - greys[low].mean()) if (~low).any() else 0.0
    return value if apart >= _MIN_PHASE_DIFFERENCE * contrast else None


def _component(pores: AnyArray, here: tuple[int, ...]) -> AnyArray:
    from scipy import ndimage

    labels, _ = ndimage.label(pores, np.ones((3, 3, 3)))
    found: AnyArray = labels == labels[here]
    return found


def _is_cut(scene: ExplainedScan, region: Box, mask: AnyArray) -> bool:
    """Return whether a pore extends beyond the region."""
    for axis, (part, n) in enumerate(zip(region, scene.result_shape, strict=True)):
        along = np.asarray(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if (along[0] and part.start > 0) or (along[-1] and part.stop < n):
            return True
    return False


def _cut_out(
    kind: Literal["pore"],
    region: Box,
    mask: AnyArray,
    at: tuple[int, int, int],
    threshold: float,
    phase: Phase,
    notes: tuple[str, ...] = (),
) -> ExplainedRegion:
    """Return the region that a mask marks, cropped to the mask's bounding box."""
    box = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    z, y, x = (
        slice(r.start + b.start, r.start + b.stop)
        for r, b in zip(region, box, strict=True)
    )
    return ExplainedRegion(
        kind, (z, y, x), mask[tuple(box)], at, threshold, phase, notes
    )


def pores_of(
    scene: ExplainedScan,
    table: StoredPoreTable,
    threshold: float | None,
    phase: Phase | None,
) -> Iterator[tuple[PoreRow, ExplainedRegion | None]]:
    """Find every pore of a table in the result; None for pores that are not found.

    Raises
    ------
    ConfigError
        If the threshold is unknown.
    VolumeError
        If the table belongs to a volume of another size.
    """
    value = table.threshold if threshold is None else threshold
    if value is None:
        raise ConfigError(
            f"There is no report.json next to {table.path}, so the threshold "
            "between pore and solid is unknown. Give it (--threshold)."
        )
    kind: Phase = phase or table.phase or "dark"
    _check_sizes(scene, table)
    for row in table.rows:
        yield row, _matching_pore(scene, row, value, kind, table.connectivity)


def _check_sizes(scene: ExplainedScan, table: StoredPoreTable) -> None:
    n = scene.layout.ndim
    shape = scene.result_shape[-n:]
    if table.shape and table.shape != shape:
        raise VolumeError(
            f"{table.path} was measured on a volume of "
            f"{' × '.join(map(str, table.shape))} voxels, but the result has "
            f"{' × '.join(map(str, shape))}: use the table measured on this model's "
            "restoration of the scan."
        )
    for row in table.rows:
        inside = len(row.box) == n and all(
            0 <= a < b <= size for (a, b), size in zip(row.box, shape, strict=True)
        )
        if not inside:
            raise VolumeError(
                f"Pore {row.label} of {table.path} is not inside the result of "
                f"{' × '.join(map(str, shape))} voxels: use the table measured on "
                "this model's restoration of the scan."
            )


def _matching_pore(
    scene: ExplainedScan,
    row: PoreRow,
    threshold: float,
    phase: Phase,
    connectivity: Literal[6, 26],
) -> ExplainedRegion | None:
    """Return the pore in the box of `row` that has about the same number of voxels."""
    from scipy import ndimage

    ends: Sequence[tuple[int, int]] = [(0, 1)] * (3 - len(row.box)) + list(row.box)
    region = scene.clipped([slice(a, b) for a, b in ends])
    window = scene.window(region)
    greys = window.grey(window.values())
    pores = greys <= threshold if phase == "dark" else greys > threshold
    neighbours = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    labels, n = ndimage.label(pores, neighbours)
    if not n:
        return None
    counts = np.bincount(labels.ravel())[1:]
    best = int(np.abs(counts - row.voxels).argmin())
    if abs(int(counts[best]) - row.voxels) > max(1, _SIZE_TOLERANCE * row.voxels):
        return None
    mask = labels == best + 1
    inner = np.argwhere(mask)[mask.sum() // 2]
    z, y, x = (int(i) + part.start for i, part in zip(inner, region, strict=True))
    return _cut_out("pore", region, mask, (z, y, x), threshold, phase)
