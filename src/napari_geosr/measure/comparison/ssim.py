"""Structural similarity at one and at several scales, from consecutive slabs.

References
----------
.. [1] Wang et al. Image quality assessment: from error visibility to structural
   similarity. IEEE Trans. Image Process. 13, 600-612 (2004).
   doi:10.1109/TIP.2003.819861
.. [2] Wang, Simoncelli, Bovik. Multiscale structural similarity for image quality
   assessment. Proc. 37th Asilomar Conf. Signals, Systems and Computers, 1398-1402
   (2003). doi:10.1109/ACSSC.2003.1292216
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyArray

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
#: Grey values of the image and of the base, and a mask of voxels known in both.
_Slab = tuple[Array, Array, Mask]

#: Standard deviation of the Gaussian window of SSIM, in voxels.
_SIGMA = 1.5
#: Radius at which this window is truncated, in standard deviations.
_TRUNCATE = 3.5
#: Radius and width of the window, in voxels.
SSIM_REACH = 5
SSIM_WINDOW = 2 * SSIM_REACH + 1
#: Exponents of the scales of MS-SSIM, from the finest to the coarsest [2]_.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: Minimum edge length, in voxels, at which the window of the coarsest scale fits.
MS_SSIM_EDGE = SSIM_WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)


def window_fits(shape: Sequence[int], edge: int, *, slicewise: bool) -> bool:
    """Whether a window of `edge` voxels fits into volumes or their slices."""
    return min(shape[-2:] if slicewise else shape) >= edge


class SsimSum:
    """Mean structural similarity [1]_ and, for large enough volumes, MS-SSIM [2]_.

    Only voxels with a complete window of known values are used. Between two scales,
    blocks of 2 × 2 × 2 voxels are averaged (in slices and images: 2 × 2); a block is
    known if all of its voxels are.

    Parameters
    ----------
    shape : tuple of int
        Shape of the whole volumes.
    data_range : float
    slicewise : bool
        Whether to use a window within each slice instead of one along all axes.
    """

    def __init__(
        self, shape: Sequence[int], data_range: float, *, slicewise: bool
    ) -> None:
        self._slicewise = slicewise and len(shape) == 3
        reach = [SSIM_REACH] * len(shape)
        if self._slicewise:
            reach[0] = 0
        fits = window_fits(shape, MS_SSIM_EDGE, slicewise=slicewise)
        n = len(SCALE_WEIGHTS) if fits else 1
        self._scales = [_ScaleSums(reach, data_range) for _ in range(n)]

    @property
    def halo(self) -> int:
        """Number of slices (for an image: rows) needed on either side of a slab."""
        return self._scales[0].halo

    def add(self, image: AnyArray, base: AnyArray, known: Mask) -> None:
        """Add the next slab along the first axis; unknown voxels are ignored."""
        slab: _Slab | None = (
            np.where(known, image, 0).astype(np.float64),
            np.where(known, base, 0).astype(np.float64),
            known,
        )
        for i, scale in enumerate(self._scales, start=1):
            assert slab is not None
            scale.add(slab)
            slab = scale.halved(slab) if i < len(self._scales) else None
            if slab is None:
                break

    def mean(self) -> float | None:
        """Return the mean over all windows; None if no window fits."""
        similarity, _, counts = self._scales[0].sums()
        n = counts.sum()
        return float(similarity.sum() / n) if n else None

    def multiscale(self) -> float | None:
        """Return MS-SSIM; None if one of the scales has no complete window.

        MS-SSIM is the product of the mean contrast and structure term of every scale,
        each to the power of its weight; the luminance term is included at the coarsest
        scale only. Negative mean values count as 0. For slices, the result is the mean
        over the slices in which all scales fit.
        """
        if len(self._scales) < len(SCALE_WEIGHTS):
            return None
        found = []
        for scale in self._scales:
            similarity, structure, counts = scale.sums()
            is_last = scale is self._scales[-1]
            terms = np.stack([similarity if is_last else structure, counts])
            found.append(terms if self._slicewise else terms.sum(1, keepdims=True))
        totals, counts = np.stack(found, axis=1)
        complete = (counts > 0).all(axis=0)
        if not complete.any():
            return None
        means = np.maximum(totals[:, complete] / counts[:, complete], 0)
        weights = np.array(SCALE_WEIGHTS)[:, None]
        return float((means**weights).prod(axis=0).mean())


class _ScaleSums:
    """Sums over the windows of one scale, by slice (of an image: by row).

    Parameters
    ----------
    reach : sequence of int
        Radius of the window along each axis.
    data_range : float
    """

    def __init__(self, reach: Sequence[int], data_range: float) -> None:
        self._reach = tuple(reach)
        self._c1, self._c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        #: The last slices, which the windows of the next slab need.
        self._tail: _Slab | None = None
        #: An unpaired last slice, kept to be averaged with the following slice for the
        #: next (coarser) scale.
        self._single: _Slab | None = None
        self._sums: list[Array] = []

    @property
    def halo(self) -> int:
        return self._reach[0]

    def sums(self) -> tuple[Array, Array, Array]:
        """Return sums per slice: similarity, contrast-structure term, window count."""
        found = [np.zeros((3, 0)), *self._sums]
        similarity, structure, counts = np.concatenate(found, axis=1)
        return similarity, structure, counts

    def add(self, slab: _Slab) -> None:
        """Add the windows that the next slab completes."""
        from scipy import ndimage

        a, b, known = slab if self._tail is None else _joined(self._tail, slab)
        if self.halo:
            self._tail = _from((a, b, known), -2 * self.halo)
        inner = tuple(
            slice(r, n - r) for r, n in zip(self._reach, a.shape, strict=True)
        )
        if any(s.stop <= s.start for s in inner):
            return
        sigmas = [_SIGMA if r else 0.0 for r in self._reach]

        def mean(values: Array) -> Array:
            found: Array = ndimage.gaussian_filter(values, sigmas, truncate=_TRUNCATE)
            return found[inner]

        ma, mb = mean(a), mean(b)
        va, vb = mean(a * a) - ma * ma, mean(b * b) - mb * mb
        structure = (2 * (mean(a * b) - ma * mb) + self._c2) / (va + vb + self._c2)
        luminance = (2 * ma * mb + self._c1) / (ma * ma + mb * mb + self._c1)
        counts = np.ones(structure.shape, bool)
        if not known.all():
            sizes = [2 * r + 1 for r in self._reach]
            counts = ~ndimage.maximum_filter(~known, sizes)[inner]
        axes = tuple(range(1, a.ndim))
        self._sums.append(
            np.stack(
                [
                    (luminance * structure).sum(axis=axes, where=counts),
                    structure.sum(axis=axes, where=counts),
                    counts.sum(axis=axes),
                ]
            )
        )

    def halved(self, slab: _Slab) -> _Slab | None:
        """Return the slab at the next scale; None if there are not yet two slices."""
        if self.halo:
            if self._single is not None:
                slab = _joined(self._single, slab)
            n = len(slab[0])
            self._single = _from(slab, n - 1) if n % 2 else None
            if n < 2:
                return None
        a, b, known = slab
        for axis, reach in enumerate(self._reach):
            if reach:
                (a, a2), (b, b2), (known, known2) = (
                    _pairs(part, axis) for part in (a, b, known)
                )
                a, b, known = (a + a2) / 2, (b + b2) / 2, known & known2
        return a, b, known


def _joined(one: _Slab, other: _Slab) -> _Slab:
    return (
        np.concatenate([one[0], other[0]]),
        np.concatenate([one[1], other[1]]),
        np.concatenate([one[2], other[2]]),
    )


def _from(slab: _Slab, start: int) -> _Slab:
    """Return the slices from `start` on, copied to release the others."""
    a, b, known = slab
    return a[start:].copy(), b[start:].copy(), known[start:].copy()


def _pairs(values: AnyArray, axis: int) -> tuple[AnyArray, AnyArray]:
    """Return the first and the second of every two voxels along an axis."""
    even = values.shape[axis] // 2 * 2
    before = (slice(None),) * axis
    return values[(*before, slice(0, even, 2))], values[(*before, slice(1, even, 2))]
