"""Osteocyte lacunae: number per bone volume, volume, stretch, orientation."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import Step
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.phases.axes import with_sign
from napari_geosr.measure.phases.cubic import is_cubic
from napari_geosr.measure.phases.findings import Column, Findings, Quantity
from napari_geosr.measure.sums import Pores, SweepTotals

TITLE = "Lacunae"
ABOUT = "Number of pores per bone volume, and their volume, stretch and orientation."
CONVENTION = (
    "Every counted pore counts as a lacuna: choose the minimum pore size, and exclude "
    "canals with a sample mask. Lc.N is the number of all lacunae, Lc.N/BV their "
    "number ÷ the volume of the solid. In Lc.N/BV, lacunae cut by the border count "
    "only in part: with a factor of 1/2 for each axis along which they touch a face of "
    "the volume (the mean of Gundersen's counting rule over all choices of counted and "
    "excluded faces), or a single factor of 1/2 if they touch only NaN voxels or the "
    "border of a mask of your own. The factor is somewhat larger than 1/2: it is "
    "increased by the ratio of the voxel size to the mean extent of whole lacunae, "
    "because lacunae can touch the border without being cut, and by the fraction of "
    "cut ellipsoids of the same size that fall below the minimum pore size. Lc.V is "
    "the mean volume of whole lacunae, and Lc.V.SD the standard deviation of this "
    "volume (n − 1 degrees of freedom); Lc.TV/BV includes all lacunae. With "
    "the eigenvalues EV1 ≤ EV2 ≤ EV3 of the covariance of a lacuna's voxels, the "
    "stretch Lc.St is (EV3 − EV1) ÷ EV3, and the oblateness Lc.Ob is 2 (EV2 − EV1) ÷ "
    "(EV3 − EV1) − 1: −1 for a rod, 1 for a plate (Mader et al. 2013). "
    "Lc.Align is the largest eigenvalue of the mean orientation tensor of the longest "
    "axes: 1/3 for many random axes, 1 for parallel axes (in an image, 1/2 to 1). Its "
    "eigenvector (Lc.z, Lc.y, Lc.x) is the mean longest axis. Because axes have no "
    "sign, the largest component is given as positive. No orientation is given for "
    "lacunae with a longest axis less than 5 % longer than the next one, and no "
    "oblateness for those with a longest axis less than 5 % longer than the shortest "
    "one. The shape of lacunae that touch the border is not measured."
)
SOURCES = (
    "Mader KS, Schneider P, Müller R, Stampanoni M. A quantitative framework for the "
    "3D characterization of the osteocyte lacunar system. Bone 57:142-154 (2013), "
    "definitions of stretch, oblateness and alignment. doi:10.1016/j.bone.2013.06.026",
    "Gundersen HJG. Notes on the estimation of the numerical density of arbitrary "
    "profiles: the edge effect. J Microsc 111:219-223 (1977), definition of the "
    "counting rule. doi:10.1111/j.1365-2818.1977.tb00062.x",
)
QUANTITIES = (
    Quantity("Lc.N", "number of lacunae"),
    Quantity(
        *("Lc.N/BV", "lacunae per bone volume", -3, True),
        flat_name="Lc.N/B.Ar",
        flat_title="lacunae per bone area",
        flat_power=-2,
    ),
    Quantity(
        *("Lc.V", "mean volume of a lacuna", 3),
        flat_name="Lc.Ar",
        flat_title="mean area of a lacuna",
        flat_power=2,
    ),
    Quantity(
        *("Lc.V.SD", "standard deviation of the volume", 3),
        flat_name="Lc.Ar.SD",
        flat_title="standard deviation of the area",
        flat_power=2,
    ),
    Quantity(
        *("Lc.TV/BV", "volume of all lacunae ÷ bone volume"),
        flat_name="Lc.T.Ar/B.Ar",
        flat_title="area of all lacunae ÷ bone area",
        text="percent",
    ),
    Quantity(
        *("Lc.St", "mean stretch, from 0 (sphere) to 1"),
        flat_title="mean stretch, from 0 (circle) to 1",
    ),
    Quantity("Lc.Ob", "mean oblateness, from −1 (rod) to 1 (plate)", flat_name="-"),
    Quantity("Lc.Align", "alignment of the longest axes"),
    Quantity("Lc.z", "mean longest axis, component along Z", flat_name="-"),
    Quantity("Lc.y", "mean longest axis, component along Y"),
    Quantity("Lc.x", "mean longest axis, component along X"),
)
COLUMNS = (
    Column("stretch"),
    Column("oblateness", flat=False),
    Column("angle_to_z", unit="°", flat=False),
    Column("axis_z", flat=False),
    Column("axis_y"),
    Column("axis_x"),
)
#: Minimum ratio of the longest axis to the next one for a lacuna to have an
#: orientation, and to the shortest one for a lacuna to have an oblateness.
_DISTINCT = 1.05
#: Stretch below which the axes of a lacuna differ only by rounding errors.
_ROUNDING = 1e-6
#: Lc.Align of n random axes in space exceeds 1/3 + this value / √n in 5 % of cases
#: (20 000 simulations for n from 2 to 400: 0.88 to 0.94).
_RANDOM_ALIGNMENT = 0.91
#: Probability that Lc.Align of random axes is higher than the limit.
_CHANCE = 0.05
#: Number of voxels below which the shape of a pore is uncertain.
_FEW_VOXELS = 125
#: For voxels that are not cubic: median width of the lacunae along the longest edge, in
#: voxels, below which shapes are uncertain. If this edge is 2, 3 or 4 times as long as
#: the others, spheres 4, 6 and 8 voxels wide (60 positions each) have a mean stretch of
#: 0.13 to 0.15, 0.06 to 0.07 and 0.03 to 0.04, respectively.
_LEAST_ACROSS = 8
#: Size of a pore, relative to the median of the other pores, above which it counts as a
#: canal if it also makes up most of the pore volume.
_CANAL = 20
#: Volume of all pores ÷ bone volume above which the pores are unlikely to be lacunae,
#: which fill a few per cent of bone.
_MOST_LACUNAE = 0.2

#: Kinds of sample mask that may cut lacunae at their borders ("none": at the border of
#: NaN voxels).
_CUTTING = ("none", "own")
#: What to do about canals and marrow, by the kind of sample mask.
_ADVICE = {
    "none": "Exclude canals and marrow with a sample mask (--sample cortex).",
    "cortex": "Exclude the canals from the sample with a mask of your own (--mask).",
    "own": "Exclude canals and marrow from your sample mask.",
}


def principal_axes(
    pores: Pores,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return covariance eigenvalues (n, 3), ascending, and longest axes (z, y, x).

    A voxel counts as a solid cube with an edge as long as the voxel's shortest edge.
    Longer edges are only due to coarser sampling, which does not make a pore longer.
    """
    sums = pores.sums.astype(np.float64)
    edges = np.array(pores.geometry.voxel_size)
    cube = edges[1 if pores.geometry.flat else 0 :].min() ** 2 / 12
    n = sums[:, column.COUNT]
    first = sums[:, column.SUM_Z : column.SUM_X + 1] / n[:, None]
    matrix = np.empty((len(sums), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            second = column.SUM_ZZ + i if i == j else column.SUM_ZY + i + j - 1
            value = sums[:, second] / n - first[:, i] * first[:, j]
            value = value * edges[i] * edges[j] + (cube if i == j else 0)
            matrix[:, i, j] = matrix[:, j, i] = value
    if pores.geometry.flat:
        matrix[:, 0, :] = matrix[:, :, 0] = 0.0
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return eigenvalues, vectors[:, :, 2]


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the counted pores as lacunae."""
    yield from ()
    pores = totals.pores
    n = len(pores)
    solid = totals.sample_voxels - totals.pore_voxels
    cells = phases.edge ** (-phases.ndim)
    bone = solid * pores.geometry.voxel_volume * cells
    whole = ~pores.touches_border
    volume = pores.size[whole] * cells
    eigenvalues, axes = principal_axes(pores)
    low, middle, high = eigenvalues.T
    if phases.flat:
        low = middle
    with np.errstate(invalid="ignore", divide="ignore"):
        stretch = np.where(whole, (high - low) / high, np.nan)
        stretch[stretch < _ROUNDING] = 0.0
        shaped = whole & (high > _DISTINCT**2 * low)
        flatness = np.where(shaped, 2 * (middle - low) / (high - low) - 1, np.nan)
    oriented = whole & (high > _DISTINCT**2 * middle)
    axes = with_sign(axes)
    align, mean_axis, unaligned = _alignment(axes[oriented], int(whole.sum()), phases)
    remarks = [
        *_no_lacunae(pores, solid, phases),
        *_remarks(pores, whole),
        *([] if phases.flat else _round_remarks(whole, shaped)),
        *(unaligned if whole.any() else []),
    ]
    if len(volume) == 1:
        kind = "lacuna" if n == 1 else "whole lacuna"
        remarks.append(f"Lc.V.SD cannot be determined: there is only one {kind}.")
    values: dict[str, float | None] = {
        "Lc.N": n,
        "Lc.N/BV": float(_shares(pores, phases).sum() / bone) if bone else None,
        "Lc.V": float(volume.mean()) if len(volume) else None,
        "Lc.V.SD": float(volume.std(ddof=1)) if len(volume) > 1 else None,
        "Lc.TV/BV": float(pores.size.sum() * cells / bone) if bone else None,
        "Lc.St": _mean(stretch),
        "Lc.Ob": _mean(flatness),
        "Lc.Align": align,
        "Lc.z": mean_axis[0],
        "Lc.y": mean_axis[1],
        "Lc.x": mean_axis[2],
    }
    axes[~oriented] = np.nan
    tilt = np.degrees(np.arccos(np.clip(np.abs(axes[:, 0]), 0, 1)))
    columns = {"stretch": stretch}
    if not phases.flat:
        columns |= {"oblateness": flatness, "angle_to_z": tilt, "axis_z": axes[:, 0]}
    columns |= {"axis_y": axes[:, 1], "axis_x": axes[:, 2]}
    return Findings(values, remarks, columns=columns)


def _round_remarks(
    whole: npt.NDArray[np.bool_], shaped: npt.NDArray[np.bool_]
) -> list[str]:
    """Remark on lacunae that are too round to be compared with rods and plates."""
    n, n_whole = int(shaped.sum()), int(whole.sum())
    if n == n_whole:
        return []
    if not n:
        return ["Lc.Ob cannot be determined: the lacunae are too round."]
    return [
        f"Lc.Ob was determined for {n} of {n_whole} lacunae; the others are too round "
        "for their oblateness to be determined."
    ]


def _alignment(
    axes: npt.NDArray[np.float64], n_whole: int, phases: Phases
) -> tuple[float | None, Sequence[float | None], list[str]]:
    """Return the alignment of the longest axes, their mean axis, and remarks."""
    n, remarks = len(axes), []
    if n < 2:
        return (
            None,
            (None,) * 3,
            [
                "Lc.Align cannot be determined: at least two lacunae with a distinct "
                f"longest axis are needed, but there {'is 1' if n else 'are 0'}."
            ],
        )
    if n < n_whole:
        remarks.append(
            f"Lc.Align is measured from {n} of {n_whole} lacunae; the others have no "
            "distinct longest axis."
        )
    eigenvalues, vectors = np.linalg.eigh(axes.T @ axes / n)
    align = float(eigenvalues[-1])
    (mean_axis,) = with_sign(vectors[:, -1:].T).tolist()
    if phases.flat:
        limit = 0.5 + 0.5 * math.sqrt(-math.log(_CHANCE) / n)
    else:
        limit = 1 / 3 + _RANDOM_ALIGNMENT / math.sqrt(n)
    if align <= limit:
        components = "Lc.y, Lc.x" if phases.flat else "Lc.z, Lc.y, Lc.x"
        remarks.append(
            f"An Lc.Align of {align:.2f} does not show a common orientation: for {n} "
            f"random axes, it is up to {min(1.0, limit):.2f} in 95 % of cases. "
            f"The mean longest axis ({components}) then means little."
        )
    return align, mean_axis, remarks


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _no_lacunae(pores: Pores, solid: int, phases: Phases) -> list[str]:
    """Remark on pores that are probably canals, marrow or a network, not lacunae."""
    sizes = pores.voxels
    if not len(sizes):
        return []
    advice = _ADVICE.get(phases.sample_from, _ADVICE["none"])
    others = np.delete(sizes, sizes.argmax())
    through = _reach_through(pores, phases)
    kind = "area" if pores.geometry.flat else "volume"
    if len(others) and sizes.max() > max(others.sum(), _CANAL * np.median(others)):
        share = 100 * sizes.max() / sizes.sum()
        return [
            f"One pore makes up {share:.3g} % of the {kind} of all lacunae, so it is "
            f"probably a canal or marrow. {advice}"
        ]
    if n_through := int(np.count_nonzero(through)):
        pore = "pore reaches" if n_through == 1 else "pores reach"
        return [
            f"{n_through} {pore} from one face of the volume to the opposite one, so "
            f"{'it is' if n_through == 1 else 'they are'} not closed like lacunae, but "
            f"probably canals or marrow. {advice}"
        ]
    if sizes.sum() > _MOST_LACUNAE * solid:
        return [
            f"The lacunae make up {100 * sizes.sum() / max(1, solid):.3g} % of the "
            f"bone {kind}, but osteocyte lacunae fill only a few per cent, so these "
            f"pores are probably not lacunae. {advice}"
        ]
    return []


def _at_faces(
    pores: Pores, phases: Phases
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return whether pores reach the low and high faces of the volume, (n, 3) each.

    Along an axis with a single voxel, no pore counts as reaching a face.
    """
    low = pores.sums[:, column.MIN_Z : column.MIN_X + 1]
    high = pores.sums[:, column.MAX_Z : column.MAX_X + 1]
    # Pores are on the grid of the scan, phases on a grid of cubic voxels.
    n = np.array(phases.scan_shape)
    return (low == 0) & (n > 1), (high == n - 1) & (n > 1)


def _reach_through(pores: Pores, phases: Phases) -> npt.NDArray[np.bool_]:
    """Select the pores that reach from one face of the volume to the opposite one."""
    low, high = _at_faces(pores, phases)
    through: npt.NDArray[np.bool_] = np.logical_or.reduce(low & high, axis=1)
    return through


def _shares(pores: Pores, phases: Phases) -> npt.NDArray[np.float64]:
    """Return the weight of each pore: 1, or less if the border probably cuts it.

    Of the positions at which a pore of h voxels lies at least in part in a row of n
    voxels, n − h − 1 do not touch an end, and 2 h do. At a number 2 k of the latter,
    the part inside the row is smaller than the minimum size and is not counted. The
    remaining 2 h − 2 k positions have the weight (h + 1) / (2 h − 2 k), so that the sum
    of all weights is n.
    """
    low, high = _at_faces(pores, phases)
    at_faces = low | high
    whole = ~pores.touches_border
    first = pores.sums[:, column.MIN_Z : column.MIN_X + 1]
    extent = pores.sums[:, column.MAX_Z : column.MAX_X + 1] - first + 1
    factors = np.full(3, 0.5)
    if whole.any():
        h = extent[whole].astype(np.float64)
        lost = _too_small(h, pores.voxels[whole], phases)
        factors = (h + 1).mean(axis=0) / (2 * (h - lost).mean(axis=0))
    shares: npt.NDArray[np.float64] = np.where(at_faces, factors, 1.0).prod(axis=1)
    if phases.sample_from in _CUTTING:
        mean = factors[np.array(phases.scan_shape) > 1].mean()
        shares[~whole & ~at_faces.any(axis=1)] = mean
    return shares


def _too_small(
    extents: npt.NDArray[np.float64], voxels: npt.NDArray[np.int64], phases: Phases
) -> npt.NDArray[np.float64]:
    """Return how many of the parts that a face cuts off are below the minimum size.

    Pores are assumed to be ellipsoids (in an image, ellipses).

    Parameters
    ----------
    extents : ndarray of shape (n, 3)
        Number of voxels of each pore along each axis. This is also the number of
        different parts that a face may cut off.
    voxels : ndarray of shape (n,)
        Number of voxels of each pore.
    phases : Phases
    """
    if phases.min_voxels == 1:
        return np.zeros_like(extents)
    depth = np.linspace(0, 1, 1001)
    share = depth**2 * (3 - 2 * depth)
    if phases.flat:
        chord = 2 * np.sqrt(depth * (1 - depth))
        share = (np.arccos(1 - 2 * depth) - (1 - 2 * depth) * chord) / math.pi
    least = np.interp(phases.min_voxels / voxels, share, depth)
    # The first of the parts is between 0.5 and 1.5 voxels deep.
    found: npt.NDArray[np.float64] = np.clip(
        least[:, None] * extents - 0.5, 0, extents - 1
    )
    return found


def _remarks(pores: Pores, whole: npt.NDArray[np.bool_]) -> list[str]:
    """Return remarks on shapes that were not measured or are uncertain."""
    remarks: list[str] = []
    if not whole.any():
        return [
            "No lacuna lies completely inside the sample, so neither sizes nor shapes "
            "were measured."
        ]
    if 2 * (n_cut := int(np.count_nonzero(~whole))) > len(whole):
        kind = "area" if pores.geometry.flat else "volume"
        remarks.append(
            f"{n_cut} of {len(whole)} lacunae touch the border: their number per bone "
            f"{kind} is uncertain, and large lacunae are underrepresented in the mean "
            f"{kind}. A larger sample is needed."
        )
    few = int(np.count_nonzero(pores.voxels[whole] < _FEW_VOXELS))
    if few * 2 > np.count_nonzero(whole):
        remarks.append(
            f"{few} of {np.count_nonzero(whole)} lacunae have fewer than "
            f"{_FEW_VOXELS} voxels: their stretch is uncertain. Smaller voxels are "
            "needed."
        )
    return remarks + _coarse_remarks(pores, whole)


def _coarse_remarks(pores: Pores, whole: npt.NDArray[np.bool_]) -> list[str]:
    """Remark on lacunae that are thin compared with the longest edge of the voxels."""
    sizes = pores.geometry.voxel_size
    first = 1 if pores.geometry.flat else 0
    if is_cubic(sizes[first:]):
        return []
    axis = first + int(np.argmax(sizes[first:]))
    low, high = (pores.sums[whole, end + axis] for end in (column.MIN_Z, column.MAX_Z))
    median = float(np.median(high - low + 1))
    if median >= _LEAST_ACROSS:
        return []
    shapes = "Lc.St is" if pores.geometry.flat else "Lc.St and Lc.Ob are"
    return [
        f"Half of the whole lacunae are at most {median:.3g} voxels wide along "
        f"{'ZYX'[axis]}, where the voxels are longest: {shapes} uncertain there, and "
        "even spheres would be stretched (by about 0.15 if they are 4 voxels wide, by "
        f"0.04 if they are {_LEAST_ACROSS}). Scan with smaller voxels along "
        f"{'ZYX'[axis]} if the shapes matter."
    ]
