"""The quietest blocks of each grey value, selected without bias in the noise.

The coefficients of a block are dealt out to two groups of all degrees that hardly
correlate in noise. Blocks are chosen by the energy of one group and measured by the
other: what is quiet by chance in the first is not in the second, while structure shows
in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.noise.basis import (
    SMOOTH_DEGREE,
    Array,
    Edges,
    FloatArray,
    degrees,
)
from napari_geosr.measure.noise.curve import fit_curve
from napari_geosr.measure.noise.spectrum import (
    Spectrum,
    fit_spectrum,
    noise_and_structure,
)

#: Blocks of one class of grey values at least, and classes at most.
_CLASS, _MOST_CLASSES = 150, 10
#: Share of the blocks of a class that is its quietest, and their number at least.
_QUIETEST, _LEAST_BLOCKS = 0.05, 12
#: Frequencies with less than this part of the strongest noise do not choose blocks.
_WEAK = 0.02
#: Classes whose quietest blocks vary more than this, over the curve of all classes,
#: have no blocks without structure.
_PLATEAU = 1.3
#: Relative uncertainty of the variance of a class: at best, and per unit of scatter
#: above that of (correlated) noise.
_LEAST_DOUBT, _SCATTER, _PER_SCATTER = 0.06, 2.0, 0.05
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class QuietBlocks:
    """Noise of the quietest blocks.

    Attributes
    ----------
    greys, variances, doubts : ndarray of shape (classes,)
        Mean grey value, variance of the noise, and its relative uncertainty for the
        quietest blocks of each class of grey values, in ascending order.
    spectrum : Spectrum
        Of all classes together.
    blocks : int
        Number of quiet blocks.
    """

    greys: Array
    variances: Array
    doubts: Array
    spectrum: Spectrum
    blocks: int


def find_quiet(
    energy: FloatArray,
    greys: Array,
    *,
    fraction: float = _QUIETEST,
    check: Callable[[], None] = lambda: None,
) -> QuietBlocks | None:
    """Measure the noise of the quietest blocks.

    Parameters
    ----------
    energy : ndarray of shape (blocks, Z, Y, X)
        By degree.
    greys : ndarray of shape (blocks,)
        Mean grey values.
    fraction : float
        Share of the blocks that counts as quiet.
    check : callable
        Called every few hundredths of a second; may raise `Cancelled`.

    Returns
    -------
    QuietBlocks or None
        None where the quietest blocks do not vary at all.
    """
    classes = _classes(greys)
    places = np.array([greys[one].mean() for one in classes])
    noise = np.ones(energy.shape[1:])
    spectrum: Spectrum | None = None
    quiet: QuietBlocks | None = None
    for _ in range(_ROUNDS):
        found = []
        for one in classes:
            check()
            found.append(_quietest(energy[one], noise, fraction))
        energies = np.stack([one.energy for one in found])
        scatter = np.array([one.scatter for one in found])
        if spectrum is None:
            used = _used(noise)
            variances = (energies[:, used] / noise[used]).mean(1)
            shares = np.zeros(len(classes))
        else:
            parts = [noise_and_structure(one, noise) for one in energies]
            variances = np.array([variance for variance, _ in parts])
            shares = np.array([share for _, share in parts])
        doubts = _doubts(shares, scatter)
        pooled = _pooled(energies, places, variances, doubts)
        if pooled is None:
            return quiet
        spectrum = fit_spectrum(pooled, check)
        if not spectrum.variance > 0:
            return quiet
        noise = spectrum.noise
        parts = [noise_and_structure(one, noise) for one in energies]
        quiet = QuietBlocks(
            greys=places,
            variances=np.array([variance for variance, _ in parts]),
            doubts=_doubts(np.array([share for _, share in parts]), scatter),
            spectrum=spectrum,
            blocks=sum(one.count for one in found),
        )
    return quiet


def _classes(greys: Array) -> list[npt.NDArray[np.intp]]:
    count = int(np.clip(len(greys) // _CLASS, 1, _MOST_CLASSES))
    return np.array_split(np.argsort(greys, kind="stable"), count)


def _used(noise: Array) -> npt.NDArray[np.bool_]:
    """Coefficients that choose blocks."""
    edges: Edges = (noise.shape[0], noise.shape[1], noise.shape[2])
    kept = degrees(edges) > SMOOTH_DEGREE
    return np.asarray(kept & (noise > _WEAK * noise[kept].max()))


@dataclass(frozen=True, eq=False)
class _Class:
    """Mean energies of a class's quietest blocks, and the scatter of their sums."""

    energy: Array
    scatter: float
    count: int


def _quietest(energy: FloatArray, noise: Array, fraction: float) -> _Class:
    """Select by one group of coefficients and measure the other; then swap them."""
    edges: Edges = (noise.shape[0], noise.shape[1], noise.shape[2])
    odd = degrees(edges) % 2 == 1
    used = _used(noise)
    count = min(len(energy), max(_LEAST_BLOCKS, round(fraction * len(energy))))
    sums = []
    for group in (odd, ~odd):
        mine = used & group
        weight = (1 / noise[mine]).astype(np.float32)
        sums.append(energy[:, mine] @ weight / max(1, mine.sum()))
    found = np.zeros(edges)
    scatters = []
    for i, other in ((0, ~odd), (1, odd)):
        chosen = np.argsort(sums[i])[:count]
        found[other] = energy[chosen].mean(0, dtype=np.float64)[other]
        left = sums[1 - i][chosen].astype(np.float64)
        expected = 2 / max(1, (used & other).sum())
        mean = left.mean()
        scatters.append(float(left.var() / mean**2 / expected) if mean > 0 else 1.0)
    return _Class(found, float(np.mean(scatters)), count)


def _doubts(shares: Array, scatter: Array) -> Array:
    """Relative uncertainty of the variance of the noise of a class.

    Noise has sums of a known scatter; blocks with structure differ from each other.
    """
    excess = np.maximum(scatter - _SCATTER, 0)
    return np.asarray(
        np.sqrt(_LEAST_DOUBT**2 + shares**2 + (_PER_SCATTER * excess) ** 2)
    )


def _pooled(
    energies: Array, places: Array, variances: Array, doubts: Array
) -> Array | None:
    """Mean energies, as at a typical grey value, of the classes with quiet blocks."""
    if not variances.max() > 0:
        return None
    curve = fit_curve(places, variances, doubts)
    expected = curve.variance(places)
    good = (variances <= _PLATEAU * expected) & (expected > 0)
    if not good.any():
        return None
    weight = 1 / doubts[good] ** 2
    weight /= weight.sum()
    scaled = energies[good] / expected[good][:, None, None, None]
    typical = float((weight * expected[good]).sum())
    return np.asarray(np.tensordot(weight, scaled, axes=1) * typical, np.float64)
