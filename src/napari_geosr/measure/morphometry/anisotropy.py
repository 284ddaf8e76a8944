"""Degree of anisotropy from the mean intercept length (MIL)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.phases.findings import Findings, Quantity, wide_remark
from napari_geosr.measure.sums import SweepTotals

TITLE = "Anisotropy"
ABOUT = "Degree of anisotropy (DA) and main direction, from mean intercept lengths."
CONVENTION = (
    "The mean intercept length MIL along a direction is the total length of parallel "
    "lines ÷ the number of phase changes along them (into and out of the pores), "
    "sampled at every voxel length (Harrigan & Mann 1984). The ellipsoid 1/MIL² = nᵀ "
    "A n is fitted by least squares; its radii are a ≥ b ≥ c. DA is given in three "
    "conventions: 1 − c²/a² (as in BoneJ: ratio of the eigenvalues of A), 1 − c/a, "
    "and a/c (from 1 to infinity, as in CTAn)."
)
SOURCES = (
    "Harrigan TP, Mann RW. Characterization of microstructural anisotropy in "
    "orthotropic materials using a second rank tensor. J Mater Sci 19:761-767 "
    "(1984), definition of the ellipsoid of mean intercept lengths. "
    "doi:10.1007/BF00540446",
    "Odgaard A. Three-dimensional methods for quantification of cancellous bone "
    "architecture. Bone 20:315-328 (1997), definition of the mean intercept length. "
    "doi:10.1016/S8756-3282(97)00007-0",
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
#: Number of directions in a volume.
_N_DIRECTIONS = 307
#: Number of directions in an image.
_N_FLAT = 90
#: Approximate total number of samples on all lines.
_N_SAMPLES = 3 * 10**7
#: Phase changes per direction below which the fit is unreliable.
_FEW = 200


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


def _frames(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return each direction with two unit vectors normal to it, shape (n, 3, 3)."""
    frames = np.empty((len(vectors), 3, 3))
    for i, vector in enumerate(vectors):
        helper = np.eye(3)[np.argmin(np.abs(vector))]
        crossed = np.cross(vector, helper)
        first = crossed / math.sqrt(float(crossed @ crossed))
        frames[i] = vector, first, np.cross(vector, first)
    return frames


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the MIL ellipsoid from the changes between the two phases."""
    from napari_geosr.measure.kernels.crossings import OUTSIDE, count_crossings

    vectors = directions(phases.flat)
    shape, n = np.array(phases.shape), len(vectors)
    spacing = max(1.0, math.sqrt(n * math.prod(phases.shape) / _N_SAMPLES))
    if phases.flat:
        spacing = 1.0
    n_side = math.ceil(math.sqrt(float((shape**2).sum())) / 2 / spacing)
    states = np.full((n, (2 * n_side + 1) ** 2), OUTSIDE, np.uint8)
    crossings, samples = np.zeros(n, np.int64), np.zeros(n, np.int64)
    slabs = phases.slabs
    yield StageStarted(0, len(slabs), message="Measuring the anisotropy")
    for i, slab in enumerate(slabs):
        block = phases.planes(phases.pores, slab).astype(np.uint8)
        sample = phases.sample_planes(slab)
        if sample is not None:
            block[~sample] = OUTSIDE
        count_crossings(
            block,
            slab.start,
            shape,
            _frames(vectors),
            spacing,
            n_side,
            states,
            crossings,
            samples,
        )
        yield BlockDone(i + 1, len(slabs))
    return _findings(vectors, crossings, samples, phases.shape, phases.flat)


def _findings(
    vectors: npt.NDArray[np.float64],
    crossings: npt.NDArray[np.int64],
    samples: npt.NDArray[np.int64],
    shape: Sequence[int],
    flat: bool,
) -> Findings:
    total = int(crossings.sum())
    if not total or not samples.all():
        return Findings({}, ["DA has no value: the sample has only one phase."])
    remarks = []
    if (mean := total / len(vectors)) < _FEW:
        remarks.append(
            f"DA is unreliable: there are only {mean:.0f} phase changes per direction. "
            "A larger volume is needed."
        )
    rate = crossings / samples
    found = ellipsoid(vectors, rate, flat)
    radii, main = found
    a, c = radii[0], radii[-1]
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
    else:
        remarks += wide_remark("MIL.a", float(a), shape)
    curve = {
        "z": vectors[:, 0].tolist(),
        "y": vectors[:, 1].tolist(),
        "x": vectors[:, 2].tolist(),
        "changes_per_voxel": rate.tolist(),
    }
    return Findings(values, remarks, curves={"rose": curve})


def ellipsoid(
    vectors: npt.NDArray[np.float64], rate: npt.NDArray[np.float64], flat: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit an ellipsoid; return its radii, longest first, and its longest axis.

    Parameters
    ----------
    vectors : ndarray of shape (n, 3)
    rate : ndarray of shape (n,)
        Phase changes per length: 1/MIL.
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
    main = np.zeros(3)
    main[axes] = eigenvectors[:, 0]
    return radii, main * (1 if main[np.argmax(np.abs(main))] > 0 else -1)
