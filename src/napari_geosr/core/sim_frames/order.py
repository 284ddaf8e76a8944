"""Which image of a stack is which frame: order, axes, numbers of angles and phases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
#: Slice, time point and channel.
Place = tuple[int, int, int]

#: Common orders of angle (a), phase (p) and slice (z), slowest-varying first, with
#: their descriptions.
ORDER_PRESETS: dict[str, str] = {
    "apz": "angle, then phase, then slice",
    "azp": "angle, then slice, then phase (OMX)",
    "zap": "slice, then angle, then phase (OMX, fast)",
    "paz": "phase, then angle, then slice",
}
#: All possible orders of angle, phase and slice.
ORDERS = tuple("".join(letters) for letters in itertools.permutations("apz"))
#: Maximum edge, in pixels, of the central region from which the order is guessed.
_GUESS_EDGE = 256
#: Maximum ratio of the best order's misfit to that of another order at which the two
#: can be distinguished. The ratio is 0.15 to 0.8 for frames in a regular order, and
#: 0.96 or more for shuffled frames.
_CLEAR = 0.9
#: Maximum `disagreement` of an order at which the patterns of different planes clearly
#: agree. The disagreement is below 1 for time points of one object at SNR 5 and above,
#: and usually above 1.3 for unrelated planes.
_AGREES = 1.2
#: An order is wrong if its disagreement exceeds this multiple of the lowest one. The
#: ratio is 1.9 or more for orders that mix time points, and at most 1.3 for shuffled
#: frames of the same time points.
_CONTRADICTS = 1.5
#: Exponent of the ratio of two disagreements if neither order is clearly wrong: so
#: small that the ratio decides only between orders with almost equal misfits.
_HINT = 0.1
#: The sums of one plane differ only by noise if the correlation of adjacent pixels of
#: their differences is below this value. The correlation is below 0.05 in the right
#: order, and 0.3 to 0.8 for shuffled frames at SNR 5 and above.
_WHITE = 0.15
#: Minimum ratio of the `distinctness` of two orders of one plane at which the more
#: distinct order is the right one. With an even number of phases, the ratio of the
#: right order to the other one is 0.74 to 1.2 for sparse samples, and up to 16 for
#: others.
_MORE_DISTINCT = 1.6
#: Minimum height of an outlier above its surroundings, relative to the contrast of the
#: frame (`_BRIGHT`). Images of single points are lower.
_OUTLIER = 1.0
#: Percentile of a frame, minus its median, that is taken as its contrast.
_BRIGHT = 99.9
#: Rank, among 3 × 3 pixels, of the pixel with which an outlier is compared (-1 is the
#: brightest). With rank -3, up to two adjacent outliers are recognised.
_RANK = -3
#: Other axes or numbers of angles and phases than the most probable ones are chosen if
#: the ratio of the two misfits, each divided by the contrast of the patterns, exceeds
#: this value. The ratio is 3 or more for five slices or time points of 3 × 3 frames
#: read as 5 × 9 frames, and less than 1 for 5 × 9 frames.
_CLEARLY_BETTER = 1.5
#: Smallest fraction of the variation between phases that is assumed to be modulation.
_LEAST = 0.05
#: Width, in frequency samples, over which power spectra are smoothed.
_SMOOTH = 2.0


class OrderedFrames(Protocol):
    """Frames in any order; implemented by `napari_geosr.core.sim_frames.SimFrames`."""

    @property
    def angles(self) -> int: ...
    @property
    def phases(self) -> int: ...
    @property
    def n_planes(self) -> int: ...
    @property
    def n_times(self) -> int: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def plane_axis(self) -> str: ...
    @property
    def kept_axes(self) -> str: ...
    @property
    def plane_shape(self) -> tuple[int, int]: ...
    def with_order(self, order: str) -> Self: ...
    def possible_orders(self) -> list[str]: ...
    def middle(self) -> Place: ...
    def index(
        self, angle: int, phase: int, plane: int, time: int, channel: int
    ) -> int: ...
    def frame(
        self, angle: int, phase: int, plane: int, time: int, channel: int
    ) -> FloatArray: ...


Frames = TypeVar("Frames", bound=OrderedFrames)


class OrderImages:
    """Central parts of the frames at some places, read once for all orders.

    Parameters
    ----------
    frames : SimFrames
    """

    def __init__(self, frames: OrderedFrames) -> None:
        self.frames = frames
        self.part = tuple(
            slice((n - min(n, _GUESS_EDGE)) // 2, (n + min(n, _GUESS_EDGE)) // 2)
            for n in frames.plane_shape
        )
        self._read: dict[tuple[int, ...], FloatArray] = {}

    def blocks(self, order: str) -> list[FloatArray]:
        """Return the frames of some planes, equalised, in this order.

        Planes with NaN, without light or with constant frames are left out, unless
        there are no others.
        """
        found = [self._block(order, place) for place in _places(self.frames)]
        good = [
            b
            for b in found
            if np.isfinite(b).all() and np.ptp(b, axis=(2, 3)).min() > 0
        ]
        usable = good or [np.nan_to_num(found[0], posinf=0, neginf=0)]
        return [_equalised(block) for block in usable]

    def _block(self, order: str, place: Place) -> FloatArray:
        frames = self.frames.with_order(order)
        kept = [i for i, axis in zip(place, "ZTC", strict=True) if axis in self._kept]
        rows = []
        for angle, phase in np.ndindex(frames.angles, frames.phases):
            key = (frames.index(angle, phase, *place), *kept)
            if key not in self._read:
                frame = frames.frame(angle, phase, *place)[self.part]
                self._read[key] = _without_outliers(frame)
            rows.append(self._read[key])
        return np.stack(rows).reshape(frames.angles, frames.phases, *rows[0].shape)

    @property
    def _kept(self) -> str:
        return self.frames.kept_axes


def _places(frames: OrderedFrames) -> list[Place]:
    """Return a middle plane, and a few others."""
    first = dict(zip("ZTC", frames.middle(), strict=True))
    counts = {"Z": frames.n_planes, "T": frames.n_times, "C": frames.n_channels}
    others = [
        first | {axis: i}
        for axis in dict.fromkeys(("Z", "T", frames.plane_axis))
        for i in (counts[axis] // 4, counts[axis] // 2, 3 * counts[axis] // 4)
    ]
    found = [(each["Z"], each["T"], each["C"]) for each in (first, *others)]
    return list(dict.fromkeys(found))


def _without_outliers(frame: FloatArray) -> FloatArray:
    """Replace hot pixels and cosmic rays, without knowledge of the optics.

    Returns
    -------
    ndarray of the same shape
        A copy: a view would keep the whole frame in memory.
    """
    from scipy import ndimage

    found = frame.copy()
    if np.isfinite(frame).all():
        median, bright = np.percentile(frame, (50, _BRIGHT))
        around = ndimage.rank_filter(frame, _RANK, size=3)
        is_high = frame - around > _OUTLIER * (bright - median)
        found[is_high] = around[is_high]
    return found


def _equalised(block: FloatArray) -> FloatArray:
    means = block.mean(axis=(2, 3), keepdims=True)
    found: FloatArray = block * (means.mean() / np.where(means > 0, means, 1))
    return found


def guess_order(frames: OrderedFrames) -> tuple[str, dict[str, float]]:
    """Return the most probable order of the frames, and how badly each order fits.

    The sum over the phases of one angle is the widefield image, whatever the angle:
    in the right order, these sums differ only by noise. The misfit is the root mean
    square of their deviations from their mean, relative to the contrast. Orders that
    fit equally well, because the planes are similar, are distinguished by the patterns:
    in the right order, those of one angle have the same direction in all planes. Unless
    the patterns agree clearly in one of these orders, and not in the others, the order
    remains unclear (`unclear_order`). In a single plane with an even number of phases,
    the sums are equal in two orders; the right one is that in which the patterns of the
    angles are clearly more distinct.

    Returns
    -------
    order : str
    misfit : dict of str to float
        Misfit by order; orders that cannot be distinguished have the same misfit, and
        the more common one is chosen.
    """
    known = frames.possible_orders()
    misfit = order_misfits(frames, known)
    best = min(misfit.values())
    order = next(o for o in known if misfit[o] <= best * (1 + 1e-6))
    return order, misfit


def order_misfits(frames: OrderedFrames, orders: Sequence[str]) -> dict[str, float]:
    """Return how badly the frames of some planes fit each order (`guess_order`)."""
    images = OrderImages(frames)
    misfit = {order: sums_misfit(images.blocks(order)) for order in orders}
    best = min(misfit.values())
    tied = [order for order in orders if best >= _CLEAR * misfit[order]]
    if len({misfit[order] for order in tied}) < 2:
        return misfit
    blocks = {order: images.blocks(order) for order in tied}
    if len(blocks[tied[0]]) == 1:
        if all(_is_white(b) for b in blocks.values()):
            clear = {order: distinctness(b) for order, b in blocks.items()}
            for order in tied:
                ratio = max(clear.values()) / max(clear[order], 1e-6)
                misfit[order] *= ratio if ratio > _MORE_DISTINCT else 1.0
        return misfit
    turned = {order: disagreement(b) for order, b in blocks.items()}
    least = max(min(turned.values()), 1e-6)
    for order in tied:
        ratio = max(1.0, turned[order] / least)
        is_wrong = least < _AGREES and ratio > _CONTRADICTS
        misfit[order] *= ratio if is_wrong else ratio**_HINT
    return misfit


def sums_misfit(blocks: Sequence[FloatArray]) -> float:
    """Return how much the sums over the phases differ between the angles."""
    between = contrast = 0.0
    for block in blocks:
        sums = block.mean(axis=1, dtype=np.float64)
        mean = sums.mean(axis=0)
        between += float(np.square(sums - mean).mean())
        contrast += float(mean.var())
    return math.sqrt(between / contrast) if contrast > 0 else 0.0


def _is_white(blocks: Sequence[FloatArray]) -> bool:
    """Whether the sums over the phases of each angle differ only by noise."""
    adjacent = variance = 0.0
    for block in blocks:
        sums = block.mean(axis=1, dtype=np.float64)
        sums -= sums.mean(axis=0)
        sums -= sums.mean(axis=(1, 2), keepdims=True)
        variance += float(np.square(sums).mean())
        adjacent += float((sums[:, 1:] * sums[:, :-1]).mean()) / 2
        adjacent += float((sums[:, :, 1:] * sums[:, :, :-1]).mean()) / 2
    return adjacent < _WHITE * variance


def direction_spectra(block: FloatArray) -> FloatArray:
    """Return how the power spectrum of each angle differs from the mean spectrum.

    The power spectra of the patterns do not depend on the phases, and hardly on the
    position of the sample.

    Returns
    -------
    ndarray of shape (angles, Y, X)
        Smoothed power spectrum of each angle minus the mean of all angles, relative to
        the root mean square of the spectra.
    """
    from scipy import fft, ndimage

    modulated = block - block.mean(axis=1, keepdims=True)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in block.shape[-2:]))
    power = np.square(np.abs(fft.fft2(modulated * window.astype(np.float32))))
    smooth = ndimage.gaussian_filter(
        power.sum(axis=1), (0, _SMOOTH, _SMOOTH), mode="wrap"
    )
    size = math.sqrt(float(np.square(smooth).mean()))
    found: FloatArray = (smooth - smooth.mean(axis=0)) / (size or 1.0)
    return found


def disagreement(blocks: Sequence[FloatArray]) -> float:
    """Return how different the patterns of the same frame are in two planes.

    Returns
    -------
    float
        1 minus the correlation of the patterns, plus the same for the power spectra of
        each angle, which do not depend on drift. The sum is near 0 for similar planes,
        and about 2 for unrelated ones.
    """
    modulated = [block - block.mean(axis=1, keepdims=True) for block in blocks]
    pairs = [
        *itertools.combinations(modulated, 2),
        *itertools.combinations([direction_spectra(block) for block in blocks], 2),
    ]
    values = []
    for one, other in pairs:
        size = math.sqrt(float(np.square(one).sum()) * float(np.square(other).sum()))
        values.append(1 - float((one * other).sum()) / size if size else 1.0)
    return 2 * float(np.mean(values)) if values else 1.0


def distinctness(blocks: Sequence[FloatArray]) -> float:
    """Return how different the patterns of the angles are, from 0 to 1."""
    squares = [np.square(direction_spectra(block)).mean() for block in blocks]
    return math.sqrt(float(np.mean(squares)))


def modulated_fraction(blocks: Sequence[FloatArray]) -> float:
    """Return the fraction of the variation between phases that is not noise.

    Noise makes the sums over the phases differ as well, by a known fraction. The value
    is 0 or negative for repeated images without patterns, and for a wrong order.
    """
    noise = variation = 0.0
    for block in blocks:
        angles, phases = block.shape[:2]
        sums = block.mean(axis=1, keepdims=True)
        between = float(np.square(sums - sums.mean(axis=0)).mean())
        if angles > 1 and phases > 1:
            noise += between * (phases - 1) * angles / (angles - 1)
        variation += float(np.square(block - sums).mean())
    return 1 - noise / variation if variation > 0 else 0.0


def unclear_order(misfit: Mapping[str, float]) -> tuple[str, str] | None:
    """Return two different orders that fit the frames about equally well, or None.

    Frames in neither order, such as shuffled frames or frames of another kind of
    acquisition, fit all orders equally badly.

    Parameters
    ----------
    misfit : mapping of str to float
        Misfit by order, from `guess_order`; orders with the same misfit assign the
        frames in the same way.

    Returns
    -------
    (str, str) or None
        The best order and the second best; None if the best one is clear.
    """
    best = min(misfit, key=lambda order: misfit[order])
    others = [o for o in misfit if misfit[o] > misfit[best] * (1 + 1e-6)]
    if not others:
        return None
    rival = min(others, key=lambda order: misfit[order])
    return (best, rival) if misfit[best] > _CLEAR * misfit[rival] else None


def best_counts(possible: Sequence[Frames], order: str | None) -> Frames:
    """Choose the axes and the numbers of angles and phases that fit the frames best.

    Parameters
    ----------
    possible : sequence of SimFrames
        The same images with different axes or numbers of angles and phases, the most
        probable first.
    order : str or None
        Order of the frames, if it is known.

    Returns
    -------
    SimFrames
        The first order, unless the sums over the phases fit clearly better for another
        order, or the patterns of another order are clearly more distinct between the
        angles.
    """
    values = []
    for frames in possible:
        usual = [o for o in frames.possible_orders() if o in ORDER_PRESETS]
        found = order_misfits(frames, usual if order is None else [order])
        best = min(found, key=lambda o: found[o])
        # The noise of the mean of all phases decreases with their number.
        misfit = found[best] * math.sqrt(frames.phases)
        blocks = OrderImages(frames).blocks(best)
        contrast = max(modulated_fraction(blocks), _LEAST) * distinctness(blocks)
        values.append(misfit / max(contrast, 1e-6))
    least = min(values)
    return possible[values.index(least) if values[0] > _CLEARLY_BETTER * least else 0]
