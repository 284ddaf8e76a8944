"""Derives scans with fewer projections or photons from a full scan, for training pairs.

A network learns to turn the reconstruction from few projections or short exposures into
the reconstruction from the whole scan or from the remaining photons. All data remain in
their file until they are used.

References
----------
.. [1] Pelt, Batenburg, Sethian. Improving tomographic reconstruction from limited data
   using mixed-scale dense convolutional neural networks. J. Imaging 4, 128 (2018).
   doi:10.3390/jimaging4110128
.. [2] Liu et al. TomoGAN: low-dose synchrotron x-ray tomography with generative
   adversarial networks. J. Opt. Soc. Am. A 37, 422-434 (2020).
   doi:10.1364/JOSAA.375595
.. [3] Lehtinen et al. Noise2Noise: learning image restoration without clean data.
   ICML 2018. arXiv:1803.04189
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.angles import SAME_PLACE_STEPS, along_turn, distinct_places
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.operations.reconstruct.derived_views import (
    MeanViews,
    RemainingPhotons,
    ThinnedCounts,
)
from napari_geosr.tomography.flat_fields import (
    counts_per_photon as counts_per_photon_of,
)

Acquisition = Literal["step", "continuous"]
#: Maximum gap between neighbouring views of one exposure, in angular steps.
_MAX_GAP_STEPS = 2.5
#: Maximum gap between neighbouring views of one exposure, in degrees.
_MAX_GAP_DEGREES = 20.0
#: Maximum fraction of a view's photons given to the network as input; the rest are
#: needed for the target.
MAX_INPUT_LIGHT = 0.8
#: Number of views per part, unless a number of parts is set.
_VIEWS_PER_PART = 50
#: Maximum number of parts, unless a number of parts is set.
_MAX_PARTS = 4
#: Warning that one count is assumed to be one photon because nothing better is known.
_NO_GAIN = (
    "The number of counts per photon is unknown (estimating it requires at least "
    "three flat fields that differ), so one count per photon was assumed "
    "(--counts-per-photon)."
)


@dataclass(frozen=True)
class ScanPart:
    """A scan derived from another scan.

    Attributes
    ----------
    name : str
        Name of the scan's file; contains only letters, digits and hyphens.
    title : str
        Title shown to the user.
    scan : Projections
    light : float or None
        Intensity without a sample, relative to the whole scan; None for a second scan.
    """

    name: str
    title: str
    scan: Projections
    light: float | None = 1.0


@dataclass(frozen=True)
class ScanPair:
    """Input and target of a network.

    Attributes
    ----------
    source, target : ScanPart
    restored : ScanPart or None
        The scan that the trained network will restore, if `source` contains only some
        of its photons.
    """

    source: ScanPart
    target: ScanPart
    restored: ScanPart | None = None

    @property
    def to_restore(self) -> ScanPart:
        """The scan that the trained network will restore."""
        return self.source if self.restored is None else self.restored


def number_of_parts(n_views: int, parts: int | Literal["auto"]) -> int:
    """Return the number of parts into which the views are divided.

    By default, there are two to four parts; three or four are used only if each has at
    least 50 views. The more parts there are, the stronger the streaks in each of them;
    the network also treats these as noise.
    """
    if not isinstance(parts, str):
        return parts
    return min(max(n_views // _VIEWS_PER_PART, 2), _MAX_PARTS)


def splits(
    scan: Projections, k: int | Literal["auto"], *, joined: bool = False
) -> list[ScanPart]:
    """Distribute the views over `k` scans in turn, in order of angle.

    In a parallel beam, views from opposite sides are equivalent, so the views are
    instead ordered by direction over half a turn; they are evenly spaced in each part.

    Parameters
    ----------
    k : int or "auto"
        See `number_of_parts`.
    joined : bool
        Whether opposite views complement each other because the axis is off-centre; in
        that case, the views are distributed over the full turn.

    Raises
    ------
    ProjectionsError
        If `k` is less than two, or a part would have fewer than two views.
    """
    k = number_of_parts(scan.n_angles, k)
    if k < 2 or scan.n_angles < 2 * k:
        most = scan.n_angles // 2
        remedy = (
            f"Choose 2 … {most} parts (--splits)."
            if most > 1
            else "Use the complete scan."
        )
        raise ProjectionsError(
            f"{scan.title} has too few projections ({scan.n_angles}) to be divided "
            f"among {k} reconstructions of at least two projections each. {remedy}"
        )
    order = _along_angles(scan)
    if scan.geometry == "parallel" and not joined:
        order = _along_directions(scan, k)
    rank = np.argsort(_along_angles(scan))
    shares = [order[j::k] for j in range(k)]
    return [
        ScanPart(
            f"part-{j}-of-{k}",
            f"part {j} of {k} ({len(share)} projections)",
            _noted(scan.subset(share[np.argsort(rank[share])]), part=j, of=k),
        )
        for j, share in enumerate(shares, start=1)
    ]


def fewer_views(
    scan: Projections, count: int, acquisition: Acquisition = "step"
) -> Projections:
    """Return the scan as if only `count` projections had been recorded.

    Views from opposite sides of a parallel beam are equivalent. For a full turn and an
    even number of views, the directions in one half of the turn are therefore chosen to
    lie between those in the other half. For continuous scans, such a turn is divided
    into one more exposure than requested, and the last exposure is omitted.

    Parameters
    ----------
    count : int
        Number of views to keep; at most the number of views of the scan.
    acquisition : {"step", "continuous"}
        ``"step"``: evenly spaced views are kept and the others omitted.
        ``"continuous"``: the sample turns during the exposure, so each view is the mean
        over all angles up to the next view, and is assigned to their centre.

    Raises
    ------
    ProjectionsError
        If the scan has fewer views, or the views of one exposure are not adjacent.
    """
    n = scan.n_angles
    if not 2 <= count <= n:
        raise ProjectionsError(
            f"{scan.title} has {n} projections, so {count} cannot be selected. Choose "
            f"2 … {n}."
        )
    kept = {"acquisition": acquisition, "views": count, "of": n}
    if acquisition == "step" or count == n:
        return _noted(scan.subset(_spread_views(scan, count)), **kept)
    order, turned = _along_angles(scan), along_turn(scan.angles)
    twice = scan.geometry == "parallel" and scan.is_full_turn
    edges = _edges(n, count + 1)[:-1] if twice and count % 2 == 0 else _edges(n, count)
    groups = [order[a:b] for a, b in itertools.pairwise(edges)]
    _require_neighbours(scan, groups)
    angles = np.array([turned[group].mean() for group in groups])
    means = MeanViews(scan.data, groups, is_logarithm=scan.is_line_integrals)
    few = scan.replace(data=means, angles=angles, unseen=scan.wedges)
    return _noted(few, **kept)


def unused_views(scan: Projections, count: int) -> Projections:
    """Return the views that `fewer_views` omits ("step"), with independent noise.

    The streaks of the two parts are not independent: if all views together cause no
    streaks, those of the two parts are opposite.
    """
    left = np.setdiff1d(np.arange(scan.n_angles), _spread_views(scan, count))
    return _noted(scan.subset(left), views_left_out=count, of=scan.n_angles)


def remaining_light(
    scan: Projections,
    share: float,
    count: int,
    acquisition: Acquisition = "step",
    *,
    rest: Projections | None = None,
    seed: int = 0,
    counts_per_photon: float | Literal["auto"] = "auto",
) -> Projections:
    """Return all views, minus the photons that the `count` thinned views contain.

    This is the training target for such views: it has the negligible streaks of the
    whole scan, and independent noise. Noise common to input and target would be learned
    as structure [3]_. Views from which photons were taken are rescaled to the same
    intensity, and are noisier.

    Parameters
    ----------
    share, seed, counts_per_photon
        As in `thinned`.
    rest : Projections, optional
        The scan of the remaining photons from `thinned`, if already available.
    count, acquisition
        As in `fewer_views`; in a continuous scan, photons are taken from all views.

    Raises
    ------
    ProjectionsError
        If the values are not counts.
    """
    if rest is None:
        rest = thinned(
            scan, share, rest=True, seed=seed, counts_per_photon=counts_per_photon
        )
    taken = np.arange(scan.n_angles)
    if acquisition == "step":
        taken = _spread_views(scan, count)
    light = RemainingPhotons(rest.data, taken)
    return _noted(scan.replace(data=light), share_left_out=share, of_views=count)


def _spread_views(scan: Projections, count: int) -> npt.NDArray[np.intp]:
    """Return the indices of `count` views, spread evenly over all directions."""
    order = _along_angles(scan)
    if scan.geometry == "parallel" and scan.is_full_turn:
        places = distinct_places(scan.angles)
        if count <= len(places):
            return places[_on_both_sides(len(places), count)]
    return order[_edges(scan.n_angles, count)[:-1]]


def thinned(
    scan: Projections,
    share: float,
    *,
    rest: bool = False,
    seed: int = 0,
    counts_per_photon: float | Literal["auto"] = "auto",
) -> Projections:
    """Return the scan as if each view had been exposed for `share` of the time.

    Each photon is kept with probability `share`, which is equivalent to a shorter
    exposure (binomial thinning of a Poisson variable gives a Poisson variable). The
    remaining photons form a scan with independent noise.

    Parameters
    ----------
    share : float
        Fraction of the exposure, between 0 and 1.
    rest : bool
        Return the scan of the remaining photons, whose fraction is 1 - `share`.
    seed : int
        Seed for choosing photons; it must be the same for both scans.
    counts_per_photon : float or "auto"
        Detector counts per photon; "auto": derived from the variance of the flat fields
        or, if that is impossible, 1, with a note.

    Raises
    ------
    ProjectionsError
        If the values are not counts.
    """
    if not 0 < share < 1:
        raise ProjectionsError(
            "A shorter exposure must be a fraction between 0 and 1 of the whole "
            f"exposure, not {share:g}."
        )
    what = reason_without_counts(scan)
    if what:
        raise ProjectionsError(
            f"{scan.title} contains {what}: a shorter exposure can be simulated only "
            "from photon or detector counts. Use counts, or a second scan with a "
            "short exposure (--short)."
        )
    dark = _mean_frame(scan.darks, scan)
    kept = 1 - share if rest else share
    gain, made_of = _gain(scan, counts_per_photon)
    counts = ThinnedCounts(scan.data, dark, share, rest=rest, seed=seed, gain=gain)
    flats = None
    if scan.flats is not None:
        flat = _mean_frame(scan.flats, scan)
        flats = (dark + kept * (flat - dark))[None].astype(np.float32)
    darks = None if scan.darks is None else dark[None].astype(np.float32)
    made = scan.replace(data=counts, flats=flats, darks=darks)
    if made_of == "supposed" and not rest:
        notes = (*scan.metadata.get("notes", ()), _NO_GAIN)
        made = made.replace(metadata={**scan.metadata, "notes": notes})
    return _noted(
        made,
        exposure=kept,
        of_photons="rest" if rest else "kept",
        seed=seed,
        counts_per_photon=gain,
        counts_per_photon_is=made_of,
    )


def reason_without_counts(scan: Projections) -> str:
    """Return the reason why values are not photon counts; empty if they are.

    Whole numbers stored as floating-point values are accepted as counts; only a few
    views are checked.
    """
    if scan.is_line_integrals:
        return "line integrals"
    if np.dtype(scan.data.dtype).kind in "iu":
        return ""
    for view in sorted({0, scan.n_angles // 2, scan.n_angles - 1}):
        values = np.asarray(scan.data[view])
        if not np.array_equal(values, np.rint(values), equal_nan=True):
            return "fractions (means of several exposures, or corrected values)"
    return ""


def _gain(scan: Projections, counts_per_photon: float | str) -> tuple[float, str]:
    """Return the counts per photon, and a description of how they were determined."""
    if not isinstance(counts_per_photon, str):
        if not 0 < counts_per_photon < np.inf:
            raise ProjectionsError(
                "The number of counts per photon must be greater than zero, not "
                f"{counts_per_photon:g} (--counts-per-photon)."
            )
        return float(counts_per_photon), "given"
    found = counts_per_photon_of(scan)
    return (1.0, "supposed") if found is None else (found, "from the flat fields")


def check_same_detector(scan: Projections, other: Projections) -> None:
    """Refuse a second scan that does not show the same slices.

    Raises
    ------
    ProjectionsError
        If the scans differ; the message states the difference.
    """
    properties = ("rows and columns", "pixel size", "geometry")
    detectors = (_detector(scan), _detector(other))
    for what, mine, theirs in zip(properties, *detectors, strict=True):
        if mine != theirs:
            raise ProjectionsError(
                f"{scan.title} and {other.title} differ in their {what} ({mine} and "
                f"{theirs}), so their slices would not align. Use two scans of the "
                "same object in the same position, taken with the same detector."
            )


def _detector(scan: Projections) -> tuple[str, str, str]:
    """Return the detector's rows and columns, its pixel size and the geometry."""
    _, rows, columns = scan.shape
    height, width = scan.pixel_size
    pixel = f"{height:.15g} × {width:.15g} {scan.unit}"
    return f"{rows} × {columns}", pixel, scan.geometry


def _along_angles(scan: Projections) -> npt.NDArray[np.intp]:
    """Return the indices of the views in ascending order of angle."""
    return np.argsort(np.round(along_turn(scan.angles), 6), kind="stable")


def _along_directions(scan: Projections, k: int) -> npt.NDArray[np.intp]:
    """Order the views by direction over half a turn, to distribute them over `k` parts.

    The order within pairs of opposite views alternates, so that each part gets views
    from both sides. If each direction was recorded from one side only, a part may have
    all its views from one side.
    """
    order, turned = _along_angles(scan), along_turn(scan.angles)
    same = SAME_PLACE_STEPS * 360 / scan.n_angles
    places = np.mod(np.round(turned - turned.min(), 6) + same, 180)[order]
    by_direction = np.argsort(places, kind="stable")
    places, order = places[by_direction], order[by_direction]
    first = np.arange(0, len(order) - 1, 2)
    # If the number of parts is odd, each part gets views from alternating sides anyway.
    by_turns = (first // k % 2 == 1) & (k % 2 == 0)
    swapped = first[by_turns & (places[first + 1] - places[first] <= same)]
    order[swapped], order[swapped + 1] = order[swapped + 1], order[swapped].copy()
    return order


def _edges(n: int, count: int) -> npt.NDArray[np.intp]:
    """Return the limits of `count` equal parts of `n` views."""
    edges: npt.NDArray[np.intp] = np.floor(
        np.arange(count + 1) * (n / count) + 1e-9
    ).astype(np.intp)
    return edges


def _on_both_sides(n: int, count: int) -> npt.NDArray[np.intp]:
    """Return the indices of views that cover half a turn from alternating sides.

    The views are selected from `n` views around a full turn.
    """
    at = np.arange(count)
    positions = at * (n / count) / 2 + (at % 2) * (n / 2)
    return np.sort(np.floor(positions + 1e-9).astype(np.intp))


def _require_neighbours(scan: Projections, groups: list[npt.NDArray[np.intp]]) -> None:
    turned = along_turn(scan.angles)
    mean = float(np.ptp(turned)) / (len(turned) - 1)
    step = max(float(np.median(np.diff(np.sort(turned)))), mean)
    for group in groups:
        angles = np.sort(turned[group])
        gaps = np.diff(angles)
        if gaps.size and gaps.max() > min(
            _MAX_GAP_STEPS * max(step, 1e-9), _MAX_GAP_DEGREES
        ):
            raise ProjectionsError(
                f"{scan.title}: views at {angles[0]:g}° … {angles[-1]:g}° would form "
                "one exposure, but no projections were recorded in between (steps of "
                f"{step:g}°). Use step-and-shoot acquisition instead of a continuous "
                "scan."
            )


def _mean_frame(frames: Any, scan: Projections) -> npt.NDArray[np.float64]:
    """Return the mean (row, column) of flat or dark fields; zeros if there are none."""
    if frames is None:
        return np.zeros(scan.shape[1:])
    mean: npt.NDArray[np.float64] = np.asarray(frames[:], np.float64).mean(axis=0)
    return mean


def _noted(scan: Projections, **facts: Any) -> Projections:
    """Return the scan with a note on how it was derived from the scan in the file."""
    entry = {"software": "napari-geosr", "operation": "part of a scan", **facts}
    return scan.replace(provenance=(*scan.provenance, entry))
