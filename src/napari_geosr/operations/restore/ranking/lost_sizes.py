"""Reports a model that loses pores of all tested sizes, and names another model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_geosr.core.errors import Cancelled, GeoSRError

if TYPE_CHECKING:
    from napari_geosr.operations.restore.ranking.result import RankingEntry
    from napari_geosr.operations.restore.verdict.known_block_test import KnownBlockTest


def lost_sizes(
    rows: Sequence[RankingEntry],
    choice: str,
    test_of: Callable[[RankingEntry], KnownBlockTest | None],
    max_loss: float,
) -> tuple[str, str]:
    """Describe pores that the chosen model loses, and a model that keeps more of them.

    Other models are tested only if the chosen one loses pores of all tested sizes that
    the scan shows. The choice does not depend on these tests.

    Parameters
    ----------
    rows : sequence of RankingEntry
        Rows in ascending order of expected error.
    choice : str
        Name of the chosen row.
    test_of : callable
        Returns the test of a candidate on known blocks; None if untested.
    max_loss : float
        Maximum loss of gain, in dB, that is accepted for the other model.

    Returns
    -------
    lost, alternative : str
        Two sentences; empty if there is nothing to report.

    Raises
    ------
    Cancelled
        If `test_of` raises it.
    """
    best = next(row for row in rows if row.name == choice)
    lost = _losing_all(_tested(best, test_of))
    if lost is None:
        return "", ""
    text = (
        f"{choice} may lose {lost.objects} of all tested sizes (up to {lost.limit} "
        "voxels)."
    )
    for row in rows:
        loss = best.gain - row.gain
        if row.model is None or row is best or not 0 <= loss < max_loss:
            continue
        if not row.is_clearly_better:
            continue
        size = _smaller_limit(_tested(row, test_of), lost)
        if size is not None:
            kept = f"of more than {size} voxels" if size else "of all tested sizes"
            return text, (
                f"{row.label} is expected to gain {loss:.1f} dB less, but keeps "
                f"{lost.objects} {kept}."
            )
    return text, ""


def _tested(
    row: RankingEntry, test_of: Callable[[RankingEntry], KnownBlockTest | None]
) -> KnownBlockTest | None:
    if row.model is None:
        return None
    try:
        return test_of(row)
    except Cancelled:
        raise
    except GeoSRError:  # a run with this model would report the error
        return None


def _losing_all(test: KnownBlockTest | None) -> KnownBlockTest | None:
    """Return the test of the objects that are lost at all sizes, if the scan has any.

    Only sizes that the scan shows count: pores hidden by noise are lost by every model.
    """
    for one in () if test is None else test.both:
        is_removed = one.reason in ("removed", "removed and not separated")
        if one.found and one.loses_all_sizes and is_removed:
            return one
    return None


def _smaller_limit(test: KnownBlockTest | None, lost: KnownBlockTest) -> int | None:
    """Return the size up to which another model loses objects, if below that of `lost`.

    The size is 0 if the other model loses none of these objects.
    """
    for one in () if test is None else test.both:
        if one.objects == lost.objects and one.found and not one.is_inseparable:
            size = one.limit or 0
            return size if size < (lost.limit or 0) else None
    return None
