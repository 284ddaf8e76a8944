"""Selects the quietest blocks of each grey value without bias in their noise.

The coefficients of a block are divided into two groups, of odd and of even total
degree, that are nearly uncorrelated for noise. Blocks are selected by the energy of one
group and measured by the other: a block that is quiet by chance in the first group is
not quiet in the second, whereas structure appears in both groups.

The limits below were chosen with ``benchmarks/bench_noise_estimation.py`` on simulated
structures and parts of real volumes with known noise; ``docs/evidence/noise.md`` lists
the errors of the measured levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.noise.basis import (
    SMOOTH_DEGREE,
    Array,
    Edges,
    FloatArray,
    degrees,
)
from napari_geosr.measure.noise.curve import NoiseCurve, fit_curve
from napari_geosr.measure.noise.mixture import (
    fit_mixture,
    mean_deviance,
    without_structure,
)
from napari_geosr.measure.noise.sample import NoiseSample
from napari_geosr.measure.noise.spectrum import (
    Spectrum,
    fit_spectrum,
    noise_and_structure,
)

#: Minimum number of blocks per class of grey values.
_MIN_CLASS_BLOCKS = 150
#: Maximum number of classes of grey values.
_MAX_CLASSES = 10
#: Fraction of the blocks of a class that count as its quietest.
_QUIETEST_SHARE = 0.05
#: Minimum number of quietest blocks per class.
_MIN_QUIET_BLOCKS = 12
#: Minimum noise energy of coefficients used for selecting blocks, relative to the
#: largest.
_MIN_ENERGY = 0.02
#: Variance of the quietest blocks of a class, relative to the curve of all classes,
#: above which all its blocks contain structure.
_MAX_VARIANCE_RATIO = 1.3
#: Error of the variance of a class, relative to that of the most certain class, above
#: which the class does not contribute to the spectrum.
_MAX_DOUBT_RATIO = 1.25
#: Maximum relative error of the most certain class at which `_MAX_DOUBT_RATIO` applies.
_MAX_CERTAIN_ERROR = 0.1
#: Minimum fraction of the classes that contribute to the spectrum.
_MIN_CERTAIN_SHARE = 0.25
#: Minimum relative error of the variance of a class.
_MIN_CLASS_ERROR = 0.06
#: Relative error due to structure that cannot be separated from the noise of a class,
#: divided by the square of the fraction of structure.
_NOT_SEPARATED = 1.5
#: Expected scatter of (correlated) noise in a class.
_EXPECTED_SCATTER = 2.0
#: Increase of the relative error per unit of scatter above `_EXPECTED_SCATTER`.
_ERROR_PER_SCATTER = 0.05
#: Deviance from every noise spectrum above which even quiet blocks contain structure.
_MAX_DEVIANCE = 0.15
#: Stricter limit of the deviance if even the most certain class of grey values is
#: uncertain.
_MAX_DEVIANCE_UNCERTAIN = 0.045
#: Relative error above which even the most certain class of grey values counts as
#: uncertain.
_MIN_UNCERTAIN_ERROR = 0.3
#: Deviance of classes from one spectrum, relative to that expected from scatter, above
#: which each class may have its own mixture of noise.
_MIN_MISFIT = 1.12
#: Maximum deviance from the mixtures, relative to that from one spectrum.
_MAX_DEVIANCE_RATIO = 0.9
#: Minimum range of the white fraction over the classes; below it, the spectra of all
#: classes are nearly the same, and separate mixtures would describe structure.
_MIN_WHITE_RANGE = 0.02
#: Fraction of the blocks of a class (the least noisy ones) from which its noise is
#: measured, if these blocks are uniform.
_UNIFORM_SHARE = 0.5
#: Limits for uniform blocks: maximum fraction of structure, deviance and scatter.
_MAX_UNIFORM_STRUCTURE = 0.05
_MAX_UNIFORM_DEVIANCE = 3.0
_MAX_UNIFORM_SCATTER = 2.2
#: Maximum correlation of neighbouring voxels for noise that counts as independent.
_MAX_LAG = 0.1
#: Minimum half-width of the noise level's interval, relative to the level.
_MIN_HALF_WIDTH = 0.03
#: Increase of the half-width per unit of the relative error of the most certain class
#: of grey values.
_HALF_WIDTH_PER_ERROR = 0.5
#: Number of iterations of selecting blocks and fitting the spectrum.
_ITERATIONS = 3
#: Number of further iterations with the spectrum of the most certain classes.
_CERTAIN_ITERATIONS = 2


@dataclass(frozen=True, eq=False)
class QuietBlocks:
    """Noise of the quietest blocks.

    Attributes
    ----------
    greys, variances, doubts : ndarray of shape (classes,)
        Mean grey value, variance of the noise, and its relative error for the quietest
        blocks of each class of grey values, in ascending order.
    spectrum : Spectrum
        Spectrum of all classes together.
    blocks : int
        Number of quiet blocks.
    is_uniform : ndarray of shape (classes,), bool
        Whether half of the blocks of a class contain nothing but noise of this
        spectrum.
    """

    greys: Array
    variances: Array
    doubts: Array
    spectrum: Spectrum
    blocks: int
    is_uniform: npt.NDArray[np.bool_]

    @property
    def curve_errors(self) -> Array:
        """Relative errors of the variances, after noise and structure were separated.

        A small fraction of structure can be separated well, but a large fraction
        cannot.
        """
        structure = np.sqrt(np.maximum(self.doubts**2 - _MIN_CLASS_ERROR**2, 0))
        left = np.minimum(_NOT_SEPARATED * structure**2, structure)
        return np.asarray(np.sqrt(_MIN_CLASS_ERROR**2 + left**2))

    @property
    def half_width(self) -> float:
        """Half-width of the noise level's interval, relative to the level."""
        return _MIN_HALF_WIDTH + _HALF_WIDTH_PER_ERROR * float(self.doubts.min())

    @property
    def is_structure(self) -> bool:
        """Whether even the quietest blocks contain structure rather than noise."""
        deviance = self.spectrum.deviance - 1 / self.blocks
        is_uncertain = float(self.doubts.min()) > _MIN_UNCERTAIN_ERROR
        return deviance > _MAX_DEVIANCE or (
            deviance > _MAX_DEVIANCE_UNCERTAIN and is_uncertain
        )


def quiet_curve(
    energy: FloatArray,
    sample: NoiseSample,
    fraction: float = _QUIETEST_SHARE,
    check: Callable[[], None] = lambda: None,
) -> tuple[QuietBlocks, NoiseCurve] | None:
    """Measure the quietest blocks, and the variance of the noise at every grey value.

    Photon noise is skewed: a block that is bright by chance also varies more by chance.
    Classes of such blocks distort the dependence of the noise on the grey value, by up
    to a third of the variance. Therefore, for photon noise, blocks are assigned to
    classes according to every other voxel, and the voxels in between give the grey
    value.

    Parameters
    ----------
    energy : ndarray of shape (blocks, Z, Y, X)
        Energies by degree.
    sample : NoiseSample
        Grey values of the blocks.
    fraction, check
        As in `find_quiet`.

    Returns
    -------
    tuple of QuietBlocks and NoiseCurve, or None
        None if the quietest blocks do not vary at all.
    """
    best: tuple[QuietBlocks, NoiseCurve] | None = None
    for order, greys in ((None, sample.greys), sample.halves()):
        found = find_quiet(energy, greys, order=order, fraction=fraction, check=check)
        if found is None:
            break
        curve = fit_curve(
            found.greys, found.variances, found.curve_errors, found.is_uniform
        )
        if curve.is_line or best is None:
            best = found, curve
        # With correlated noise, the two halves of the voxels are not independent.
        if not curve.is_line or max(found.spectrum.lags) > _MAX_LAG:
            break
    return best


def find_quiet(
    energy: FloatArray,
    greys: Array,
    *,
    order: Array | None = None,
    fraction: float = _QUIETEST_SHARE,
    check: Callable[[], None] = lambda: None,
) -> QuietBlocks | None:
    """Measure the noise of the quietest blocks.

    Parameters
    ----------
    energy : ndarray of shape (blocks, Z, Y, X)
        Energies by degree.
    greys : ndarray of shape (blocks,)
        Mean grey values.
    order : ndarray of shape (blocks,), optional
        Grey values by which the blocks are divided into classes; by default `greys`.
        If the noise in `order` and in `greys` is independent, blocks that are bright by
        chance do not count as bright.
    fraction : float
        Fraction of the blocks that counts as quiet.
    check : callable
        Called every few hundredths of a second; may raise `Cancelled`.

    Returns
    -------
    QuietBlocks or None
        None if the quietest blocks do not vary at all.
    """
    classes = _classes(greys if order is None else order)
    search = _Search(
        [energy[one] for one in classes],
        [np.asarray(greys[one], np.float64) for one in classes],
        fraction,
        check,
    )
    found: _Found | None = None
    for _ in range(_ITERATIONS):
        better = search.step(found)
        if better is None:
            return None if found is None else found.quiet
        found = better
    assert found is not None
    if found.quiet.is_structure:
        return found.quiet
    mixed = _with_mixture(found, check)
    if mixed is not None:
        is_uniform = _with_uniform(found.quiet, search, check).is_uniform
        return replace(mixed, is_uniform=is_uniform)
    for _ in range(_CERTAIN_ITERATIONS):
        found = search.step(found, certain=True) or found
    return _with_uniform(found.quiet, search, check)


@dataclass(frozen=True, eq=False)
class _Found:
    """Quiet blocks, with the mean energies, structure and scatter of each class."""

    quiet: QuietBlocks
    energies: Array
    shares: Array
    scatter: Array


@dataclass(frozen=True, eq=False)
class _Search:
    """Search for the quietest blocks in classes of grey values."""

    classes: list[FloatArray]
    greys: list[Array]
    fraction: float
    check: Callable[[], None]

    def step(self, before: _Found | None, *, certain: bool = False) -> _Found | None:
        """Select the quietest blocks with the spectrum found before, and fit a new one.

        With `certain`, only the most certain classes determine the spectrum.
        """
        noise = np.ones(self.classes[0].shape[1:])
        if before is not None:
            noise = before.quiet.spectrum.noise
        selected = []
        for energy, greys in zip(self.classes, self.greys, strict=True):
            self.check()
            selected.append(quietest(energy, greys, noise, self.fraction))
        places = np.array([one.place for one in selected])
        energies = np.stack([one.energy for one in selected])
        scatter = np.array([one.scatter for one in selected])
        counts = [one.count for one in selected]
        if before is None:
            used = _selecting(noise)
            variances = (energies[:, used] / noise[used]).mean(1)
            shares = np.zeros(len(selected))
        else:
            variances, shares = _parts(energies, noise, counts)
        doubts = _relative_errors(shares, scatter)
        pooled = _pooled(energies, places, variances, doubts, certain)
        if pooled is None:
            return None
        spectrum = fit_spectrum(pooled, self.check)
        if not spectrum.variance > 0:
            return None
        variances, shares = _parts(energies, spectrum.noise, counts)
        quiet = QuietBlocks(
            greys=places,
            variances=variances,
            doubts=_relative_errors(shares, scatter),
            spectrum=spectrum,
            blocks=sum(one.count for one in selected),
            is_uniform=np.zeros(len(selected), bool),
        )
        return _Found(quiet, energies, shares, scatter)


def _parts(energies: Array, noise: Array, counts: Sequence[int]) -> tuple[Array, Array]:
    """Return the variance of the noise and the fraction of structure of each class."""
    parts = np.array(
        [
            noise_and_structure(one, noise, count)
            for one, count in zip(energies, counts, strict=True)
        ]
    )
    return parts[:, 0], parts[:, 1]


def _with_mixture(found: _Found, check: Callable[[], None]) -> QuietBlocks | None:
    """Describe each class by its own mixture of noise, if this fits better.

    A mixture is better if a single spectrum for all classes does not fit and mistakes
    part of the noise for structure. A mixture describes fine structure rather than
    noise if it only adds structure, or if its correlated part is much stronger in some
    classes than in others.
    """
    quiet = found.quiet
    # Weight classes equally, not by their errors, which depend on the spectrum: a class
    # that the spectrum does not fit would have no weight, because the noise of this
    # class would count as structure.
    weights = np.ones(len(quiet.greys))
    deviance = mean_deviance(found.energies, quiet.spectrum.noise, weights)
    expected = len(found.energies) / quiet.blocks
    if deviance < _MIN_MISFIT * expected:
        return None
    mixture = fit_mixture(found.energies, weights, quiet.spectrum, check)
    noisy = mixture.variances > 0  # in other classes, noise is lost in rounding
    if (
        mixture.deviance > _MAX_DEVIANCE_RATIO * deviance
        or mixture.shares.mean() >= found.shares.mean()
        or not noisy.any()
        or np.ptp(mixture.white[noisy]) < _MIN_WHITE_RANGE
    ):
        return None
    shared = without_structure(mixture)
    if shared is None:
        return None
    mixture = shared
    doubts = _relative_errors(mixture.shares, found.scatter)
    white = float(np.average(mixture.white, weights=1 / doubts**2))
    z, y, x = mixture.lags
    lags = ((1 - white) * z, (1 - white) * y, (1 - white) * x)
    return replace(
        quiet,
        variances=mixture.variances,
        doubts=doubts,
        spectrum=replace(quiet.spectrum, lags=lags, white=white, cutoff=mixture.cutoff),
    )


def _with_uniform(
    quiet: QuietBlocks, search: _Search, check: Callable[[], None]
) -> QuietBlocks:
    """Use more blocks of each class for the measurement if most of them are uniform.

    The quietest blocks are located where the noise is weakest. In a reconstruction,
    this is near the edge of the sample, where noise is weaker than on average.
    """
    noise = quiet.spectrum.noise
    places, variances = quiet.greys.copy(), quiet.variances.copy()
    is_uniform = quiet.is_uniform.copy()
    for i, (energy, greys) in enumerate(zip(search.classes, search.greys, strict=True)):
        check()
        wide = quietest(energy, greys, noise, _UNIFORM_SHARE)
        if not wide.energy.any():  # clipped or rounded
            continue
        variance, share = noise_and_structure(wide.energy, noise, wide.count)
        deviance = mean_deviance(wide.energy[None], noise, np.ones(1)) * wide.count
        if (
            share <= _MAX_UNIFORM_STRUCTURE
            and deviance <= _MAX_UNIFORM_DEVIANCE
            and wide.scatter <= _MAX_UNIFORM_SCATTER
        ):
            places[i], variances[i] = wide.place, variance
            is_uniform[i] = True
    return replace(quiet, greys=places, variances=variances, is_uniform=is_uniform)


def _classes(greys: Array) -> list[npt.NDArray[np.intp]]:
    count = int(np.clip(len(greys) // _MIN_CLASS_BLOCKS, 1, _MAX_CLASSES))
    return np.array_split(np.argsort(greys, kind="stable"), count)


def _selecting(noise: Array) -> npt.NDArray[np.bool_]:
    """Return the mask of the coefficients that are used for selecting blocks."""
    edges: Edges = (noise.shape[0], noise.shape[1], noise.shape[2])
    is_fine = degrees(edges) > SMOOTH_DEGREE
    return np.asarray(is_fine & (noise > _MIN_ENERGY * noise[is_fine].max()))


@dataclass(frozen=True, eq=False)
class QuietClass:
    """Mean energies of a class's quietest blocks, and how much the blocks differ.

    `place` is the mean grey value of these blocks: if noise increases with the grey
    value, the quietest blocks are the darkest ones.
    """

    energy: Array
    place: float
    scatter: float
    count: int


def quietest(
    energy: FloatArray, greys: Array, noise: Array, fraction: float
) -> QuietClass:
    """Select blocks by each group of coefficients, and measure them by the other group.

    Parameters
    ----------
    energy : ndarray of shape (blocks, Z, Y, X)
        Energies by degree.
    greys : ndarray of shape (blocks,)
        Mean grey values.
    noise : ndarray of shape (Z, Y, X)
        Expected energies of noise of variance 1.
    fraction : float
        Fraction of the blocks to select.
    """
    edges: Edges = (noise.shape[0], noise.shape[1], noise.shape[2])
    odd = degrees(edges) % 2 == 1
    used = _selecting(noise)
    count = min(len(energy), max(_MIN_QUIET_BLOCKS, round(fraction * len(energy))))
    sums = []
    for group in (odd, ~odd):
        in_group = used & group
        weight = (1 / noise[in_group]).astype(np.float32)
        sums.append(energy[:, in_group] @ weight / max(1, in_group.sum()))
    mean_energy = np.zeros(edges)
    scatters, places = [], []
    for i, other in ((0, ~odd), (1, odd)):
        chosen = np.argsort(sums[i])[:count]
        places.append(float(greys[chosen].mean()))
        mean_energy[other] = energy[chosen].mean(0, dtype=np.float64)[other]
        rest = sums[1 - i][chosen].astype(np.float64)
        expected = 2 / max(1, (used & other).sum())
        mean = rest.mean()
        scatters.append(float(rest.var() / mean**2 / expected) if mean > 0 else 1.0)
    return QuietClass(
        mean_energy, float(np.mean(places)), float(np.mean(scatters)), count
    )


def _relative_errors(shares: Array, scatter: Array) -> Array:
    """Return the relative error of the noise variance of each class.

    For noise, the scatter of the blocks' energies is known; blocks with structure
    differ more from each other.
    """
    excess = np.maximum(scatter - _EXPECTED_SCATTER, 0)
    return np.asarray(
        np.sqrt(_MIN_CLASS_ERROR**2 + shares**2 + (_ERROR_PER_SCATTER * excess) ** 2)
    )


def _pooled(
    energies: Array, places: Array, variances: Array, doubts: Array, certain: bool
) -> Array | None:
    """Return the mean energies of the quiet classes, scaled to their typical variance.

    With `certain`, classes that are less certain than the best ones are left out,
    because even a little structure in them looks like correlated noise.
    """
    if not variances.max() > 0:
        return None
    curve = fit_curve(places, variances, doubts)
    expected = curve.variance(places)
    good = (variances <= _MAX_VARIANCE_RATIO * expected) & (expected > 0)
    if not good.any():
        return None
    ordered = np.sort(doubts[good])
    if certain and ordered[0] <= _MAX_CERTAIN_ERROR:
        enough = ordered[round(_MIN_CERTAIN_SHARE * (len(ordered) - 1))]
        good &= doubts <= max(_MAX_DOUBT_RATIO * ordered[0], enough)
    weight = 1 / doubts[good] ** 2
    weight /= weight.sum()
    scaled = energies[good] / expected[good][:, None, None, None]
    typical = float((weight * expected[good]).sum())
    return np.asarray(np.tensordot(weight, scaled, axes=1) * typical, np.float64)
