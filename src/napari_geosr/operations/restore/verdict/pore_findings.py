"""Sentences about the number of pores in the result of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_geosr.operations.restore.verdict.pore_counts import (
    MAX_PORE_RATIO,
)

if TYPE_CHECKING:
    from napari_geosr.operations.restore.verdict.known_blocks import KnownBlockTest
    from napari_geosr.operations.restore.verdict.pore_counts import PoreCounts

#: Ratio of the two pore counts, in either direction, from which the count is doubtful.
DOUBTFUL_PORE_RATIO = 1.5
#: Ratio of the pores of a simulated scan to those in its result from which the count is
#: doubtful: more than a quarter are lost.
LOSSY_PORE_RATIO = 4 / 3


def wrong_pores(name: str, test: KnownBlockTest) -> str:
    """A sentence if a model invents or loses far too many pores; otherwise empty."""
    for counts in test.counts:
        if not (counts.is_known and counts.is_off(MAX_PORE_RATIO)):
            continue
        if counts.result < counts.expected and _shows_no_loss(test, counts):
            continue
        # If small ones are lost, the expected number lacks them as well.
        is_invented = counts.simulated > MAX_PORE_RATIO * counts.smoothed
        lost = 0 if is_invented else _lost_size(test, counts)
        if lost:
            return (
                f"The number of {counts.objects} in the result of {name} would be "
                f"wrong: it shows {counts.result} in the examined part, but loses "
                f"{counts.objects} of up to {lost} voxels. Do not count "
                f"{counts.objects} in its result."
            )
        more = "more" if counts.result > counts.expected else "fewer"
        return (
            f"{name} would show far {more} {counts.objects} than the sample has: "
            f"{_counts(counts)}. Do not count {counts.objects} in its result."
        )
    return ""


def _shows_no_loss(test: KnownBlockTest, counts: PoreCounts) -> bool:
    return any(
        one.shows_no_loss
        for one in (test, test.dark)
        if one is not None and one.objects == counts.objects
    )


def _lost_size(test: KnownBlockTest, counts: PoreCounts) -> int:
    """Size, in voxels, up to which counted pores are in the scan but not in the result.

    0 if there are none.
    """
    for one in (test, test.dark):
        if one is not None and one.objects == counts.objects and one.is_from_scan:
            size = one.limit or 0
            return size if size >= counts.smallest else 0
    return 0


def _counts(counts: PoreCounts) -> str:
    return (
        f"{counts.result} in the examined part, where about {counts.expected:.0f} are "
        "expected"
    )


def lost_small_pores(name: str, test: KnownBlockTest) -> Iterator[str]:
    """A sentence if small pores of the scan itself are lost."""
    for one in (test, test.dark):
        size = None if one is None else one.missing
        if one is None or size is None or size < one.large:
            continue
        seen, kept = one.kept[size]
        yield (
            f"Small {one.objects} that this scan shows would be lost: of {seen} with "
            f"about {size} voxels in the examined part, {name} keeps {kept}. Count "
            f"{one.objects} of that size in the scan."
        )


def doubtful_pores(name: str, test: KnownBlockTest) -> str:
    """A sentence if the number of pores may be wrong; otherwise empty."""
    for counts in test.counts:
        if not (counts.is_known or test.is_separated):
            continue  # neither shows pores
        if counts.is_lossy(LOSSY_PORE_RATIO):
            before, after = counts.tested
            return (
                f"{name} may lose {counts.objects}: in a test with noise like that of "
                f"this scan, it showed {after} instead of {before}. Check the count."
            )
        if counts.is_off(DOUBTFUL_PORE_RATIO) and not _is_stable(test, counts):
            return (
                f"{name} may change the number of {counts.objects}: "
                f"{_counts(counts)}. Check the count."
            )
    return ""


def _is_stable(test: KnownBlockTest, counts: PoreCounts) -> bool:
    """Whether the number is stable, and pores of at least one size are found.

    A model that loses all pores does so again, so their number does not change.
    """
    return counts.is_stable and not any(
        one.loses_all_sizes
        for one in (test, test.dark)
        if one is not None and one.objects == counts.objects
    )


def extra_pores(name: str, test: KnownBlockTest) -> str:
    """A sentence if small pores are invented.

    Lost pores cannot be evaluated, because the smoothed scan contains specks of the
    same size.
    """
    for counts, small in zip(test.counts, test.small_counts, strict=True):
        if not (small.is_known or test.is_separated):
            continue
        if small.result > small.expected and small.is_off(MAX_PORE_RATIO):
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
