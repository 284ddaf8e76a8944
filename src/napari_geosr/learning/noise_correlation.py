"""How much of its noise a voxel shares with its neighbours.

Blind-spot methods take for granted that it is nothing. Reconstructions by filtered
back-projection, interpolated images and cameras that bin their pixels break that.

To measure along one axis, differences are taken along the two others: they leave little
of an object, whose surfaces are smooth, and do not touch the correlation along the
first as long as that is the same at every place. The quietest blocks of what is left
are the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.volume import Volume

FloatArray = npt.NDArray[np.float64]

#: Correlation from which blind-spot training visibly begins to copy noise.
NOTEWORTHY = 0.1
_BLOCK, _QUIETEST, _LEAST_BLOCKS = 8, 0.2, 8
_SLABS, _DEPTH, _WINDOW = 4, 16, 256


def noise_correlation(volume: Volume) -> dict[str, float]:
    """Correlation of the noise of neighbouring voxels along each axis, −1 … 1.

    Reads up to 4 slabs of 16 × 256 × 256 voxels. Strong correlation is found a little
    too weak (0.7 for 0.78), as quiet blocks are quiet by chance, too.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.

    Returns
    -------
    dict of str to float
        By axis, ``"x"``, ``"y"`` and, of volumes, ``"z"``; axes that are too short, or
        that have no noise, are left out.
    """
    sums: dict[str, list[FloatArray]] = {}
    for slab in _slabs(volume):
        for axis, name in enumerate("zyx"):
            along = np.moveaxis(slab, axis, -1)
            left = _differences(along)
            if left is not None:
                sums.setdefault(name, []).append(_block_sums(left))
    found = {}
    for name in ("x", "y", "z"):
        energy, products = np.concatenate(sums.get(name, [np.empty((2, 0))]), axis=1)
        # Padding around a sample is as quiet as can be, but no noise.
        noisy = energy > 1e-6 * energy.max(initial=0)
        energy, products = energy[noisy], products[noisy]
        count = max(_LEAST_BLOCKS, round(_QUIETEST * len(energy)))
        if len(energy) < count:
            continue
        quiet = np.argsort(energy)[:count]
        found[name] = float(products[quiet].sum() / energy[quiet].sum())
    return found


def warning(volume: Volume, method: str, without: str = "") -> str:
    """A sentence for people where the noise is correlated, else nothing.

    Parameters
    ----------
    without : str
        Axes along which neighbours are hidden anyway.
    """
    found = noise_correlation(volume)
    figures = {a: r for a, r in found.items() if a not in without}
    if not figures or max(map(abs, figures.values())) < NOTEWORTHY:
        return ""
    shown = ", ".join(f"{axis.upper()} {r:.2f}" for axis, r in figures.items())
    return (
        f"The noise of {volume.title} is correlated between neighbouring voxels "
        f"({shown}; 0 is independent): {method} takes such noise for structure and "
        "keeps it. Two scans (noise2noise) or parts of the projections (noise2inverse) "
        "do not mind."
    )


def _slabs(volume: Volume) -> Iterator[FloatArray]:
    """Parts (Z, Y, X) of the middle of the planes."""
    middle = tuple(
        slice((n - min(n, _WINDOW)) // 2, (n + min(n, _WINDOW)) // 2)
        for n in volume.shape[-2:]
    )
    if volume.axes == "YX":
        yield np.asarray(volume.data[middle], np.float64)[None]
        return
    depth = volume.shape[0]
    size = min(_DEPTH, depth)
    starts = np.linspace(0, depth - size, min(_SLABS, -(-depth // size)))
    for z in np.unique(starts.round().astype(int)):
        key = (slice(int(z), int(z) + size), *middle)
        yield np.asarray(volume.data[key], np.float64)


def _differences(slab: FloatArray) -> FloatArray | None:
    """Differences along the first two axes; twice along one if the other has length 1.

    None where the slab is too small.
    """
    first, second, length = slab.shape
    if length == 1 or max(first, second) < 3:
        return None
    if first == 1:
        return np.diff(slab, n=2, axis=1)
    if second == 1:
        return np.diff(slab, n=2, axis=0).swapaxes(0, 1)
    return np.diff(np.diff(slab, axis=0), axis=1)


def _block_sums(noise: FloatArray) -> Any:
    """Mean squares and mean products of neighbours along the last axis, by block.

    Blocks with NaN or Inf count as having no noise.
    """
    planes, rows, columns = noise.shape
    b, c = min(_BLOCK, rows), min(_BLOCK, columns)
    r, k = rows // b, columns // c
    cut = noise[:, : r * b, : k * c].reshape(planes, r, b, k, c)
    blocks = cut.transpose(0, 1, 3, 2, 4).reshape(-1, b, c)
    blocks = np.where(np.isfinite(blocks).all((1, 2), keepdims=True), blocks, 0)
    products = blocks[:, :, 1:] * blocks[:, :, :-1]
    return np.stack([(blocks**2).mean((1, 2)), products.mean((1, 2))])
