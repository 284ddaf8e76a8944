"""A test on known blocks, to find pores that the model invents or loses.

The scan is smoothed according to its noise and used as ground truth. Noise like that of
the scan is added, the model is run, and pores are counted before and after. The same is
done with the model's result as ground truth. Then small test pores of known sizes are
added to the solid and the first experiment is repeated. This shows the minimum size at
which pores are found, and how many objects the model invents.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.noise import Noise
from napari_geosr.inference.risk.evaluation import draw_sample, is_flat
from napari_geosr.inference.risk.probes import level_map, noise_of_scan
from napari_geosr.operations.restore.verdict.inserted_pores import (
    MIN_FOUND_SHARE,
    Array,
    Restore,
    ball_offsets,
    insert_test_pores,
)
from napari_geosr.operations.restore.verdict.phase_levels import (
    PhaseLevels,
    phase_levels,
)
from napari_geosr.operations.restore.verdict.pore_counts import (
    MIN_PORE_VOXELS,
    Mask,
    PoreCounts,
    differ,
    inside_of,
    kept_pores,
    pore_counts,
    sample_of,
)
from napari_geosr.operations.restore.verdict.run_verdict import (
    DEFAULT_MIN_VOXELS,
    CountLimit,
)

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.inference.risk.evaluation import EvaluationSample


#: Candidate widths of the Gaussian filter, in voxels.
_WIDTHS = (0.0, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
#: Minimum radius, in voxels, of test pores whose loss causes the verdict *caution*.
MIN_RADIUS = 2.0
_SEED = 4711
#: Seed of the noise that is added to the result.
_REPEAT_SEED = 4713
#: Number of blocks used for the test, and their shape in a volume. They are thicker
#: than those for the expected gain, because a thin slab cuts connected pores apart.
_BLOCKS = {2: 3, 3: 2}
_SHAPE = {2: None, 3: (16, 96, 96)}


@dataclass(frozen=True)
class KnownBlockTest:
    """Result of running a model on a known scan.

    Attributes
    ----------
    gain : float
        Improvement of the model over the unchanged scan, in dB.
    counts : tuple of PoreCounts
        Counts of pores of at least `MIN_PORE_VOXELS`, and of bright spots in scans that
        are mostly dark.
    small_counts : tuple of PoreCounts
        The same for at least `DEFAULT_MIN_VOXELS`.
    found : mapping of int to float
        Fraction of the test pores found without noise that are also found with it, by
        size in voxels; sizes without test pores are missing.
    countable : frozenset of int
        Sizes, in voxels, at and above which pores can be counted in the noisy scan
        itself: it shows the test pores of this size, and noise does not change the
        number of pores.
    shown : frozenset of int
        Sizes, in voxels, of test pores that are found in the noisy scan, and at and
        above which noise alone shows far fewer objects than the scan.
    kept : mapping of int to (int, int)
        For each size in `countable`: number of pores of half to twice this size in the
        scan itself, without the specks of noise that are expected among them, and how
        many of them are in the result.
    are_bright : bool
        Whether the test pores are bright spots because most of the scan is dark.
    large : int
        Pore size, in voxels, at and above which pores should be found; that of a pore
        with a diameter of four voxels.
    is_separated : bool
        Whether Otsu's threshold separates the pores in the model's result for the scan.
    dark : KnownBlockTest or None
        If most of the scan is dark: the same test with dark pores inside its bright
        parts, such as the struts of a foam. Its `counts` are empty.
    """

    gain: float
    counts: tuple[PoreCounts, ...]
    small_counts: tuple[PoreCounts, ...]
    found: Mapping[int, float] = field(default_factory=dict)
    countable: frozenset[int] = frozenset()
    shown: frozenset[int] = frozenset()
    kept: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    are_bright: bool = False
    large: int = 33
    is_separated: bool = True
    dark: KnownBlockTest | None = None

    @property
    def objects(self) -> str:
        """Name of the test objects."""
        return "bright spots" if self.are_bright else "pores"

    @property
    def limit(self) -> int | None:
        """Size up to which pores cannot be counted, in voxels; None if all can.

        Test pores are as dark as large pores. The scan's own small pores may be less
        dark, and then they are lost at sizes at which test pores are not.
        """
        sizes = self.found if self.is_inseparable else self._lost
        return max((*sizes, *self._own_lost), default=None)

    @property
    def is_inseparable(self) -> bool:
        """Whether Otsu's threshold finds no pores, and the model is not the reason."""
        lost = max(self._lost, default=0)
        return not self.is_separated and lost not in self.countable | self.shown

    @property
    def loses_all_sizes(self) -> bool:
        """Whether pores of all examined sizes are lost."""
        limit = self.limit
        return limit is not None and limit >= max(self.found, default=0)

    @property
    def is_from_scan(self) -> bool:
        """Whether the largest lost pores are visible in the scan."""
        limit = self.limit
        return limit in {*self.countable, *self.shown, *self._own_lost}

    @property
    def shows_no_loss(self) -> bool:
        """Whether the scan shows where its pores are, and the result has them all.

        Then fewer pores than in the smoothed scan are no loss: that has specks of
        noise.
        """
        sizes = [n for n in self.kept if n >= self.large]
        return bool(sizes) and not any(
            differ(seen, kept, 1.0) for seen, kept in self.kept.values()
        )

    @property
    def lost_from_scan(self) -> int | None:
        """Largest size of lost pores that can be counted in the scan."""
        seen = (n for n in self._lost if n in self.countable)
        return max((*seen, *self._own_lost), default=None)

    @property
    def _own_lost(self) -> tuple[int, ...]:
        """Size up to which the scan's own pores are lost; empty if they are not.

        Pores of half to twice the size `missing` were counted.
        """
        return () if self.missing is None else (2 * self.missing,)

    @property
    def missing(self) -> int | None:
        """Largest pore size at which fewer than half of the scan's pores remain."""
        lost = (n for n, (seen, kept) in self.kept.items() if differ(seen, kept))
        return max(lost, default=None)

    @property
    def _lost(self) -> Iterator[int]:
        """Sizes from the smallest up to the first that is found."""
        return itertools.takewhile(
            lambda size: self.found[size] < MIN_FOUND_SHARE, sorted(self.found)
        )


def draw_known_sample(volume: Volume, noise: Noise) -> EvaluationSample:
    """Draw the blocks of a scan for the test.

    Raises
    ------
    VolumeError
        If no part of the scan has enough varying voxels.
    """
    ndim = 2 if is_flat(volume.data.shape) else 3
    return draw_sample(volume.data, noise, n=_BLOCKS[ndim], shape=_SHAPE[ndim])


def run_known_blocks(
    restore: Restore,
    sample: EvaluationSample,
    noise: Noise,
    *,
    repeats: bool = True,
) -> KnownBlockTest:
    """Run a model on known blocks with noise like that of the scan.

    Parameters
    ----------
    restore : callable
        Returns the model's result for the core of a window, both in grey values.
    sample : EvaluationSample
        Blocks of the scan, from `draw_known_sample`.
    noise : Noise
        Noise of the scan.
    repeats : bool
        Whether to run the model on its own result as well: see `PoreCounts.is_stable`.

    Raises
    ------
    Cancelled
        If `restore` raises it.
    """
    rng = np.random.default_rng(_SEED)
    repeat_rng = np.random.default_rng(_REPEAT_SEED)
    known, insides = known_blocks_of(sample)
    phases = phase_levels(sample, noise, insides)
    truths, noisies, results, shown, repeated = [], [], [], [], []
    before = after = 0.0
    pairs = list(zip(sample.blocks, insides, strict=True))
    for (block, inside), truth in zip(pairs, known, strict=True):
        unit = noise_of_scan(noise, truth.shape, rng)
        noisy = truth + level_map(truth, noise) * unit
        result = restore(noisy, block.core)
        core = truth[block.core]
        truths.append(core)
        noisies.append(noisy[block.core])
        results.append(result)
        shown.append(restore(block.window, block.core))
        if repeats:
            unit = noise_of_scan(noise, truth.shape, repeat_rng)[block.core]
            again = block.window.copy()
            again[block.core] = shown[-1] + level_map(shown[-1], noise) * unit
            repeated.append(restore(again, block.core))
        part = inside[block.core]
        before += float(np.square(noisy[block.core] - core)[part].sum())
        after += float(np.square(result - core)[part].sum())
    is_dark = phases is not None and phases.is_mostly_dark
    parts = [inside[block.core] for block, inside in pairs]
    scans = [block.window[block.core] for block in sample.blocks]
    counted = [truths, results, shown, noisies, scans] + [repeated] * repeats
    is_known = phases is None or phases.are_separated(truths, parts)
    counts, small_counts = (
        tuple(
            pore_counts(counted, parts, voxels, bright=bright, is_known=is_known)
            for bright in ((False, True) if is_dark else (False,))
        )
        for voxels in (MIN_PORE_VOXELS, DEFAULT_MIN_VOXELS)
    )
    gain = 10 * math.log10(before / after) if before > 0 and after > 0 else 0.0

    def test_of(bright: bool) -> KnownBlockTest:
        test = insert_test_pores(
            restore, sample, noise, known, insides, phases, bright=bright
        )
        return KnownBlockTest(
            gain,
            counts=(),
            small_counts=(),
            found=test.found,
            countable=test.countable,
            shown=test.shown,
            kept={
                n: _kept(scans, shown, noisies, truths, parts, phases, n, bright=bright)
                for n in test.countable
            },
            are_bright=bright,
            large=len(ball_offsets(MIN_RADIUS, truths[0].shape)),
        )

    dark = test_of(bright=False) if is_dark else None
    found = test_of(bright=is_dark)
    return replace(
        found,
        counts=counts,
        small_counts=small_counts,
        is_separated=phases is None or phases.are_separated(shown, parts),
        dark=dark,
    )


def _kept(
    scans: Sequence[Array],
    results: Sequence[Array],
    noisy: Sequence[Array],
    truths: Sequence[Array],
    parts: Sequence[Mask],
    phases: PhaseLevels | None,
    size: int,
    *,
    bright: bool,
) -> tuple[int, int]:
    """Pores of about this size in the scan, and how many of them are in the result.

    Some of those in the scan are specks of noise. In the simulated scan, their number
    is known: they are not in its ground truth. In the scan, there may be more by chance
    (two standard deviations of a Poisson distribution).
    """
    if phases is None:
        return 0, 0
    limit = phases.threshold
    seen, kept = kept_pores(scans, results, parts, limit, size, bright=bright)
    simulated, true = kept_pores(noisy, truths, parts, limit, size, bright=bright)
    specks = max(0, simulated - true)
    return max(kept, round(seen - specks - 2 * math.sqrt(specks))), kept


def known_blocks_of(sample: EvaluationSample) -> tuple[list[Array], list[Mask]]:
    """The blocks without most of their noise, and their voxels that show the sample."""
    shown = [sample_of(block) for block in sample.blocks]
    width = _best_width(sample, shown)
    known = [
        _smoothed(block.window, width, part)
        for block, part in zip(sample.blocks, shown, strict=True)
    ]
    return known, [inside_of(part, width) for part in shown]


def _best_width(sample: EvaluationSample, shown: Sequence[Mask]) -> float:
    """Width of the Gaussian filter with the smallest expected error on the blocks."""
    best, least = 0.0, math.inf
    for width in _WIDTHS:
        risk, voxels = 0.0, 0
        for block, probe, variance, part in zip(
            sample.blocks, sample.probes, sample.variances, shown, strict=True
        ):
            core = block.core
            valid = block.valid & part[core]
            left = block.window[core] - _smoothed(block.window, width, part)[core]
            kept = probe[core] * _smoothed(probe, width, part)[core]
            risk += float((np.square(left) - variance + 2 * kept)[valid].sum())
            voxels += int(valid.sum())
        if voxels and risk / voxels < least:
            best, least = width, risk / voxels
    return best


def _smoothed(window: Array, width: float, shown: Mask) -> Array:
    """A window after a Gaussian filter of `width` voxels.

    Voxels that do not show the sample are not changed, and do not change others.
    """
    from scipy import ndimage

    if width == 0:
        return window
    if shown.all():
        found: Array = ndimage.gaussian_filter(window, width)
        return found
    weight = ndimage.gaussian_filter(shown.astype(np.float64), width)
    total = ndimage.gaussian_filter(np.where(shown, window, 0.0), width)
    return np.where(shown, total / np.maximum(weight, 1e-9), window)


def count_limits(test: KnownBlockTest | None, fine: int = 1) -> tuple[CountLimit, ...]:
    """Up to which size pores cannot be counted; empty if all can.

    Parameters
    ----------
    test : KnownBlockTest or None
    fine : int
        Voxels of the result per voxel of the scan.
    """
    return tuple(
        CountLimit(one.objects, fine * (one.limit or 0), _limit_sentence([one], fine))
        for one in _limited(test)
    )


def lost_pores(test: KnownBlockTest | None, fine: int = 1) -> str:
    """Which pores cannot be counted, in one sentence per reason; empty if all can."""
    known = _limited(test)
    groups = (
        [one for one in known if one.is_inseparable],
        [one for one in known if not one.is_inseparable and one.is_from_scan],
        [one for one in known if not one.is_inseparable and not one.is_from_scan],
    )
    return " ".join(_limit_sentence(group, fine) for group in groups if group)


def _limited(test: KnownBlockTest | None) -> list[KnownBlockTest]:
    tests = () if test is None else (test, test.dark)
    return [one for one in tests if one is not None and one.limit is not None]


def _limit_sentence(tests: Sequence[KnownBlockTest], fine: int) -> str:
    """Why objects of some sizes cannot be counted, for the same reason in all tests."""
    if tests[0].is_inseparable:
        objects_text = tests[0].objects
        return (
            f"Otsu's threshold does not separate {objects_text} from the rest in the "
            "result. Set the threshold by hand before you count them or measure "
            "porosity."
        )
    link = "or" if tests[0].is_from_scan else "and"
    objects: dict[int, list[str]] = {}
    for one in tests:
        objects.setdefault(one.limit or 0, []).append(one.objects)
    sizes = f" {link} ".join(
        f"{f' {link} '.join(names)} of up to {limit} voxels{_of_result(limit, fine)}"
        for limit, names in objects.items()
    )
    if tests[0].is_from_scan:
        return (
            f"Do not count {sizes}{' in the result' if fine == 1 else ''}: they are "
            "removed together with the noise."
        )
    return (
        f"{sizes[0].upper()}{sizes[1:]} cannot be counted in either the scan or the "
        "result, because noise hides them."
    )


def _of_result(voxels: int, fine: int) -> str:
    return "" if fine == 1 else f" of the scan ({fine * voxels} of the result)"
