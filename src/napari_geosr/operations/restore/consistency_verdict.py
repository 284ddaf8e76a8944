"""The verdict of a consistency check: one word and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from napari_geosr.measure.consistency import Consistency, Fault

#: Faults that mean that a result is wrong everywhere and must not be measured.
_FATAL: tuple[Fault, ...] = ("uniform", "shows too much", "shows too little", "excess")
#: Fraction of suspicious voxels above which the result is considered wrong everywhere.
_MANY_FLAGGED = 0.01


@dataclass(frozen=True)
class ConsistencyVerdict:
    """Result of a check: one word and one sentence.

    Attributes
    ----------
    level : str
        ``"ok"``; ``"caution"``: inspect the residual before relying on the result;
        ``"harmful"``: the result does not fit the scan and should not be measured.
    sentence : str
        The most important finding.
    """

    level: Literal["ok", "caution", "harmful"]
    sentence: str


def verdict_of(found: Consistency, voxels: int) -> ConsistencyVerdict:
    """Return the verdict, which depends on the most severe finding.

    Parameters
    ----------
    found : Consistency
    voxels : int
        Number of voxels of the scan.
    """
    fatal = next((fault for fault in found.faults if fault in _FATAL), None)
    if fatal is not None:
        return ConsistencyVerdict("harmful", f"{_WRONG[fatal]} Do not measure it.")
    share = found.flagged_voxels / max(1, voxels)
    if share > _MANY_FLAGGED:
        return ConsistencyVerdict(
            "harmful",
            f"In {100 * share:.1f} % of the volume, the result differs from the scan "
            "by more than noise explains. Do not measure it.",
        )
    if "places" in found.faults:
        n = len(found.places)
        where = "one region" if n == 1 else f"{n or 'some'} regions"
        return ConsistencyVerdict(
            "caution",
            f"The result fits the scan except in {where}: inspect the result there "
            "before you rely on it.",
        )
    if found.noise == 0:
        return ConsistencyVerdict(
            "caution",
            "The result is almost a copy of the scan, so there is nothing to check.",
        )
    for fault, text in _DOUBTFUL.items():
        if fault in found.faults:
            return ConsistencyVerdict("caution", text)
    return ConsistencyVerdict(
        "ok", "The result fits the scan: what was removed looks like noise."
    )


_WRONG: dict[Fault, str] = {
    "uniform": "The result does not fit the scan: it is uniform.",
    "shows too much": "The result does not fit the scan: it shows structure or "
    "contrast that the scan does not have.",
    "shows too little": "The result does not fit the scan: structure or contrast of "
    "the scan is missing.",
    "excess": "The result does not fit the scan: structure was added or is missing "
    "throughout the volume.",
}
_DOUBTFUL: dict[Fault, str] = {
    "structure": "The result roughly fits the scan, but not only noise was changed: "
    "inspect the residual before you rely on the result.",
    "large": "The result roughly fits the scan, but differs from it by more than "
    "noise: inspect the residual before you rely on the result.",
}
