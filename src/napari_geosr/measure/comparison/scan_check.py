"""Consistency of a restored volume with its scan, for use in a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from napari_geosr.core.types import AnyDict
from napari_geosr.measure.number_text import number_text


@dataclass(frozen=True)
class ScanCheck:
    """Result of the consistency check of a restored volume and its scan.

    Attributes
    ----------
    scan : str
        Key of the scan.
    level : str
        ``"ok"``, ``"caution"`` or ``"harmful"``.
    sentence : str
        The most important finding.
    residual : float or None
        Root mean square of the residual in units of the noise: about 1 for a
        consistent result. None if the noise is zero.
    contrast : float or None
        Contrast of the scan relative to that of the result: about 1 for a consistent
        result. None if it cannot be determined.
    contrast_error : float or None
        Standard error of the contrast.
    regions : int
        Number of suspicious regions.
    """

    scan: str
    level: Literal["ok", "caution", "harmful"]
    sentence: str
    residual: float | None
    contrast: float | None
    contrast_error: float | None
    regions: int

    def to_json_dict(self) -> AnyDict:
        """Return the metrics as JSON-serialisable values."""
        return dict(vars(self))


def check_rows(
    checks: Mapping[str, ScanCheck],
) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the label, one text per volume and the explanation of each metric."""
    yield (
        "Consistency with the scan",
        {k: check.level for k, check in checks.items()},
        "ok: the restoration fits its scan; caution: look at the residual first; "
        "harmful: do not measure the restoration.",
    )
    yield (
        "Residual (noise: 1)",
        {
            k: number_text(check.residual)
            for k, check in checks.items()
            if check.residual is not None
        },
        "Root mean square of the scan minus the simulated scan of the restoration, in "
        "units of the noise.",
    )
    yield (
        "Contrast relative to the scan",
        {
            k: f"{check.contrast:.2f} ± {check.contrast_error or 0:.2g}"
            for k, check in checks.items()
            if check.contrast is not None
        },
        "Contrast of the scan divided by that of the restoration; expected: 1.",
    )
