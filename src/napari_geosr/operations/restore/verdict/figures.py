"""Collects the measured values on which a verdict is based, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_geosr.operations.restore.verdict.pore_findings import partly_faded
from napari_geosr.operations.restore.verdict.run_verdict import (
    COUNTED_SIZE,
    LOST_FROM_SCAN,
    LOST_SIZE,
    PARTLY_FADED,
)

if TYPE_CHECKING:
    from napari_geosr.operations.restore.verdict.known_block_test import KnownBlockTest
    from napari_geosr.operations.restore.verdict.rules import RunAssessment
    from napari_geosr.operations.restore.verdict.run_verdict import CountLimit


def figures_of(
    facts: RunAssessment, limits: tuple[CountLimit, ...]
) -> dict[str, float]:
    """Return the values for `RunVerdict.figures`."""
    removed, known_blocks = facts.removed, facts.known_blocks
    figures = {
        "noise": facts.noise.relative,
        "change": removed.change,
        "removed_over_noise": removed.level,
        "coarser_than_noise": removed.coarser,
        "follows_edges": removed.follows,
        "strongest": removed.strongest,
        "strongest_limit": removed.limit,
    }
    if facts.gain is not None:
        figures["expected_gain"] = facts.gain[0]
    if limits and known_blocks is None:
        figures[LOST_SIZE] = float(max(limit.voxels for limit in limits))
    if known_blocks is not None:
        figures |= dict(_of_known_blocks(known_blocks))
    if partly_faded(known_blocks):
        figures[PARTLY_FADED] = 1.0
    seen = known_blocks or facts.averaged
    if seen is not None:
        figures |= dict(_of_objects(seen))
    return figures


def _of_known_blocks(test: KnownBlockTest) -> Iterator[tuple[str, float]]:
    yield "simulated_gain", test.gain
    for end, counted in (
        ("", test.counts),
        ("_of_smallest_size", test.small_counts),
    ):
        # If most of the scan is dark, these are the counts of bright spots.
        counts = counted[-1]
        yield f"simulated_pores{end}", float(counts.simulated)
        yield f"simulated_true_pores{end}", float(counts.smoothed)
        yield f"shown_pores{end}", float(counts.result)
        yield f"expected_pores{end}", counts.expected
        if counts.repeated is not None:
            yield f"repeated_pores{end}", float(counts.repeated)
        if counts.noisy is not None and counts.scan is not None:
            yield f"simulated_scan_pores{end}", float(counts.noisy)
            yield f"scan_pores{end}", float(counts.scan)
    yield COUNTED_SIZE, float(test.small_counts[0].smallest)
    if test.limit is not None:
        yield LOST_SIZE, float(test.limit)
    lost = [one.lost_from_scan for one in test.both if one.lost_from_scan is not None]
    if lost:
        yield LOST_FROM_SCAN, float(max(lost))
    for size, share in test.found.items():
        yield f"found_of_{size}_voxels", share
    for size, (seen, kept) in test.kept.items():
        yield f"seen_of_{size}_voxels", float(seen)
        yield f"kept_of_{size}_voxels", float(kept)


def _of_objects(test: KnownBlockTest) -> Iterator[tuple[str, float]]:
    """Yield the values for the scan's own thin structures and small objects."""
    for grey, thin in zip(("dark", "bright"), test.thin, strict=False):
        yield f"thin_{grey}_voxels", float(thin.voxels)
        if thin.voxels:
            yield f"thin_{grey}_contrast_kept", thin.kept
    for one in test.both:
        grey = "bright" if one.are_bright else "dark"
        for each in one.objects_by_size:
            yield f"{grey}_objects_of_{each.voxels}_voxels", float(each.seen)
            yield f"{grey}_objects_kept_of_{each.voxels}_voxels", float(each.kept)
