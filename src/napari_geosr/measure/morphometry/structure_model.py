"""Structure model index of the solid: plates, rods or spheres."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.phases import Box, Phases
from napari_geosr.measure.phases.findings import Findings, Quantity
from napari_geosr.measure.sums import SweepTotals

TITLE = "Structure model index"
ABOUT = (
    "SMI of the solid: 0 for plates, 3 for rods, 4 for spheres; includes concave parts."
)
CONVENTION = (
    "SMI is 6 × BV × S′ ÷ BS², where S′ is the rate at which the surface area "
    "changes as the bone grows (Hildebrand & Rüegsegger 1997): the integral of the "
    "sum of the two principal curvatures. The mask of the bone is smoothed by a "
    "Gaussian with a standard deviation of 1.6 voxels. Volume, surface and S′ are "
    "measured on the surfaces of constant value around 0.5; S′ is the integral of "
    "the divergence of their normals. SMI.concave is the share of the surface where "
    "the sum of the curvatures, averaged by a Gaussian with a standard deviation of "
    "2.5 voxels, is below −0.02 per voxel. A margin of eight voxels along the border "
    "of the volume is left out."
)
SOURCES = (
    "Hildebrand T, Rüegsegger P. Quantification of bone microarchitecture with the "
    "structure model index. Comput Methods Biomech Biomed Engin 1:15-23 (1997), "
    "definition of the index. doi:10.1080/01495739708936692",
    "Salmon PL, Ohlsson C, Shefelbine SJ, Doube M. Structure model index does not "
    "measure rods and plates in trabecular bone. Front Endocrinol 6:162 (2015), on "
    "its assumption of a convex surface. doi:10.3389/fendo.2015.00162",
)
QUANTITIES = (
    Quantity("SMI", "structure model index of the solid", flat_name="-"),
    Quantity("SMI.concave", "fraction of the surface that is concave", text="percent"),
)
#: Standard deviation of the smoothing in voxels.
_SIGMA = 1.6
#: Reach of the smoothing and its derivatives, in voxels; a border of this width is
#: excluded.
_HALO = 8
#: Maximum sum of the principal curvatures of a flat surface, in 1/voxel.
_FLAT = 0.02
#: Standard deviation, in voxels, of the Gaussian that averages curvatures before their
#: sign is read: steps between single voxels have curvatures of both signs.
_AVERAGED = 2.5
#: Width of the margin read around a block, in voxels, for the smoothing and the
#: averaging of curvatures.
_WIDE = 16
#: Half-width of the range of values of the smoothed mask, around 0.5, that form the
#: surface.
_RANGE = 0.3
#: Edge length of the blocks, in voxels.
_BLOCK = 96

Floats = npt.NDArray[np.float64]


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure volume, surface and curvature of the solid, block by block."""
    if phases.flat:
        return Findings({}, ["SMI.concave is not defined for a 2D image."])
    if min(phases.shape) < 3 * _HALO:
        return Findings(
            {},
            [
                "SMI cannot be determined: the volume must be at least "
                f"{3 * _HALO} voxels wide along every axis."
            ],
        )
    blocks = list(_blocks(phases.shape))
    yield StageStarted(0, len(blocks), message="Measuring the curvature of the solid")
    sums = np.zeros(4)
    for i, block in enumerate(blocks):
        phases.check()
        sums += _sums_of(phases, block)
        yield BlockDone(i + 1, len(blocks))
    volume, surface, concave, curvature = (float(n) for n in sums)
    if surface <= 0:
        return Findings({}, [_no_surface(phases)])
    smi = 6 * volume * curvature / surface**2
    remarks = []
    if concave > 0.1 * surface:
        remarks.append(
            f"{100 * concave / surface:.0f} % of the surface is concave, so SMI "
            "says little about plates and rods (Salmon et al. 2015)."
        )
    return Findings({"SMI": smi, "SMI.concave": concave / surface}, remarks)


def _no_surface(phases: Phases) -> str:
    """Explain why the smoothed mask has no surface."""
    n_solid, n_pores = phases.count(phases.solid), phases.count(phases.pores)
    if not (n_solid and n_pores):
        return "SMI cannot be determined: there is only one phase."
    rarer, n = ("solid", n_solid) if n_solid < n_pores else ("pores", n_pores)
    voxels = f"{n} voxel{'' if n == 1 else 's'}"
    return (
        f"SMI cannot be determined: smoothing leaves no surface of the {rarer} "
        f"({voxels}) at least {_HALO} voxels from the border of the volume. Measure a "
        "larger volume, or one with smaller voxels."
    )


def _blocks(shape: tuple[int, ...]) -> list[Box]:
    ranges = [
        [slice(a, min(a + _BLOCK, n - _HALO)) for a in range(_HALO, n - _HALO, _BLOCK)]
        for n in shape
    ]
    return [(z, y, x) for z, y, x in itertools.product(*ranges)]


def _sums_of(phases: Phases, block: Box) -> Floats:
    """Sum volume, surface, concave surface and curvature × surface in a block."""
    from scipy.ndimage import gaussian_filter

    wide = [
        slice(max(0, s.start - _WIDE), min(n, s.stop + _WIDE))
        for s, n in zip(block, phases.shape, strict=True)
    ]
    box = (wide[0], wide[1], wide[2])
    solid = phases.solid[box]
    if not solid.any():
        return np.zeros(4)

    level, slopes = _smoothed(solid)
    inside: npt.NDArray[np.bool_] | None = None
    if phases.sample is not None:
        # Smooth within the sample only, so that its border does not count as a surface.
        inside = phases.sample[box]
        share, changes = _smoothed(inside)
        share = np.maximum(share, 1e-6)
        level = level / share
        slopes = [(a - level * b) / share for a, b in zip(slopes, changes, strict=True)]
    length = np.sqrt(sum(s * s for s in slopes))
    with np.errstate(divide="ignore", invalid="ignore"):
        normals = [np.where(length > 1e-9, -s / length, 0.0) for s in slopes]
    bend = sum(
        np.gradient(n, axis=axis) for axis, n in enumerate(normals) if n.shape[axis] > 1
    )
    off = (level - 0.5) / _RANGE
    weight = np.where(np.abs(off) < 1, (1 + np.cos(math.pi * off)) / (2 * _RANGE), 0.0)
    share = np.clip((1 + off + np.sin(math.pi * off) / math.pi) / 2, 0, 1)
    share = np.where(off >= 1, 1.0, np.where(off <= -1, 0.0, share))
    own = tuple(
        slice(s.start - w.start, s.stop - w.start)
        for s, w in zip(block, wide, strict=True)
    )
    area = length * weight
    if inside is not None:
        area, share = area * inside, share * inside
    turned = area * bend
    mean, near = (
        gaussian_filter(v, _AVERAGED, mode="constant", truncate=3.0)
        for v in (turned, area)
    )
    concave = area * (mean < -_FLAT * near)
    return np.array([v[own].sum() for v in (share, area, concave, turned)])


def _smoothed(mask: npt.NDArray[np.bool_]) -> tuple[Floats, list[Floats]]:
    """Return a mask smoothed by a Gaussian, and the derivatives of the result."""
    from scipy.ndimage import gaussian_filter

    values = mask.astype(np.float64)
    results = [
        gaussian_filter(
            values,
            _SIGMA,
            order=[int(axis == along) for axis in range(3)],
            mode="nearest",
            truncate=4.0,
        )
        for along in (None, 0, 1, 2)
    ]
    return results[0], results[1:]
