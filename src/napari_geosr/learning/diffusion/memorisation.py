"""Finds out whether a model copies its training images.

A sample that was copied resembles a training image more than a new image of the same
kind does. The resemblance is the largest normalised cross-correlation between the
middle of a sample and any place in any training image, mirrored and rotated by 90° as
in training [1]_. Held-out images give its distribution for new images: each sample of a
model that copies nothing is as likely to be the most similar of all as each held-out
image. More such samples than this are a sign of copies [2]_.

References
----------
.. [1] Lewis. Fast normalized cross-correlation. Vision Interface, 120-123 (1995).
.. [2] Carlini et al. Extracting training data from diffusion models. USENIX Security
   (2023). arXiv:2301.13188
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.types import AnyArray

#: Smallest edge of what is compared, in voxels.
_SMALLEST = 8
#: Edge above which images are first averaged over blocks of 2.
_LARGE = 48
#: Probability below which so many similar samples are not due to chance.
_CHANCE = 0.01


@dataclass(frozen=True)
class CopyCheck:
    """Resemblance of samples and of held-out images to the training images.

    Attributes
    ----------
    samples, held_out : tuple of float
        Largest correlation of each with any training image, up to 1.
    """

    samples: tuple[float, ...]
    held_out: tuple[float, ...]

    @property
    def n_nearer(self) -> int:
        """Samples nearer to a training image than any held-out image is."""
        limit = max(self.held_out)
        return sum(value > limit for value in self.samples)

    @property
    def chance(self) -> float:
        """Probability of at least as many for a model that copies nothing."""
        from scipy.stats import betabinom

        # The rank of a new image among the held-out ones is uniform.
        count, n = len(self.samples), len(self.held_out)
        return float(betabinom.sf(self.n_nearer - 1, count, 1, n))

    @property
    def is_copying(self) -> bool:
        """Whether there are too many of them to be due to chance."""
        return self.chance < _CHANCE

    @property
    def sentence(self) -> str:
        """The result, in words."""
        verb = "is" if self.n_nearer == 1 else "are"
        return (
            f"{self.n_nearer} of {len(self.samples)} samples {verb} nearer to a "
            f"training image than any of {len(self.held_out)} held-out images."
        )


def resemblance(image: AnyArray, training: Sequence[AnyArray], edge: int) -> float:
    """Largest correlation of the middle of an image with any place of others.

    Parameters
    ----------
    image : ndarray of shape ([Z,] Y, X)
    training : sequence of ndarray
        With as many axes.
    edge : int
        Edge of what is compared, in voxels.
    """
    from skimage.feature import match_template

    template = _middle(image, edge)
    if edge > _LARGE:
        template, training = _halved(template), [_halved(each) for each in training]
    if not float(np.ptp(template)) > 0:
        return 0.0
    found = 0.0
    for turned in _symmetries(template):
        for each in training:
            found = max(found, float(match_template(each, turned).max()))
    return found


def compared_edge(images: Sequence[AnyArray]) -> int:
    """Edge of what is compared: half of the smallest image's, but at least 8."""
    smallest = min(min(image.shape) for image in images)
    return max(smallest // 2, min(_SMALLEST, smallest))


def _middle(image: AnyArray, edge: int) -> AnyArray:
    starts = [(n - edge) // 2 for n in image.shape]
    part: AnyArray = image[tuple(slice(i, i + edge) for i in starts)]
    return part.astype(np.float32)


def _halved(image: AnyArray) -> AnyArray:
    even = image[tuple(slice(0, n // 2 * 2) for n in image.shape)].astype(np.float32)
    for axis in range(even.ndim):
        first, second = (
            even[(slice(None),) * axis + (slice(i, None, 2),)] for i in (0, 1)
        )
        even = (first + second) / 2
    return even


def _symmetries(image: AnyArray) -> Iterator[AnyArray]:
    """Mirrored and rotated within the last two axes."""
    for mirrored, turns in itertools.product((False, True), range(4)):
        turned = np.flip(image, -1) if mirrored else image
        yield np.ascontiguousarray(np.rot90(turned, turns, (-2, -1)))
