"""Result of a test on known blocks, and the sizes of pores that cannot be counted.

See `napari_geosr.operations.restore.verdict.known_blocks`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from napari_geosr.operations.restore.verdict.inserted_pores import MIN_FOUND_SHARE
from napari_geosr.operations.restore.verdict.pore_counts import PoreCounts, differ
from napari_geosr.operations.restore.verdict.run_verdict import CountLimit

if TYPE_CHECKING:
    from napari_geosr.operations.restore.verdict.small_objects import SmallObjects
    from napari_geosr.operations.restore.verdict.thin_structures import ThinStructures

#: Maximum ratio of the number of small objects in the scan to the number of those that
#: keep their contrast; above it, more than an eighth of the objects fade, and a remark
#: reports this loss.
LOSSY_RATIO = 8 / 7
#: Size limit from which the number of larger objects is uncertain, too: in noisy
#: sandstone, it was often wrong by more than 20 % (docs/evidence/hard_cases.md).
_UNCERTAIN_FROM = 19
#: Reasons why objects cannot be counted: the threshold does not separate them in the
#: result; the scan shows them, but the result does not; the result does not show them,
#: and the threshold does not separate them in the scan; noise hides them in the scan.
Reason = Literal["inseparable", "removed", "removed and not separated", "hidden"]


@dataclass(frozen=True)
class KnownBlockTest:
    """Result of running a model on a scan with a known ground truth.

    Attributes
    ----------
    gain : float
        Improvement of the model over the unchanged scan, in dB.
    counts : tuple of PoreCounts
        Counts of pores of at least `MIN_PORE_VOXELS`, and of bright spots in scans that
        are mostly dark.
    small_counts : tuple of PoreCounts
        Counts of pores, or bright spots, of at least `DEFAULT_MIN_VOXELS` voxels.
    found : mapping of int to float
        Fraction of the test pores found without noise that are also found in the
        model's result, by size in voxels; sizes without test pores are missing.
    countable : frozenset of int
        Sizes, in voxels, at and above which pores can be counted in the noisy scan
        itself: the scan shows the test pores of these sizes, and noise does not change
        the number of pores.
    shown : frozenset of int
        Sizes, in voxels, of test pores that are found in the noisy scan, if noise alone
        produces far fewer objects of at least this size than the scan contains.
    kept : mapping of int to (int, int)
        For each size in `countable`: number of pores of half to twice this size in the
        scan itself, minus the expected number of specks of noise, and number of these
        pores in the result.
    are_bright : bool
        Whether the test pores are bright spots because most of the scan is dark.
    large : int
        Pore size, in voxels, at and above which pores should be found: that of a sphere
        with a diameter of four voxels.
    is_separated : bool
        Whether Otsu's threshold separates the pores in the model's result for the scan.
    is_scan_separated : bool
        Whether Otsu's threshold separates the pores in the scan itself.
    has_one_peak : bool
        Whether the threshold divides a single peak of the result's histogram, as in a
        solid that has few pores and is darker or brighter at the centre than at the
        edge.
    phases : int
        Number of phases of the scan. With more than two, Otsu's threshold may not
        separate the pores.
    thin : tuple of ThinStructures
        Thin dark and thin bright structures of the scan; empty if not examined.
    objects_by_size : tuple of SmallObjects
        Small objects of the scan itself that differ from their surroundings and are
        dark or bright like the test pores.
    other : KnownBlockTest or None
        Result for objects of the other kind, without `counts`. If most of the scan is
        dark, these are dark pores inside its bright parts, such as the struts of a
        foam. Otherwise, these are the bright objects of the scan itself, without test
        objects.
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
    is_scan_separated: bool = True
    has_one_peak: bool = False
    phases: int = 2
    thin: tuple[ThinStructures, ...] = ()
    objects_by_size: tuple[SmallObjects, ...] = ()
    other: KnownBlockTest | None = None

    @property
    def both(self) -> tuple[KnownBlockTest, ...]:
        """The tests of both kinds of objects."""
        return (self,) if self.other is None else (self, self.other)

    @property
    def objects(self) -> str:
        """Name of the test objects."""
        return "bright spots" if self.are_bright else "pores"

    @property
    def limit(self) -> int | None:
        """Size up to which pores cannot be counted, in voxels; None if all can.

        Test pores are as dark as large pores. The scan's own small pores may be less
        dark, in which case they are lost at sizes at which test pores are found.
        """
        sizes = self.found if self.is_inseparable else self._lost
        return max((*sizes, *self._own_lost), default=None)

    @property
    def is_inseparable(self) -> bool:
        """Whether Otsu's threshold fails for a reason other than the model."""
        lost = max(self._lost, default=0)
        return self.has_one_peak or (
            not self.is_separated and lost not in self.countable | self.shown
        )

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
    def reason(self) -> Reason:
        """Reason why objects of up to `limit` voxels cannot be counted."""
        if self.is_inseparable:
            return "inseparable"
        if not self.is_from_scan:
            return "hidden"
        return "removed" if self.is_scan_separated else "removed and not separated"

    @property
    def shows_no_loss(self) -> bool:
        """Whether the scan shows its pores clearly, and the result has all of them.

        In this case, a lower number of pores than in the smoothed scan is not a loss,
        because the smoothed scan contains specks of noise.
        """
        sizes = [n for n in self.kept if n >= self.large]
        return bool(sizes) and not any(
            differ(seen, kept, 1.0) for seen, kept in self.kept.values()
        )

    @property
    def lost_from_scan(self) -> int | None:
        """Largest size of lost pores that can be counted in the scan; None if none."""
        seen = (n for n in self._lost if n in self.countable)
        return max((*seen, *self._own_lost), default=None)

    @property
    def _own_lost(self) -> tuple[int, ...]:
        """Size up to which the scan's own pores are lost; empty if they are kept.

        Pores of half to twice the size `missing` were counted; for the largest size,
        larger pores are included.
        """
        if self.missing is None:
            return ()
        return (min(2 * self.missing, max(self.found, default=2 * self.missing)),)

    @property
    def missing(self) -> int | None:
        """Largest size at which over half of the scan's own pores are lost, if any."""
        lost = (n for n, (seen, kept) in self.kept.items() if differ(seen, kept))
        return max((*lost, *self._faded_sizes), default=None)

    @property
    def faded(self) -> tuple[int, int] | None:
        """Numbers of small objects in scan and result; None if most remain."""
        seen = sum(each.seen for each in self.certain_objects)
        kept = sum(each.kept for each in self.certain_objects)
        return (seen, kept) if differ(seen, kept) else None

    @property
    def partly_faded(self) -> tuple[SmallObjects, ...]:
        """Objects of two similar sizes if over an eighth of them fade; else empty."""
        pairs = itertools.pairwise(self.objects_by_size)
        lossy = [pair for pair in pairs if differ(*_total(pair), LOSSY_RATIO)]
        return max(lossy, key=_lost_objects, default=())

    @property
    def certain_objects(self) -> tuple[SmallObjects, ...]:
        """Small objects of the scan that cannot be hot voxels."""
        return tuple(each for each in self.objects_by_size if each.is_certain)

    @property
    def _faded_sizes(self) -> Iterator[int]:
        """Sizes at which most objects fade, even with similar sizes included."""
        for own in self.certain_objects:
            near = [
                each
                for each in self.certain_objects
                if own.voxels / 2.1 <= each.voxels <= 2.1 * own.voxels
            ]
            seen, kept = _total(near)
            if 2 * own.kept < own.seen and differ(seen, kept):
                yield own.voxels

    @property
    def _lost(self) -> Iterator[int]:
        """Sizes of test pores below the smallest size that is found."""
        return itertools.takewhile(
            lambda size: self.found[size] < MIN_FOUND_SHARE, sorted(self.found)
        )


def _total(objects: Sequence[SmallObjects]) -> tuple[int, int]:
    """Return the total numbers of objects in scan and result."""
    return sum(each.seen for each in objects), sum(each.kept for each in objects)


def _lost_objects(objects: Sequence[SmallObjects]) -> int:
    seen, kept = _total(objects)
    return seen - kept


def count_limits(test: KnownBlockTest | None, fine: int = 1) -> tuple[CountLimit, ...]:
    """Return the sizes up to which pores cannot be counted; empty if all can.

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
    """Explain which pores cannot be counted, and why; empty if all can be counted."""
    known = _limited(test)
    groups = ([one for one in known if one.reason == why] for why in get_args(Reason))
    return " ".join(_limit_sentence(group, fine) for group in groups if group)


def _limited(test: KnownBlockTest | None) -> list[KnownBlockTest]:
    tests = () if test is None else test.both
    return [one for one in tests if one.limit is not None]


def _limit_sentence(tests: Sequence[KnownBlockTest], fine: int) -> str:
    """State which objects cannot be counted, if the reason is the same in all tests."""
    reason = tests[0].reason
    if reason == "inseparable":
        objects_text = tests[0].objects
        return (
            f"Otsu's threshold does not separate {objects_text} from the other voxels "
            "of the result. Set the threshold by hand before you count them or "
            "measure porosity."
        )
    link = "and" if reason == "hidden" else "or"
    objects: dict[str, list[str]] = {}
    for one in tests:
        objects.setdefault(_size_text(one, fine), []).append(one.objects)
    sizes = f" {link} ".join(
        f"{f' {link} '.join(names)} of up to {size}" for size, names in objects.items()
    )
    if reason == "hidden":
        return (
            f"{sizes[0].upper()}{sizes[1:]} cannot be counted in either the scan or "
            f"the result, because noise hides them.{_larger_text(tests)}"
        )
    where = f"{sizes} in the result" if fine == 1 else sizes.removesuffix(",")
    text = f"Do not count {where}: they are removed together with the noise."
    if reason == "removed and not separated":
        text += (
            " Otsu's threshold does not separate them from the noise of the scan "
            "either: use a scan with less noise, or set the threshold for the scan by "
            "hand."
        )
    return text


def _larger_text(tests: Sequence[KnownBlockTest]) -> str:
    """Return a sentence on larger objects if noise changes their number, too."""
    if max(one.limit or 0 for one in tests) < _UNCERTAIN_FROM:
        return ""
    return " The number of larger ones is uncertain: some may be joined or divided."


def _size_text(test: KnownBlockTest, fine: int) -> str:
    """Return the size limit of lost objects; state if it is the largest size tested."""
    limit = test.limit or 0
    text = f"{limit} voxels"
    if fine != 1:
        text += f" of the scan ({fine * limit} of the result)"
    if test.reason != "hidden" and limit == max(test.found, default=None):
        text += ", the largest size tested,"
    return text
