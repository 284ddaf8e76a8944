"""Lowers the strength of a network where this costs almost nothing.

If the noise is weak, fine texture makes it seem stronger than it is: for example, 2.6 %
are measured on bone with 2 % noise. A network that assumes too much noise removes
texture. If the expected gain is small, the lowest strength with almost the same
expected gain is therefore used.
"""

from __future__ import annotations

from dataclasses import replace

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.noise import Noise
from napari_geosr.operations.restore.ranking.pore_tests import (
    CANCELLED,
    LOWER_STRENGTHS,
    PoreTests,
)
from napari_geosr.operations.restore.ranking.result import (
    GENTLER_LOSS,
    SMALL_GAIN,
    RankingEntry,
    decide,
)


def with_gentler_strength(
    rows: list[RankingEntry], noise: Noise, tests: PoreTests
) -> list[RankingEntry]:
    """Replace the chosen network by the same one at a lower strength, if that is safe.

    The network keeps its strength if its gain is not small, if the lower strength would
    change the number of pores, or if another candidate would then be chosen.

    Parameters
    ----------
    rows : list of RankingEntry
        Rows in ascending order of expected error; one is that of the unchanged scan.
    noise : Noise
        Noise of the scan.
    tests : PoreTests
        Tests and other strengths of candidates.

    Raises
    ------
    Cancelled
        If the user stops the comparison.
    """
    choice, _ = decide(rows, noise)
    row = next(row for row in rows if row.name == choice)
    if row.gain >= SMALL_GAIN or not tests.has_lower_strengths(row):
        return rows
    assert tests.at_strength is not None
    found = row
    try:
        for strength in LOWER_STRENGTHS:
            trial = tests.at_strength(row, strength)
            if trial.gain < row.gain - GENTLER_LOSS or tests.wrong_pores(trial):
                break
            found = replace(trial, is_gentler=True)
    except Cancelled:
        raise Cancelled(CANCELLED) from None
    except GeoSRError:  # strength 1 has already been tested
        return rows
    changed = [found if each is row else each for each in rows]
    changed.sort(key=lambda each: each.error)
    return changed if decide(changed, noise)[0] == choice else rows
