"""Degree of anisotropy from the mean intercept length (MIL)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.local_thickness.blocks import block_edge, cut_blocks
from napari_geosr.measure.local_thickness.spheres import kernels
from napari_geosr.measure.phases import Box, Mask, Phases
from napari_geosr.measure.phases.axes import with_sign
from napari_geosr.measure.phases.findings import (
    Findings,
    LittleMemoryError,
    Quantity,
    memory_remark,
    wide_remark,
)
from napari_geosr.measure.sums import SweepTotals

TITLE = "Anisotropy"
ABOUT = "Degree of anisotropy (DA) and main direction, from mean intercept lengths."
CONVENTION = (
    "The mean intercept length MIL along a direction is the total length of parallel "
    "lines ÷ the number of phase changes along them, into and out of the pores "
    "(Harrigan & Mann 1984). All parallel lines together meet each part of the surface "
    "in proportion to its projected area, so 1/MIL is the sum of the projected areas ÷ "
    "the volume. The surface consists of one facet between every two neighbouring "
    "voxels of different phases (surface nets, Gibson 1998). Its position between "
    "voxels is estimated from the surrounding 7³ voxels, so that the voxel steps on "
    "oblique surfaces are not counted; in objects of only a few voxels, the facet lies "
    "midway between voxels. The ellipsoid 1/MIL² = nᵀ A n is fitted by least squares; "
    "its radii are a ≥ b ≥ c. DA is given in three conventions: 1 − c²/a² (as in "
    "BoneJ: ratio of the eigenvalues of A), 1 − c/a, and a/c (from 1 to infinity, as "
    "in CTAn)."
)
SOURCES = (
    "Harrigan TP, Mann RW. Characterization of microstructural anisotropy in "
    "orthotropic materials using a second rank tensor. J Mater Sci 19:761-767 "
    "(1984), definition of the ellipsoid of mean intercept lengths. "
    "doi:10.1007/BF00540446",
    "Odgaard A. Three-dimensional methods for quantification of cancellous bone "
    "architecture. Bone 20:315-328 (1997), definition of the mean intercept length. "
    "doi:10.1016/S8756-3282(97)00007-0",
    "Gibson SFF. Constrained elastic surface nets: generating smooth surfaces from "
    "binary segmented data. MICCAI, LNCS 1496:888-898 (1998), definition of the "
    "facets. doi:10.1007/BFb0056277",
)
QUANTITIES = (
    Quantity("DA(1-c²/a²)", "degree of anisotropy, 0 to 1, squared radii (BoneJ)"),
    Quantity("DA(1-c/a)", "degree of anisotropy, 0 to 1, radii"),
    Quantity("DA(a/c)", "degree of anisotropy, 1 or more, radii (CTAn)"),
    Quantity("MIL.a", "longest radius of the MIL ellipsoid", 1),
    Quantity("MIL.b", "intermediate radius of the MIL ellipsoid", 1, flat_name="-"),
    Quantity("MIL.c", "shortest radius of the MIL ellipsoid", 1),
    Quantity("MIL.z", "main direction, component along Z", flat_name="-"),
    Quantity("MIL.y", "main direction, component along Y"),
    Quantity("MIL.x", "main direction, component along X"),
)
#: Number of directions in which the mean intercept length of a volume is measured.
_N_DIRECTIONS = 307
#: Number of directions in which the mean intercept length of an image is measured.
_N_FLAT = 90
#: Number of phase changes per direction, on lines one voxel apart, below which the fit
#: is unreliable.
_FEW = 200
#: Number of phase changes per direction below which MIL and DA cannot be determined: a
#: sphere of 4 voxels has about 25.
_TOO_FEW = 30
#: Number of voxels around a block that are read to locate its surfaces: the corners of
#: its facets depend on the next voxel, and the depth of that voxel on the next three.
_HALO = 4
#: Preferred edge length of the blocks of a volume, in voxels.
_BLOCK = 128
#: Preferred edge length of the blocks of an image, in pixels.
_FLAT_BLOCK = 1024
#: Memory in bytes per voxel of a block including its halo; a pixel is repeated in three
#: planes.
_BYTES_PER_VOXEL = 24
#: If at most this many of 7³ voxels belong to a phase, its surface is assumed to lie
#: midway between voxels, because the estimate is not valid for such small objects.
_FEW_VOXELS = 80
#: Mean chord of a phase, in voxels, below which MIL and DA are uncertain: that of
#: spheres with a diameter of 6 voxels.
_SHORT_CHORD = 4.0
#: Minimum number of objects in a cross-section of the whole volume for which a MIL
#: between half and all of the volume's shortest edge is reliable.
_FEW_OBJECTS = 30
#: Difference between two values of 1/MIL², relative to the largest one, below which the
#: two radii count as equal.
_ALIKE = 0.1
#: DA(1 − c²/a²) below which a structure is called nearly isotropic: random isotropic
#: structures reach it in volumes with edges of a few intercept lengths.
_ISOTROPIC = 0.2


def directions(flat: bool) -> npt.NDArray[np.float64]:
    """Return unit vectors (z, y, x), evenly spread over half a sphere (or circle)."""
    if flat:
        angle = math.pi * np.arange(_N_FLAT) / _N_FLAT
        return np.stack([np.zeros(_N_FLAT), np.sin(angle), np.cos(angle)], axis=1)
    i = np.arange(_N_DIRECTIONS)
    z = (i + 0.5) / _N_DIRECTIONS
    turn = math.pi * (1 + math.sqrt(5)) * i
    ring = np.sqrt(1 - z**2)
    return np.stack([z, ring * np.sin(turn), ring * np.cos(turn)], axis=1)


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the MIL ellipsoid from the surface between the two phases."""
    facets = kernels().facets
    vectors = directions(phases.flat)
    areas = np.zeros((3, facets.GROUPS, 3), np.int64)
    pairs = np.zeros(3, np.int64)
    try:
        blocks = _blocks(phases)
    except LittleMemoryError as error:
        has_budget = phases.budget is not None
        remark = memory_remark("DA and MIL were", error.needed, has_budget=has_budget)
        return Findings({}, [remark])
    yield StageStarted(0, len(blocks), message="Measuring the anisotropy")
    for i, block in enumerate(blocks):
        phases.check()
        _add_block(phases, block, areas, pairs)
        yield BlockDone(i + 1, len(blocks))
    used = [1, 2] if phases.flat else [0, 1, 2]
    if not pairs[used].all():
        return Findings({}, ["DA cannot be determined: the sample is too thin."])
    rate = np.zeros(len(vectors))
    for axis in used:
        vector = areas[axis][areas[axis].any(axis=1)] / facets.STEPS
        projected = [np.abs(vector @ direction).sum() for direction in vectors]
        rate += np.array(projected) / pairs[axis]
    share = phases.count(phases.pores) / phases.sample_voxels
    return _findings(
        vectors,
        rate,
        float(pairs[used].mean()),
        min(share, 1 - share),
        phases.sample_shape,
        phases.flat,
    )


def _blocks(phases: Phases) -> list[Box]:
    """Divide the volume into blocks that fit into memory with their halo."""
    edge, n_bytes = _BLOCK, _BYTES_PER_VOXEL
    if phases.flat:
        edge, n_bytes = _FLAT_BLOCK, 3 * _BYTES_PER_VOXEL
    room = phases.available_bytes
    edge = block_edge(phases.shape, edge, _HALO, room, n_bytes)
    return list(cut_blocks(phases.shape, edge))


def _add_block(
    phases: Phases,
    block: Box,
    areas: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.int64],
) -> None:
    """Add the facets of a block to `areas` and `pairs` (`facets.add_facets`)."""
    from scipy.ndimage import minimum_filter

    facets, surface = kernels().facets, kernels().surface
    z, y, x = wide = [
        slice(max(0, s.start - _HALO), min(n, s.stop + _HALO))
        for s, n in zip(block, phases.shape, strict=True)
    ]
    pores = phases.pores[z, y, x]
    sample = None if phases.sample is None else phases.sample[z, y, x]
    own = np.array(
        [
            (s.start - w.start, s.stop - w.start)
            for s, w in zip(block, wide, strict=True)
        ]
    )
    # Voxels at the border of the volume are not inner ones.
    ends = [
        slice(int(w.start == 0), w.stop - w.start - int(w.stop == n))
        for w, n in zip(wide, phases.shape, strict=True)
    ]
    if phases.flat:
        ends[0] = slice(0, 1)
    is_inner = np.zeros(pores.shape, bool)
    is_inner[tuple(ends)] = True
    if sample is not None:
        width = 2 * surface.REACH + 1
        is_inner &= minimum_filter(sample, width, mode="constant", cval=1)
    if phases.flat:  # the same plane above and below
        pores, is_inner = np.repeat(pores, 3, axis=0), np.repeat(is_inner, 3, axis=0)
        sample = None if sample is None else np.repeat(sample, 3, axis=0)
        own[0] = 1, 2
    phase, exists = pores.astype(np.uint8), _cells(pores.shape, sample)
    depths = np.where(pores, _depths(1 - phase), _depths(phase))
    # At the border of the sample, the surface is assumed to lie midway between voxels.
    depths[~is_inner | _is_small(pores)] = surface.STEPS / 2
    corners = np.zeros((*exists.shape, 3), np.float32)
    facets.place_corners(phase, depths, exists, corners)
    facets.add_facets(phase, depths, exists, corners, own, areas, pairs)


def _cells(shape: tuple[int, ...], sample: Mask | None) -> Mask:
    """Select the cells with all eight voxels in the sample."""
    exists = np.zeros([n + 1 for n in shape], bool)
    inner = exists[1:-1, 1:-1, 1:-1]
    inner[:] = True
    if sample is not None:
        for corner in np.ndindex(2, 2, 2):
            z, y, x = (slice(c, c + n - 1) for c, n in zip(corner, shape, strict=True))
            inner &= sample[z, y, x]
    return exists


def _depths(phase: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return, for the voxels outside a phase, the distance from its surface."""
    surface = kernels().surface
    patterns, found = phase.copy(), np.zeros(phase.shape, np.int32)
    surface.to_patterns(patterns)
    surface.locate(patterns, found)
    depths: npt.NDArray[np.float32] = np.maximum(-found, 1).astype(np.float32)
    return depths


def _is_small(pores: Mask) -> Mask:
    """Select voxels with few voxels of either phase around them."""
    from scipy.ndimage import uniform_filter

    width = 2 * kernels().surface.REACH + 1
    share = uniform_filter(pores.astype(np.float32), width, mode="nearest")
    few = (_FEW_VOXELS + 0.5) / width**3
    small: Mask = (share < few) | (share > 1 - few)
    return small


def _findings(
    vectors: npt.NDArray[np.float64],
    rate: npt.NDArray[np.float64],
    pairs: float,
    share: float,
    shape: Sequence[int],
    flat: bool,
) -> Findings:
    """Fit the ellipsoid to the phase changes per voxel length along each direction.

    Parameters
    ----------
    pairs : float
        Total length of all lines along a direction, one voxel apart, in voxels.
    share : float
        Share of the rarer phase in the volume.
    """
    if not rate.any():
        return Findings({}, ["DA cannot be determined: the sample has only one phase."])
    remarks = []
    changes = float(rate.mean() * pairs)
    chord = 2 * share / float(rate.mean())
    if changes < _TOO_FEW:
        return Findings(
            {},
            [
                f"DA and MIL cannot be determined: there are only {changes:.0f} phase "
                "changes per direction. A larger volume is needed."
            ],
        )
    if changes < _FEW:
        remarks.append(
            f"DA is unreliable: there are only {changes:.0f} phase changes per "
            "direction. A larger volume is needed."
        )
    radii, axes = ellipsoid(vectors, rate, flat)
    a, c, main = radii[0], radii[-1], axes[0]
    values: dict[str, float | None] = {
        "DA(1-c²/a²)": float(1 - (c / a) ** 2),
        "DA(1-c/a)": float(1 - c / a),
        "DA(a/c)": float(a / c) if math.isfinite(a) else None,
        "MIL.a": float(a) if math.isfinite(a) else None,
        "MIL.b": None,
        "MIL.c": float(c),
        "MIL.z": float(main[0]),
        "MIL.y": float(main[1]),
        "MIL.x": float(main[2]),
    }
    if not flat and math.isfinite(radii[1]):
        values["MIL.b"] = float(radii[1])
    if not math.isfinite(a):
        remarks.append(
            "There are no phase changes along the main direction: its MIL is infinite."
        )
    elif (
        a > min((n for n in shape if n > 1), default=1)
        or pairs / (a * chord ** (1 if flat else 2)) < _FEW_OBJECTS
    ):
        remarks += wide_remark("MIL.a", float(a), shape)
    if chord < _SHORT_CHORD:
        remarks.append(
            "MIL and DA are uncertain: the chords of the rarer phase are only "
            f"{chord:.1f} voxels long on average. For spheres with a diameter of 4 "
            "voxels, MIL is 10 % too long; for 5 voxels, 4 %. Scan with smaller voxels "
            "for more accurate values."
        )
    remarks += _direction_remark(radii, axes, flat)
    curve = {
        "z": vectors[:, 0].tolist(),
        "y": vectors[:, 1].tolist(),
        "x": vectors[:, 2].tolist(),
        "MIL": [1 / one if one else math.inf for one in rate.tolist()],
    }
    return Findings(values, remarks, curves={"rose": curve})


def _direction_remark(
    radii: npt.NDArray[np.float64], axes: npt.NDArray[np.float64], flat: bool
) -> list[str]:
    """Return a remark if the main direction is arbitrary, else an empty list."""
    shares = (radii[-1] / radii) ** 2
    if shares[0] > 1 - _ISOTROPIC:
        components = "MIL.y, MIL.x" if flat else "MIL.z, MIL.y, MIL.x"
        return [
            "The structure is nearly isotropic, so the main direction "
            f"({components}) means little."
        ]
    if not flat and shares[1] - shares[0] < _ALIKE:
        normal = ", ".join(f"{value + 0.0:.2f}" for value in np.round(axes[-1], 2))
        normal = normal.replace("-", "\N{MINUS SIGN}")
        return [
            "MIL.a and MIL.b are nearly equal compared with MIL.c, as in plates, so "
            "the main direction is arbitrary within a plane. The normal of this plane, "
            f"along which MIL is shortest, is ({normal}) in Z, Y, X."
        ]
    return []


def ellipsoid(
    vectors: npt.NDArray[np.float64], rate: npt.NDArray[np.float64], flat: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit an ellipsoid; return its radii, longest first, and its axes as rows.

    Parameters
    ----------
    vectors : ndarray of shape (n, 3)
    rate : ndarray of shape (n,)
        Phase changes per unit length: 1/MIL.
    """
    axes = [1, 2] if flat else [0, 1, 2]
    pairs = [(i, j) for i in axes for j in axes if i <= j]
    system = np.stack(
        [vectors[:, i] * vectors[:, j] * (1 if i == j else 2) for i, j in pairs], axis=1
    )
    solution, *_ = np.linalg.lstsq(system, rate**2, rcond=None)
    matrix = np.zeros((3, 3))
    for (i, j), value in zip(pairs, solution, strict=True):
        matrix[i, j] = matrix[j, i] = value
    eigenvalues, eigenvectors = np.linalg.eigh(matrix[np.ix_(axes, axes)])
    radii = np.full(len(axes), np.inf)
    known = eigenvalues > 1e-9 * eigenvalues[-1]
    radii[known] = 1 / np.sqrt(eigenvalues[known])
    rows = np.zeros((len(axes), 3))
    rows[:, axes] = eigenvectors.T
    return radii, with_sign(rows)
