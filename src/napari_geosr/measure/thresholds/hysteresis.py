"""Hysteresis: pores are kept if they contain a voxel far beyond the threshold.

Canny, IEEE Trans. Pattern Anal. Mach. Intell. 8, 679 (1986),
doi:10.1109/TPAMI.1986.4767851. If both thresholds are given as grey values, the result
equals that of `skimage.filters.apply_hysteresis_threshold`, but is computed slab by
slab.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.slabs.part import provisional_labels

Mask = npt.NDArray[np.bool_]


def core_threshold(
    histogram: GreyHistogram, threshold: float, share: float, phase: str
) -> float:
    """Return the grey value at or beyond which a pore must have at least one voxel.

    Parameters
    ----------
    share : float
        Distance from the threshold, relative to the distance between the threshold and
        the mean grey value of the pores.
    phase : {"dark", "bright"}
        Which of the two phases consists of pores.
    """
    dark = histogram.centres <= threshold
    pores = dark if phase == "dark" else ~dark
    weights = histogram.counts
    if not weights[pores].any():
        return threshold
    mean = float(np.average(histogram.centres[pores], weights=weights[pores]))
    return threshold + share * (mean - threshold)


class CoredComponents:
    """Finds components of a mask that contain a voxel of another mask, slab by slab.

    Parameters
    ----------
    connectivity : {6, 26}
    """

    def __init__(self, connectivity: Literal[6, 26]) -> None:
        self._connectivity = connectivity
        self._parent = np.zeros(1, np.int64)
        self._sizes: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._cored: list[Mask] = [np.zeros(1, bool)]
        self._n = 0
        self._last: npt.NDArray[np.int32] | None = None

    def add(self, mask: Mask, core: Mask, counted: Mask | None = None) -> int:
        """Label the next slab, and return the offset of its labels.

        Parameters
        ----------
        mask, core : ndarray of shape (z, Y, X), bool
            Pore voxels, and those beyond the core threshold; `core` is part of `mask`.
        counted : ndarray of shape (z, Y, X), bool, optional
            Voxels that `kept_voxels` counts; by default all.
        """
        joining = _joining()
        labels, n = provisional_labels(mask, self._connectivity)
        offset = self._n
        sized = labels.ravel() if counted is None else labels[counted]
        self._sizes.append(np.bincount(sized, minlength=n + 1)[1:])
        self._cored.append(np.bincount(labels[core], minlength=n + 1)[1:] > 0)
        self._n += n
        if self._n >= len(self._parent):
            longer = np.zeros(max(2 * len(self._parent), self._n + 1), np.int64)
            longer[: offset + 1] = self._parent[: offset + 1]
            self._parent = longer
        self._parent[offset + 1 : self._n + 1] = np.arange(offset + 1, self._n + 1)
        if self._last is not None:
            joining.join_planes(
                self._last, _moved(labels[0], offset), self._connectivity, self._parent
            )
        self._last = _moved(labels[-1], offset)
        return offset

    def kept(self) -> Mask:
        """Whether each label, starting at 0, belongs to a component with a core."""
        roots = _joining().roots_of(self._parent[: self._n + 1])
        cored = np.zeros(self._n + 1, bool)
        np.logical_or.at(cored, roots, np.concatenate(self._cored))
        cored[0] = False
        kept: Mask = cored[roots]
        return kept

    def kept_voxels(self) -> int:
        """Return the number of counted voxels in components with a core."""
        return int(np.concatenate(self._sizes)[self.kept()].sum())


def _joining() -> Any:
    """Return the compiled loops, imported on first use."""
    from napari_geosr.measure.kernels import joining

    return joining


def _moved(plane: np.ndarray, offset: int) -> npt.NDArray[np.int32]:
    labels = plane.astype(np.int32)
    labels[labels > 0] += offset
    return labels
