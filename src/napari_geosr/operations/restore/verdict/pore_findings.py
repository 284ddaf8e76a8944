"""Findings about the number of pores in a model's result, as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_geosr.operations.restore.verdict.pore_counts import (
    MAX_PORE_RATIO,
    MIN_PORES,
    differ,
)

if TYPE_CHECKING:
    from napari_geosr.operations.restore.verdict.known_block_test import KnownBlockTest
    from napari_geosr.operations.restore.verdict.pore_counts import PoreCounts

#: Maximum ratio of the pore count to the expected one, in either direction; above it,
#: the count is doubtful.
DOUBTFUL_PORE_RATIO = 1.5
#: Maximum ratio of the number of pores in a simulated scan to the number in its result;
#: above it, more than a quarter are lost, and the count is doubtful.
LOSSY_PORE_RATIO = 4 / 3
#: Maximum number of phases for which Otsu's threshold separates pores from solid.
MAX_PHASES = 2
#: If at least this fraction of the small objects in the scan keep their contrast, a
#: small number of pores does not prove that pores are lost.
MIN_KEPT_SHARE = 0.9
#: Contrast of thin structures in the result, relative to that in the scan, below which
#: they may be missing from a segmentation.
MIN_THIN_CONTRAST = 0.6


def wrong_pores(name: str, test: KnownBlockTest) -> str:
    """Return a sentence if a model invents or loses far too many pores; else "".

    In scans with more than two phases, such a count raises doubts but proves nothing.
    The same applies to lost pores that the scan itself does not show.
    """
    if test.phases > MAX_PHASES:
        return ""
    for counts in test.counts:
        if not (counts.is_known and counts.is_off(MAX_PORE_RATIO)):
            continue
        if counts.result < counts.expected and _shows_no_loss(test, counts):
            continue
        if counts.result < counts.expected and (
            _keeps_objects(test, counts) or _hides_objects(test, counts)
        ):
            continue  # the count is reported as doubtful instead
        if counts.result > counts.expected and _shows_as_many(test, counts):
            continue
        # If small pores are lost, the expected number does not include them either.
        is_invented = counts.simulated > MAX_PORE_RATIO * counts.smoothed
        lost = 0 if is_invented else _lost_size(test, counts)
        if lost:
            return (
                f"The number of {counts.objects} in the result of {name} would be "
                f"wrong: the result would show {counts.result} in the examined part, "
                f"but lose {counts.objects} of up to {lost} voxels. Do not count "
                f"{counts.objects} in its result."
            )
        more = "more" if counts.result > counts.expected else "fewer"
        return (
            f"{name} would show far {more} {counts.objects} than the sample has: "
            f"{_counts(counts)}. Do not count {counts.objects} in its result."
        )
    return ""


def _shows_no_loss(test: KnownBlockTest, counts: PoreCounts) -> bool:
    return any(one.shows_no_loss for one in test.both if one.objects == counts.objects)


def _keeps_objects(test: KnownBlockTest, counts: PoreCounts) -> bool:
    """Return whether small objects of the scan keep their contrast in the result.

    In scans with more than two phases, Otsu's threshold may be between any two of them,
    and the smoothed scan shows more objects at this threshold.
    """
    for one in test.both:
        if one.objects == counts.objects:
            seen = sum(each.seen for each in one.certain_objects)
            kept = sum(each.kept for each in one.certain_objects)
            return seen >= MIN_PORES and kept >= MIN_KEPT_SHARE * seen
    return False


def _hides_objects(test: KnownBlockTest, counts: PoreCounts) -> bool:
    """Return whether noise hides pores of all tested sizes in the scan itself.

    Most pores of the smoothed scan are then specks of noise. A model that shows fewer
    does not make the count worse than it is in the scan.
    """
    for one in test.both:
        if one.objects == counts.objects:
            seen = sum(each.seen for each in one.certain_objects)
            is_shown = bool(one.countable or one.shown) or seen >= MIN_PORES
            return bool(one.found) and not is_shown
    return False


def _shows_as_many(test: KnownBlockTest, counts: PoreCounts) -> bool:
    """Return whether the scan, apart from noise, has about as many pores as the result.

    In scans that do not show their pores, most of the counted objects are noise.
    """
    if counts.scan is None or counts.noisy is None:
        return False
    specks = max(0, counts.noisy - counts.smoothed)
    return counts.result <= DOUBTFUL_PORE_RATIO * (counts.scan - specks) and any(
        one.kept for one in test.both if one.objects == counts.objects
    )


def _lost_size(test: KnownBlockTest, counts: PoreCounts) -> int:
    """Return the size, in voxels, up to which pores of the scan are lost.

    The result is 0 if no pores are lost.
    """
    for one in test.both:
        if one.objects == counts.objects and one.is_from_scan:
            size = one.limit or 0
            return size if size >= counts.smallest else 0
    return 0


def _counts(counts: PoreCounts) -> str:
    return (
        f"{counts.result} in the examined part, where about {counts.expected:.0f} are "
        "expected"
    )


def lost_small_pores(name: str, test: KnownBlockTest) -> Iterator[str]:
    """Yield a sentence if small pores of the scan itself are lost."""
    for one in test.both:
        lost = [
            (size, *numbers)
            for size, numbers in one.kept.items()
            if size >= one.large and differ(*numbers)
        ]
        if lost:
            size, seen, kept = max(lost)
            yield (
                f"Small {one.objects} that this scan shows would be lost: of {seen} "
                f"with about {size} voxels in the examined part, {name} keeps {kept}. "
                f"Count {one.objects} of that size in the scan."
            )
            return
    faded = [(*one.faded, one.are_bright) for one in test.both if one.faded]
    if faded:
        # If objects fade, the gaps between them fade too: report only dark or bright
        # objects, whichever lost more.
        seen, kept, are_bright = max(faded, key=lambda one: one[0] - one[1])
        kind = "bright objects" if are_bright else "dark objects, such as pores,"
        yield (
            f"Small {kind} that this scan shows would fade: of {seen} in the examined "
            f"part, {_kept(kept)}. Count them in the scan."
        )


def partly_faded(test: KnownBlockTest | None) -> str:
    """Return a sentence if more than an eighth of the small objects fade; else "".

    If most of them fade, `lost_small_pores` reports it.
    """
    for one in () if test is None or any(o.faded for o in test.both) else test.both:
        objects = one.partly_faded
        if objects:
            kind = (
                "bright objects" if one.are_bright else "dark objects, such as pores,"
            )
            seen = sum(each.seen for each in objects)
            kept = sum(each.kept for each in objects)
            return (
                f"Some small {kind} would fade: of {seen} with about "
                f"{objects[0].voxels} to {objects[-1].voxels} voxels in the examined "
                f"part of the scan, {_kept(kept)}."
            )
    return ""


def doubtful_pores(name: str, test: KnownBlockTest) -> str:
    """Return a sentence if the number of pores may be wrong; else ""."""
    for counts in test.counts:
        if not (counts.is_known or test.is_separated):
            continue  # neither count is a count of pores
        if counts.is_lossy(LOSSY_PORE_RATIO):
            before, after = counts.tested
            return (
                f"{name} may lose {counts.objects}: in a test with noise like that of "
                f"this scan, it showed {after} instead of {before}. Check the count."
            )
        is_shown = counts.result > counts.expected and _shows_as_many(test, counts)
        is_doubtful = counts.is_off(DOUBTFUL_PORE_RATIO) and not is_shown
        is_stable = _is_stable(test, counts) and not counts.is_off(MAX_PORE_RATIO)
        if is_doubtful and not is_stable:
            return (
                f"{name} may change the number of {counts.objects}: "
                f"{_counts(counts)}. Check the count."
            )
    return ""


def _is_stable(test: KnownBlockTest, counts: PoreCounts) -> bool:
    """Return whether the count is stable and test pores of some size are found.

    A model that removes the test pores of all sizes may also remove the pores of the
    scan every time; in this case, a stable count may be wrong.
    """
    return counts.is_stable and not any(
        one.loses_all_sizes for one in test.both if one.objects == counts.objects
    )


def extra_pores(name: str, test: KnownBlockTest) -> str:
    """Return a sentence if the model invents small pores; else "".

    Lost pores cannot be evaluated, because the smoothed scan contains specks of the
    same size.
    """
    for counts, small in zip(test.counts, test.small_counts, strict=True):
        if not (small.is_known or test.is_separated):
            continue
        is_shown = _shows_as_many(test, small)
        is_extra = small.result > small.expected and not is_shown
        if is_extra and small.is_off(MAX_PORE_RATIO):
            if lost := _lost_size(test, small):
                return (
                    f"{name} may lose some small {small.objects} and invent "
                    f"others: it would show {small.result} of {small.smallest} voxels "
                    f"or more in the examined part. Count only {small.objects} of more "
                    f"than {max(lost, counts.smallest - 1)} voxels."
                )
            return (
                f"{name} may invent small {small.objects}: including those of "
                f"{small.smallest} to {counts.smallest - 1} voxels, it would show "
                f"{_counts(small)}. Count only larger {small.objects}."
            )
    return ""


def faded_structures(name: str, test: KnownBlockTest) -> Iterator[str]:
    """Yield a sentence if cracks, walls or fibres of the scan fade."""
    examples = ("dark structures, such as cracks,", "bright structures, such as walls,")
    for objects, thin in zip(examples, test.thin, strict=False):
        if thin.voxels and thin.kept < MIN_THIN_CONTRAST:
            kept = max(0, round(100 * thin.kept))
            yield (
                f"Thin {objects} would fade: {name} keeps about {kept} % of the "
                "contrast they have in this scan. Compare the result with the scan "
                "before you measure them."
            )


def _kept(number: int) -> str:
    """Return a clause on objects that keep their contrast."""
    if number == 1:
        return "1 keeps most of its contrast"
    return f"{number} keep most of their contrast"
