"""Sentences and warnings about explanations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from napari_geosr.attribution import AttributionResult
from napari_geosr.attribution.evidence import PRIOR_SHARE

if TYPE_CHECKING:
    from napari_geosr.operations.explain.targets import (
        ExplainedRegion,
        Explanation,
        PoreRow,
    )


def sentence_of(
    target: ExplainedRegion, findings: Mapping[str, AttributionResult]
) -> str:
    """Summarise reach and evidence in a sentence.

    If reach was not measured, the sentence of the first finding is returned.
    """
    reach, evidence = findings.get("reach"), findings.get("evidence")
    if reach is None:
        return next(iter(findings.values())).sentence
    radius = reach.figures["radius"]["90%"]
    start = f"This {target.kind} does not depend on the scan"
    if radius is not None:
        start = (
            f"This {target.kind} depends on voxels within {radius:.3g} "
            f"{reach.figures['unit']} (90 % of the sensitivity)"
        )
    if evidence is None:
        return f"{start}."
    figures = evidence.figures
    end = {
        "well supported": "the model would not produce it if the scan showed solid in "
        "its place (well supported)",
        "weak": f"{100 * figures['remains']:.0f} % of its contrast would remain if the "
        "scan showed solid in its place, and it survives "
        f"{100 * figures['survival']:.0f} % of the tests with added noise (weak)",
        "prior only": "even if the scan showed solid in its place, the model would "
        f"still produce it, with {100 * figures['remains']:.0f} % of its contrast "
        "(prior only)",
    }[figures["verdict"]]
    if not figures["shown"] and figures["remains"] < PRIOR_SHARE:
        end = (
            "the scan does not show it: the contrast at its position is "
            f"{figures['support']:.1f} times the noise (prior only)"
        )
    return f"{start}; {end}."


def table_warnings(
    found: Sequence[Explanation], missing: Sequence[PoreRow]
) -> Iterator[str]:
    """Yield warnings about the pores of a table, combined for all pores concerned."""
    total = len(found) + len(missing)
    if missing:
        labels = ", ".join(str(row.label) for row in missing[:10])
        more = "" if len(missing) <= 10 else ", …"
        yield (
            f"{len(missing)} of {total} pores were not explained ({labels}"
            f"{more}): the result of this model has no such pore at that position."
        )
    holed = [each for each in found if each.n_missing]
    if holed:
        most = max(holed, key=lambda each: each.n_missing)
        yield (
            f"For {len(holed)} of {len(found)} pores, the input contains NaN or "
            f"infinite voxels (at most {most.n_missing:,} of {most.n_inputs:,} "
            "voxels). For these voxels, the network receives the replacement value "
            "(--nonfinite)."
        )
    noted = [each for each in found if each.notes]
    if noted:
        yield (
            f"Limitations apply to {len(noted)} of {len(found)} pores. The first: "
            f"{noted[0].notes[0]}"
        )
