"""Cortical bone, slice by slice: Tt.Ar, Ct.Ar, Ct.Th, Ct.Po, Po.N, Po.Dm."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.core.units import shown_unit
from napari_geosr.measure.local_thickness.spheres import local_thickness
from napari_geosr.measure.phases import Mask, MaskSource, Phases
from napari_geosr.measure.phases.cubic import interpolated, places_of
from napari_geosr.measure.phases.findings import Findings, Quantity, coarse_remark
from napari_geosr.measure.phases.marrow import joined, marrow_parts
from napari_geosr.measure.phases.shared import counted_pores_steps
from napari_geosr.measure.sums import SweepTotals

TITLE = "Cortical bone"
ABOUT = "Tt.Ar, Ct.Ar, Ct.Th, Ct.Po, Po.N and Ct.Po.Dm of the slices normal to Z."
CONVENTION = (
    "Each slice normal to Z is measured separately; values are means over the slices "
    "with bone, except those in which the ring of bone is open. The periosteal contour "
    "encloses the largest piece of bone with all its holes. The marrow cavity is the "
    "largest hole, if it is larger than all the other holes together. Another hole "
    "of at least 2 % of the area of the largest one also belongs to the cavity, "
    "together with the trabeculae that separate it from the cavity, under two "
    "conditions. First, these trabeculae are thinner than the holes on both sides, and "
    "thinner than the bone between either hole and the periosteal contour. Second, "
    "bone makes up less than half of the resulting cavity. Unless the added holes are "
    "together larger than the largest one, each of them must also fill at least half "
    "of the area by which it enlarges the convex outline around the cavity, which "
    "canals near the cavity do not. Pores that open into the cavity are part of it. "
    "Tt.Ar is the area inside the periosteal contour, Ct.Ar that area without the "
    "marrow cavity (pores included), Ct.Po the area of all pores ÷ Ct.Ar, and Ct.Th "
    "the mean local thickness of the cortex with its pores filled, in the slice. "
    "Contours and areas are those of the voxels of the scan, whether cubic or not. "
    "Po.N is the number of pores in the slice that belong to counted pores of the "
    "volume (those that reach the minimum size), and Ct.Po.Dm the mean diameter of "
    "the circles of the same area as these pores."
)
SOURCES = (
    "Bouxsein ML et al. Guidelines for assessment of bone microstructure in rodents "
    "using micro-computed tomography. J Bone Miner Res 25:1468-1486 (2010), "
    "definitions of the cortical quantities. doi:10.1002/jbmr.141",
)
QUANTITIES = (
    Quantity("Tt.Ar", "total area inside the periosteal contour", 2),
    Quantity("Ct.Ar", "cortical area", 2),
    Quantity("Ct.Ar/Tt.Ar", "cortical area fraction", text="percent"),
    Quantity("Ma.Ar", "marrow area", 2),
    Quantity("Ct.Th", "mean cortical thickness", 1),
    Quantity("Ct.Po", "cortical porosity", text="percent"),
    Quantity("Po.N", "pores per slice"),
    Quantity("Ct.Po.Dm", "mean diameter of the cortical pores in a slice", 1),
)
TABLES = ("cortical",)
_NAMES = tuple(q.name for q in QUANTITIES)
#: Maximum number of slices in which the cortical thickness is measured.
_MOST_THICKNESSES = 64
#: Minimum fraction of the slices with bone in which the bone must form a closed ring
#: within the image.
_MIN_CLOSED_SHARE = 0.9
#: Number of bone pixels on an edge of the image, divided by the square root of the
#: edge's length, above which the bone counts as cut off. A circle that just touches the
#: edge reaches 2.
_MOST_CUT = 2.5
#: Minimum overlap of the marrow cavities in adjacent slices, as a fraction of the
#: larger one.
_LEAST_SHARED = 0.8
#: Porosity of the cortex above which it is not compact bone.
_MOST_POROUS = 0.5
#: Minimum fraction of bone in a marrow cavity that is reported as trabeculae.
_FEW_TRABECULAE = 0.01


@dataclass(frozen=True)
class _PixelGrid:
    """The pixels of a slice of the scan, with lengths in units of `Phases.edge`."""

    #: Edges of a pixel along Y and X.
    pixel: tuple[float, float]
    #: Number of square pixels along Y and X with which the thickness is measured.
    squares: tuple[int, int]

    @classmethod
    def of(cls, phases: Phases) -> _PixelGrid:
        """Return the pixels of the slices normal to Z."""
        return cls(phases.scan_voxel[1:], phases.shape[1:])

    @property
    def area(self) -> float:
        """Area of a pixel."""
        return math.prod(self.pixel)

    def most_touching(self, n: float, axis: int) -> float:
        """Return how many of `n` pixels of an edge may be bone that is not cut off.

        The flatter the pixels, the more of them a circle of a given diameter touches.

        Parameters
        ----------
        n : float
        axis : {0, 1}
            Axis of the slice along which the edge lies.
        """
        return _MOST_CUT * math.sqrt(n * self.pixel[1 - axis] / self.pixel[axis])

    def of_squares(self, mask: Mask) -> Mask:
        """Interpolate a mask on square pixels."""
        if mask.shape == self.squares:
            return mask
        y, x = (
            places_of(*counts) for counts in zip(self.squares, mask.shape, strict=True)
        )
        size = (min(self.pixel), *self.pixel)
        squares: Mask = interpolated(mask[None], (np.zeros(1), y, x), size)[0]
        return squares


@dataclass(frozen=True, eq=False)
class _CrossSection:
    """The cross-section of a bone in one slice."""

    #: All bone, its largest piece, and the area inside the outline of this piece.
    every_bone: Mask
    bone: Mask
    total: Mask
    #: Marrow cavity with its trabeculae; None without a cavity.
    cavity: Mask | None
    #: Number of holes that belong to the cavity in addition to the largest one, and the
    #: share of the cavity outside the largest one.
    more_holes: int = 0
    share_added: float = 0.0


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the cortex in every slice."""
    scan, grid = phases.scan, _PixelGrid.of(phases)
    counted = yield from counted_pores_steps(scan)
    n = scan.shape[0]
    step = max(1, n // _MOST_THICKNESSES)
    rows = np.full((n, len(_NAMES)), np.nan)
    ring = _RingCheck(phases.sample_from == "cortex", grid)
    yield StageStarted(0, n, message="Measuring the cortex")
    for z in range(n):
        bone = scan.planes(scan.solid, slice(z, z + 1))[0]
        if bone.any():
            section = _section(bone, grid)
            ring.add(z, section, _not_measured(scan, z, section))
            rows[z] = _values_of(
                section,
                _not_small(scan, z, counted),
                phases.connectivity,
                grid,
                with_thickness=z % step == 0,
            )
        yield BlockDone(z + 1, n)
    for z in ring.not_compared:
        bone = scan.planes(scan.solid, slice(z, z + 1))[0]
        ring.compare(z, _section(bone, grid))
    remarks = ring.remarks(rows)
    rows[ring.open] = np.nan
    values: dict[str, float | None] = dict.fromkeys(_NAMES)
    for i, name in enumerate(_NAMES):
        known = rows[np.isfinite(rows[:, i]), i]
        values[name] = float(known.mean()) if len(known) else None
    if values["Tt.Ar"] is None:
        remarks.append("There is no bone (solid) in the sample.")
    if values["Tt.Ar"] is not None and not values["Ma.Ar"]:
        remarks.append(
            "No slice has a marrow cavity: the cortex is not a closed ring, and "
            "Ct.Th is the thickness of the whole bone."
        )
    if values["Tt.Ar"] is not None and not values["Po.N"]:
        pores = "pores that reach the minimum size" if values["Ct.Po"] else "pores"
        remarks.append(f"Ct.Po.Dm cannot be determined: the cortex has no {pores}.")
    if step > 1:
        remarks.append(f"Ct.Th was measured in one of every {step} slices.")
    for name in ("Ct.Th", "Ct.Po.Dm"):
        length = values[name]
        n_pixels = None if length is None else length / max(grid.pixel)
        remarks += coarse_remark(name, n_pixels)
    curve = _slices(rows, phases)
    return Findings(
        values,
        remarks,
        curves={"slices": {name: list(map(float, v)) for name, v in curve.items()}},
        tables={"cortical": _table(curve, phases)},
    )


def _slices(
    rows: npt.NDArray[np.float64], phases: Phases
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the values of all slices by name, with lengths in voxels.

    Values of slices that were left out, and thicknesses that were not measured, are
    NaN.
    """
    numbers = np.arange(len(rows), dtype=np.float64)
    columns = dict(zip(_NAMES, rows.T, strict=True))
    return {"slice": numbers, "distance": numbers * phases.scan_voxel[0], **columns}


def _table(
    curve: Mapping[str, npt.NDArray[np.float64]], phases: Phases
) -> dict[str, npt.NDArray[np.generic]]:
    """Return the values of all slices in physical units, by titles with these units."""
    size = [edge * phases.edge for edge in phases.scan_voxel]
    unit = shown_unit(phases.unit, size, flat=phases.flat)
    columns: dict[str, npt.NDArray[np.generic]] = {
        "slice": curve["slice"].astype(np.int64),
        f"distance ({unit})": curve["distance"] * phases.edge,
    }
    for quantity in QUANTITIES:
        title = quantity.name
        if quantity.power:
            title = f"{title} ({quantity.unit_in(unit)})"
        columns[title] = curve[quantity.name] * phases.edge**quantity.power
    return columns


@dataclass
class _RingCheck:
    """Finds slices without a clear ring of compact bone around a marrow cavity."""

    #: Whether the sample mask already separates the cortex from trabeculae.
    has_contours: bool
    grid: _PixelGrid
    n_cut: int = 0
    n_unknown: int = 0
    n_trabecular: int = 0
    n_pairs: int = 0
    n_moved: int = 0
    #: For each slice with a divided cavity, the number of further holes, and the share
    #: of the cavity outside the largest one.
    divided: list[tuple[int, float]] = field(default_factory=list)
    #: Slices in which the ring is open.
    open: list[int] = field(default_factory=list)
    #: Slices without a cavity before the first one with a cavity.
    not_compared: list[int] = field(default_factory=list)
    _before: Mask | None = None
    _first: Mask | None = None
    _last: Mask | None = None

    def add(self, z: int, section: _CrossSection, unknown: Mask | None) -> None:
        """Add a slice.

        Parameters
        ----------
        z : int
        section : _CrossSection
        unknown : ndarray of bool or None
            Pixels where bone may continue that was not measured; None if there are
            none.
        """
        bone, cavity = section.bone, section.cavity
        edges = ((bone[0], 1), (bone[-1], 1), (bone[:, 0], 0), (bone[:, -1], 0))
        self.n_cut += any(
            np.count_nonzero(edge) > self.grid.most_touching(len(edge), axis)
            for edge, axis in edges
        )
        self.n_unknown += unknown is not None and _touches(bone, unknown, self.grid)
        if cavity is not None:
            n_bone = np.count_nonzero(cavity & section.every_bone)
            n_least = _FEW_TRABECULAE * np.count_nonzero(cavity)
            self.n_trabecular += int(n_bone > n_least)
        if section.more_holes:
            self.divided.append((section.more_holes, section.share_added))
        if cavity is not None and self._before is not None:
            shared = np.count_nonzero(cavity & self._before)
            larger = max(np.count_nonzero(cavity), np.count_nonzero(self._before))
            self.n_pairs += 1
            self.n_moved += int(shared < _LEAST_SHARED * larger)
        self._before = cavity
        if cavity is not None:
            self._first = cavity if self._first is None else self._first
            self._last = cavity
        elif self._last is not None:
            self._compare(z, section, self._last)
        else:
            self.not_compared.append(z)

    def compare(self, z: int, section: _CrossSection) -> None:
        """Compare a slice without a cavity with the first one that has a cavity."""
        if self._first is not None:
            self._compare(z, section, self._first)

    def _compare(self, z: int, section: _CrossSection, cavity: Mask) -> None:
        """Note an open ring if there is air where other slices have marrow."""
        n = np.count_nonzero(cavity)
        n_inside, n_bone = (
            np.count_nonzero(cavity & part)
            for part in (section.total, section.every_bone)
        )
        if n_inside < _LEAST_SHARED * n and 2 * n_bone < n:
            self.open.append(z)

    def remarks(self, rows: npt.NDArray[np.float64]) -> list[str]:
        """Return remarks on slices that may not show a cortex."""
        values = dict(zip(_NAMES, rows[np.isfinite(rows[:, 0])].T, strict=True))
        if not (n := len(values["Tt.Ar"])):
            return []
        remarks = []
        if self.open:
            slices = "slice" if len(self.open) == 1 else "slices"
            remarks.append(
                f"{len(self.open)} of {n} slices {'is' if slices == 'slice' else 'are'}"
                " left out, because the ring of bone is open there, for example at a "
                "crack or a wide canal."
            )
        if self.divided:
            holes, shares = np.array(self.divided).T
            remarks.append(
                f"In {len(self.divided)} of {n} slices, the marrow cavity consists of "
                "several holes: on average, there are "
                f"{holes.mean():.3g} holes besides the largest one; together with the "
                "bone in between, these make up "
                f"{100 * shares.mean():.2g} % of the cavity. None of these holes is "
                "part of Ct.Po and Po.N. Check that they are marrow, not canals."
            )
        if self.n_trabecular and not self.has_contours:
            remarks.append(
                f"In {self.n_trabecular} of {n} slices, there are trabeculae in the "
                "marrow cavity. Those that divide it belong to it, but others that are "
                "attached to the cortex count as cortex. To separate them, use "
                "--sample cortex with a suitable --mask-closing."
            )
        if reasons := self._reasons(values, n):
            remarks.append(
                f"The sample may not be a cortex: {'; '.join(reasons)}. The values "
                "assume that each slice shows the whole cross-section of a long bone: "
                "a ring of compact bone around a marrow cavity."
            )
        return remarks

    def _reasons(self, values: dict[str, npt.NDArray[np.float64]], n: int) -> list[str]:
        """Return why the slices may not show a cortex."""
        reasons = []
        closed = int(np.count_nonzero(values["Ma.Ar"]))
        if 0 < closed < _MIN_CLOSED_SHARE * n:
            reasons.append(
                "there is a marrow cavity (a hole larger than all the others "
                f"together) in only {closed} of {n} slices"
            )
        elif self.n_moved > (1 - _MIN_CLOSED_SHARE) * self.n_pairs:
            reasons.append(
                "the largest hole changes position or size between adjacent slices "
                f"({self.n_moved} of {self.n_pairs} pairs), unlike a marrow cavity"
            )
        if self.n_cut > (1 - _MIN_CLOSED_SHARE) * n:
            reasons.append(
                f"bone lies on the border of the image in {self.n_cut} of {n} slices, "
                "so the periosteal contour is probably cut off"
            )
        if self.n_unknown > (1 - _MIN_CLOSED_SHARE) * n:
            reasons.append(
                "bone lies on the border of the sample mask or of NaN voxels in "
                f"{self.n_unknown} of {n} slices, so its contours are probably cut off"
            )
        if (porosity := float(values["Ct.Po"].mean())) > _MOST_POROUS:
            reasons.append(
                f"pores make up {100 * porosity:.0f} % of the area of the cortex, so "
                "it is not compact"
            )
        return reasons


def _not_measured(phases: Phases, z: int, section: _CrossSection) -> Mask | None:
    """Return the pixels of a slice where bone may continue outside the sample.

    These are NaN and infinite pixels, and bone outside a sample mask, except inside the
    periosteal contour, where a mask may exclude the trabeculae.
    """
    if phases.missing is None or phases.around is None or phases.sample is None:
        return None
    slab = slice(z, z + 1)
    missing = phases.planes(phases.missing, slab)[0]
    outside = ~phases.planes(phases.sample, slab)[0] & ~section.total
    unknown: Mask = missing | (outside & ~phases.planes(phases.around, slab)[0])
    return unknown if unknown.any() else None


def _not_small(phases: Phases, z: int, counted: MaskSource) -> Mask:
    """Return the pixels of a slice that belong to pores of at least the minimum size.

    The size of pores outside the sample is unknown, so they are included.
    """
    slab = slice(z, z + 1)
    found: Mask = phases.planes(counted, slab)[0]
    sample = phases.sample_planes(slab)
    if sample is not None:
        found |= ~sample[0]
    return found


def _touches(bone: Mask, unknown: Mask, grid: _PixelGrid) -> bool:
    """Whether so much bone adjoins unknown pixels that it may continue in them."""
    from scipy import ndimage

    cross = ndimage.generate_binary_structure(2, 1)
    near = ndimage.binary_dilation(unknown, cross) & ~unknown
    n_border = np.count_nonzero(near)
    n_bone = np.count_nonzero(near & bone)
    # The length of an edge is a quarter of the border, as in a square image.
    most = max(grid.most_touching(n_border / 4, axis) for axis in (0, 1))
    return bool(n_bone > most)


def _section(bone: Mask, grid: _PixelGrid) -> _CrossSection:
    """Find the contours in a slice with bone."""
    from scipy import ndimage

    pieces, _ = ndimage.label(bone, np.ones((3, 3)))
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    total = ndimage.binary_fill_holes(largest)
    holes, n_holes = ndimage.label(total & ~largest)
    if not n_holes:
        return _CrossSection(bone, largest, total, None)
    sizes = np.bincount(holes.ravel(), minlength=n_holes + 1)[1:]
    parts, gap = marrow_parts(holes, sizes, total, grid.pixel)
    if len(parts) > 1:
        cavity = joined(np.isin(holes, parts), gap, total, grid.pixel)
        area = np.count_nonzero(cavity & (holes > 0))
        if 2 * area > max(sizes.sum(), np.count_nonzero(cavity)):
            share = 1 - float(sizes.max()) / np.count_nonzero(cavity)
            more = len(parts) - 1
            return _CrossSection(bone, largest, total, cavity, more, share)
    if 2 * sizes.max() <= sizes.sum():
        return _CrossSection(bone, largest, total, None)
    return _CrossSection(bone, largest, total, holes == sizes.argmax() + 1)


def _values_of(
    section: _CrossSection,
    not_small: Mask,
    connectivity: int,
    grid: _PixelGrid,
    *,
    with_thickness: bool,
) -> list[float]:
    """Return the values of one slice, in the order of `QUANTITIES`.

    Parameters
    ----------
    section : _CrossSection
    not_small : ndarray of bool
        Pores with at least one of these pixels are counted.
    connectivity : {6, 26}
    grid : _PixelGrid
    with_thickness : bool
        Whether to measure the cortical thickness.
    """
    from scipy import ndimage

    total, cavity = section.total, section.cavity
    cortex = total if cavity is None else total & ~cavity
    neighbours = ndimage.generate_binary_structure(2, 2 if connectivity == 26 else 1)
    pores, n_pores = ndimage.label(cortex & ~section.every_bone, neighbours)
    areas = np.bincount(pores.ravel(), minlength=n_pores + 1)[1:]
    is_counted = np.bincount(pores[not_small], minlength=n_pores + 1)[1:] > 0
    diameters = np.sqrt(4 * areas[is_counted] * grid.area / np.pi)
    n_total, n_cortex = np.count_nonzero(total), np.count_nonzero(cortex)
    thickness = np.nan
    if with_thickness:
        # The cortex ends at the border of the image.
        around = np.pad(grid.of_squares(cortex), 1)
        thickness = float(local_thickness(around)[around].mean())
    return [
        n_total * grid.area,
        n_cortex * grid.area,
        n_cortex / n_total,
        0 if cavity is None else np.count_nonzero(cavity) * grid.area,
        thickness,
        areas.sum() / n_cortex,
        len(diameters),
        float(diameters.mean()) if len(diameters) else np.nan,
    ]
