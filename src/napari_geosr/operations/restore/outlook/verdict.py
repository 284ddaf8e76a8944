"""What is to be expected of a run, in one sentence with its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from napari_geosr.core.noise import Noise
from napari_geosr.core.types import AnyDict

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume

Level = Literal["ok", "caution", "harmful"]


@dataclass(frozen=True)
class Outlook:
    """What a model is expected to do to a scan, before it is run.

    Attributes
    ----------
    level : str
        ``"ok"``; ``"caution"``: compare the result with the scan; ``"harmful"``: the
        result is expected to be worse than the scan.
    sentence : str
        The most important thing, with its numbers and what follows from it.
    reasons : tuple of str
        Further sentences.
    noise : Noise or None
        Of the scan; None where it could not be measured.
    gain : (float, float, float) or None
        Expected gain in dB, and the ends of its interval of about 90 %; None where it
        cannot be estimated (labels, no noise, a scan that is too small).
    gain_over : str
        What it is a gain over: ``"scan"``, leaving the scan as it is, or of finer
        voxels ``"cubic"``, interpolation.
    figures : mapping of str to float
        The numbers behind it.
    removed : Volume or None
        Scan minus result of the region that was asked for, in its place.
    """

    level: Level
    sentence: str
    reasons: tuple[str, ...] = ()
    noise: Noise | None = None
    gain: tuple[float, float, float] | None = None
    gain_over: Literal["scan", "cubic"] = "scan"
    figures: Mapping[str, float] = field(default_factory=dict)
    removed: Volume | None = field(default=None, repr=False)

    @property
    def is_harmful(self) -> bool:
        """Whether the result is expected to be worse than the scan."""
        return self.level == "harmful"

    @property
    def words(self) -> str:
        """All sentences."""
        return " ".join((self.sentence, *self.reasons))

    def to_json_dict(self) -> AnyDict:
        """For records and ``--json``."""
        gain: AnyDict | None = None
        if self.gain is not None:
            low, high = self.gain[1:]
            # JSON has no infinity.
            ends = [end if math.isfinite(end) else None for end in (low, high)]
            gain = {"db": self.gain[0], "interval_db": ends}
            gain["over"] = self.gain_over
        return {
            "level": self.level,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "noise": None if self.noise is None else self.noise.to_json_dict(),
            "expected_gain": gain,
            "figures": dict(self.figures),
        }
