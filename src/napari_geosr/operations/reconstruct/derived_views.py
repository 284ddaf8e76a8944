"""Projections computed lazily from those in a file: averaged, or with fewer photons."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.array_parts.selection import select
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import ArrayLike


class _DerivedViews:
    """Projections computed from an array that is read only when indexed."""

    ndim = 3

    def __init__(self, data: ArrayLike, n_views: int) -> None:
        self.data = data
        self.shape = (n_views, int(data.shape[1]), int(data.shape[2]))
        self.dtype = np.dtype(np.float32)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Any) -> AnyArray:
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (4 - len(parts))
        parts += [slice(None)] * (3 - len(parts))
        views = np.arange(self.shape[0])[parts[0]]
        rows = np.arange(self.shape[1])[parts[1]]
        low, high = (int(rows.min()), int(rows.max()) + 1) if rows.size else (0, 0)
        found = np.empty((views.size, high - low, self.shape[2]), self.dtype)
        for at, view in enumerate(np.ravel(views)):
            found[at] = self._view(int(view), low, high)
        voxels = found[..., rows - low, :][..., parts[2]]
        return voxels[0] if views.ndim == 0 else voxels

    def _view(self, view: int, low: int, high: int) -> npt.NDArray[np.float32]:
        raise NotImplementedError

    def _read(
        self, views: npt.NDArray[np.intp], low: int, high: int
    ) -> npt.NDArray[np.float64]:
        return np.asarray(select(self.data, views, (low, high))[:], np.float64)


class MeanViews(_DerivedViews):
    """Means over groups of projections.

    Parameters
    ----------
    data : ArrayLike of shape (angle, row, column)
    groups : list of ndarray of int
        Indices of the projections that form each exposure.
    is_logarithm : bool
        Whether the values are -log of the intensity. In either case, the intensities
        are averaged.
    """

    def __init__(
        self, data: ArrayLike, groups: list[npt.NDArray[np.intp]], *, is_logarithm: bool
    ) -> None:
        super().__init__(data, len(groups))
        self.groups, self.is_logarithm = groups, is_logarithm

    def _view(self, view: int, low: int, high: int) -> npt.NDArray[np.float32]:
        light = self._read(self.groups[view], low, high)
        if self.is_logarithm:
            return np.asarray(-np.log(np.exp(-light).mean(axis=0)), np.float32)
        return np.asarray(light.mean(axis=0), np.float32)


class ThinnedCounts(_DerivedViews):
    """Counts as if only a fraction of the photons had been detected.

    The counts are split into two parts, including their electronic noise. Therefore,
    each part has less electronic noise than a shorter exposure would have, and the
    noise of the two parts is correlated.

    The random numbers depend only on seed, view and row, so that the result does not
    depend on the order of reading.

    Parameters
    ----------
    data : ArrayLike of shape (angle, row, column)
        Counts.
    dark : ndarray of shape (row, column)
        Counts without the beam.
    share, rest, seed
        As in `thinned`.
    gain : float
        Number of counts per photon.
    """

    def __init__(
        self,
        data: ArrayLike,
        dark: npt.NDArray[np.float64],
        share: float,
        *,
        rest: bool,
        seed: int,
        gain: float = 1.0,
    ) -> None:
        super().__init__(data, int(data.shape[0]))
        self.dark, self.share, self.rest, self.seed = dark, share, rest, seed
        self.gain = gain

    def _view(self, view: int, low: int, high: int) -> npt.NDArray[np.float32]:
        dark = self.dark[low:high]
        measured = self._read(np.array([view]), low, high)[0]
        light = (measured - dark) / self.gain
        # Detector noise may produce values below the dark field. Clipping them would
        # make weak light seem brighter in the parts than in the whole scan.
        photons = np.rint(np.abs(light)).astype(np.int64)
        for row, counted in enumerate(photons, start=low):
            rng = np.random.default_rng([self.seed, view, row])
            kept = rng.binomial(counted, self.share)
            photons[row - low] = counted - kept if self.rest else kept
        return np.asarray(np.copysign(photons, light) * self.gain + dark, np.float32)


class RemainingPhotons(_DerivedViews):
    """Counts of all projections, rescaled where photons were taken from a projection.

    Parameters
    ----------
    rest : ThinnedCounts
        Remaining photons of every projection.
    taken : ndarray of int
        Indices of the projections from which photons were taken.
    """

    def __init__(self, rest: Any, taken: npt.NDArray[np.intp]) -> None:
        super().__init__(rest.data, int(rest.shape[0]))
        self.rest, self.taken = rest, frozenset(taken.tolist())

    def _view(self, view: int, low: int, high: int) -> npt.NDArray[np.float32]:
        if view not in self.taken:
            whole = self._read(np.array([view]), low, high)[0]
            return np.asarray(whole, np.float32)
        dark = self.rest.dark[low:high]
        left = self.rest[view, low:high] - dark
        return np.asarray(left / (1 - self.rest.share) + dark, np.float32)
