"""Check whether samples of a generative model are copies of training images.

A diffusion model that is trained for a long time on few images reproduces them [1]_.
The similarity of a sample to a training image is the largest normalised
cross-correlation of its centre with any position in the image, in all eight
orientations. This similarity is compared with the similarities between different
training images, which are not copies of each other.

References
----------
.. [1] Carlini et al. Extracting training data from diffusion models. USENIX Security
   (2023). arXiv:2301.13188
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume

Plane = npt.NDArray[np.float32]
#: Edge length, in voxels, of the central part of a sample that is compared; less if
#: images are small.
_EDGE = 64
#: Edge length, in voxels, to which this part is reduced by averaging; averaging also
#: reduces noise.
_REDUCED = 32
#: Minimum edge length of this part, in voxels.
_MIN_EDGE = 16
#: Maximum number of training planes that are searched.
_MAX_PLANES = 1000
#: Minimum number of planes; fewer do not show how much training images differ.
_MIN_PLANES = 4
#: Maximum number of training planes that are compared with other training planes.
_MAX_REFERENCES = 64
#: Maximum number of planes left out between the two halves of the training images,
#: because adjacent slices of a volume resemble each other.
_GAP = 8
#: Probability that a sample that is not a copy exceeds the limit.
_FALSE_ALARM = 1e-3


@dataclass(frozen=True, eq=False)
class TrainingPlanes:
    """Planes of the training images, and the similarities between them.

    Attributes
    ----------
    planes : tuple of ndarray of shape (Y, X), float32
        Reduced by averaging over `factor` voxels along each axis.
    edge : int
        Edge length, in voxels, of the central part of a sample that is compared.
    factor : int
    usual : float
        Median similarity of a training plane to the most similar plane of the other
        half of the training images.
    limit : float
        Similarity above which a sample is considered a copy.
    n_all : int
        Total number of planes in the training images; `planes` may be a sample of them.
    """

    planes: tuple[Plane, ...]
    edge: int
    factor: int
    usual: float
    limit: float
    n_all: int

    def similarity(
        self, sample: AnyArray, should_stop: ShouldStop = never_stop
    ) -> float:
        """Return the similarity of a sample to the most similar training plane, 0 … 1.

        Parameters
        ----------
        sample : ndarray of shape ([Z,] Y, X)
            If the sample is a volume, its central plane is compared.
        should_stop : callable
            Called before every plane.

        Raises
        ------
        Cancelled
            If `should_stop` returns True.
        """
        plane = sample[len(sample) // 2] if sample.ndim == 3 else sample
        centre = _centre(_reduced(plane, self.factor), self.edge // self.factor)
        return _largest(centre, self.planes, should_stop)


def training_planes_steps(
    volumes: Sequence[Volume], shape: tuple[int, ...], should_stop: ShouldStop
) -> Generator[Step, None, TrainingPlanes]:
    """Read training images, and compare them with each other.

    Parameters
    ----------
    volumes : sequence of Volume
        Axes ``"ZYX"`` (each slice is an image) or ``"YX"``.
    shape : tuple of int
        Shape of the samples, ([Z,] Y, X).
    should_stop : callable
        Called before every plane.

    Raises
    ------
    ConfigError
        If there are fewer than four planes, or if they are too small.
    Cancelled
        If `should_stop` returns True.
    """
    places = [
        (volume, z)
        for volume in volumes
        for z in range(volume.shape[0] if volume.ndim == 3 else 1)
    ]
    if len(places) < _MIN_PLANES:
        raise ConfigError(
            f"There are only {len(places)} training images (slices): at least "
            f"{_MIN_PLANES} are needed to compare samples with them."
        )
    # This part is smaller than the planes, so that shifted copies are found as well.
    smallest = 3 * min(min(volume.shape[-2:]) for volume in volumes) // 4
    edge = min(_EDGE, *shape[-2:], smallest)
    if edge < _MIN_EDGE:
        raise ConfigError(
            f"To be compared, samples need at least {_MIN_EDGE} voxels along Y and X, "
            f"and training images at least {4 * _MIN_EDGE // 3 + 1}."
        )
    factor = max(1, edge // _REDUCED)
    edge -= edge % factor
    chosen = np.linspace(0, len(places) - 1, min(len(places), _MAX_PLANES)).round()
    if len(chosen) < len(places):
        yield WarningIssued(
            message=f"Only {len(chosen):,} of the {len(places):,} training images "
            "(slices), evenly spaced, are searched. Copies of the others may not be "
            "found."
        )
    yield StageStarted(message="Reading the training images", total=len(chosen))
    planes = []
    for i, k in enumerate(chosen.astype(int)):
        _raise_if(should_stop)
        volume, z = places[k]
        data = volume.data[z] if volume.ndim == 3 else volume.data
        planes.append(_reduced(np.asarray(data, np.float32), factor))
        yield BlockDone(i + 1, len(chosen))
    found = yield from _reference_steps(planes, edge // factor, should_stop)
    return TrainingPlanes(
        tuple(planes),
        edge,
        factor,
        float(np.median(found)),
        _limit(found),
        len(places),
    )


def _reference_steps(
    planes: Sequence[Plane], edge: int, should_stop: ShouldStop
) -> Generator[Step, None, list[float]]:
    """Return each chosen plane's largest similarity to the other half of the images."""
    gap = min(_GAP, len(planes) // 8)
    middle = len(planes) // 2
    halves = planes[: middle - gap // 2], planes[middle + gap - gap // 2 :]
    pairs = [
        (plane, others) for mine, others in (halves, halves[::-1]) for plane in mine
    ]
    chosen = np.linspace(0, len(pairs) - 1, min(len(pairs), _MAX_REFERENCES)).round()
    yield StageStarted(message="Comparing the training images", total=len(chosen))
    found = []
    for i, k in enumerate(chosen.astype(int)):
        _raise_if(should_stop)
        plane, others = pairs[k]
        found.append(_largest(_centre(plane, edge), others, should_stop))
        yield BlockDone(i + 1, len(chosen))
    return found


def _limit(similarities: Sequence[float]) -> float:
    """Return a limit that a further value of this kind exceeds with low probability.

    Fisher's transform of correlations is nearly normal, so the limit is the upper end
    of a prediction interval; it is at least the largest value.
    """
    from scipy.stats import t

    values = np.arctanh(np.clip(similarities, -1, 1 - 1e-6))
    n = len(values)
    spread = float(values.std(ddof=1)) * math.sqrt(1 + 1 / n)
    upper = float(values.mean()) + float(t.ppf(1 - _FALSE_ALARM, n - 1)) * spread
    return math.tanh(max(upper, float(values.max())))


def _largest(centre: Plane, planes: Sequence[Plane], should_stop: ShouldStop) -> float:
    """Return the largest normalised cross-correlation over all positions and planes."""
    from skimage.feature import match_template

    if not np.ptp(centre) > 0:
        return 0.0  # without structure, there is nothing to recognise
    found = 0.0
    for plane in planes:
        _raise_if(should_stop)
        if np.ptp(plane) > 0:
            for turned in _orientations(centre):
                values = match_template(plane, turned)
                found = max(found, float(values.max()))
    return min(found, 1.0)


def _orientations(centre: Plane) -> Iterator[Plane]:
    for turns, is_mirrored in itertools.product(range(4), (False, True)):
        turned = np.rot90(centre, turns)
        yield np.ascontiguousarray(turned[:, ::-1] if is_mirrored else turned)


def _centre(plane: Plane, edge: int) -> Plane:
    y, x = ((n - edge) // 2 for n in plane.shape)
    return plane[y : y + edge, x : x + edge]


def _reduced(plane: AnyArray, factor: int) -> Plane:
    """Average a plane over squares of `factor` voxels; drop incomplete squares."""
    from skimage.transform import downscale_local_mean

    y, x = (n - n % factor for n in plane.shape)
    values = np.nan_to_num(np.asarray(plane[:y, :x], np.float32))
    return np.asarray(downscale_local_mean(values, (factor, factor)), np.float32)


def _raise_if(should_stop: ShouldStop) -> None:
    if should_stop():
        raise Cancelled("The comparison with the training images was cancelled.")
