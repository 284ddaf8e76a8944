"""Check whether images look like raw frames, and whether their order is clear."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np

from napari_geosr.core.sim_frames import SimFrames, guess_order, unclear_order
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.operations.sim.inputs import known_patterns

#: Value of `difference_growth` above which images do not look like raw frames of one
#: plane, unless there are many phases.
_MAX_GROWTH = 1.8
#: Maximum of this value relative to that expected from the number of phases.
_MARGIN = 1.1
#: Percentile above which `difference_growth` clips grey values: otherwise, a cosmic ray
#: in the first or last frame would count more than one in other frames.
_NOT_OUTLIERS = 99.9


def order_remark(frames: SimFrames, config: FramesConfig) -> str:
    """Explain in a sentence why the order of the frames is uncertain.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig

    Returns
    -------
    str
        Empty if the order is given or clear from the frames.
    """
    if config.order is not None or known_patterns(frames, config) is not None:
        return ""
    growth = difference_growth(frames)
    if growth > largest_growth(frames):
        return (
            f"{frames.volume.title} does not look like raw SIM frames: the mean "
            "squared difference of images far apart in the stack is "
            f"{growth:.1f} times that of adjacent ones, as in a volume or a time "
            "series. Choose raw frames or, if these are raw frames, give their order "
            "(--order)."
        )
    _, misfit = guess_order(frames)
    orders = unclear_order(misfit)
    if orders is None:
        return ""
    best, rival = orders
    used = frames.order
    other = rival if misfit[used] == misfit[best] else best
    return (
        f"The order of the frames of {frames.volume.title} is unclear: {used} is used, "
        f"but {other} fits about as well (misfits {misfit[used]:.2f} and "
        f"{misfit[other]:.2f}). Check that the stack is complete and unshuffled and "
        "that the sample did not move, and give the order (--order)."
    )


def difference_growth(frames: SimFrames) -> float:
    """Return the mean squared difference of distant images, relative to adjacent ones.

    Frames of one plane differ only in their patterns, and therefore by similar amounts:
    the ratio is 0.7 to 1.4 for up to seven phases, 1.9 to 2.7 for nine, and 2.8 to 40
    for real volumes and time series.

    Parameters
    ----------
    frames : SimFrames
        Only the frames of the middle plane are read. The offset is subtracted, and the
        frames are scaled to the same mean, so that bleaching does not count.
    """
    middle = frames.middle()
    block = np.nan_to_num(frames.frames(*middle)).astype(np.float64)
    counts = range(frames.angles), range(frames.phases)
    places = [frames.index(angle, phase, *middle) for angle, phase in product(*counts)]
    images = block.reshape(-1, *block.shape[2:])[np.argsort(places)]
    images = np.minimum(images, np.percentile(images, _NOT_OUTLIERS))
    means = images.mean((1, 2), keepdims=True)
    images = images * (means.mean() / np.where(means > 0, means, 1))
    distances: dict[int, list[float]] = {}
    for i, j in combinations(range(len(images)), 2):
        difference = float(np.square(images[i] - images[j]).mean())
        distances.setdefault(j - i, []).append(difference)
    adjacent = float(np.mean(distances[1]))
    far = [np.mean(d) for n, d in distances.items() if n > len(images) // 2]
    return float(np.mean(far)) / adjacent if adjacent > 0 and far else 1.0


def largest_growth(frames: SimFrames) -> float:
    """Return the value of `difference_growth` above which images are not raw frames.

    The mean squared difference of two equally spaced phases is proportional to
    ``1 - cos(2 π / phases)`` if they are adjacent, and to 1 on average over all phases.
    """
    angles, phases = frames.angles, frames.phases
    near = angles * (phases - 1) * (1 - math.cos(2 * math.pi / phases)) + angles - 1
    if near <= 0:
        return _MAX_GROWTH
    return max(_MAX_GROWTH, _MARGIN * (angles * phases - 1) / near)
