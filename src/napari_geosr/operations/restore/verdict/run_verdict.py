"""The prediction for a run: its level, sentences and measured values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from napari_geosr.core.noise import Noise
from napari_geosr.core.types import AnyDict

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume

#: Minimum size of counted pores by default, in voxels of a 3D volume.
DEFAULT_MIN_VOXELS = 8
#: Key of the largest size, in voxels, of test pores that the model lost.
LOST_SIZE = "largest_lost_voxels"
#: Key of the largest size, in voxels, of lost pores that can be counted in the scan.
LOST_FROM_SCAN = "largest_lost_from_scan_voxels"
#: Key that is present if more than an eighth of the small objects of at least one size
#: fade.
PARTLY_FADED = "small_objects_fade"
#: Key of the default minimum size of counted pores, in voxels (images: pixels).
COUNTED_SIZE = "smallest_counted_voxels"
Level = Literal["ok", "caution", "harmful"]
#: The levels of a verdict and of a finding, in ascending order of severity.
SEVERITY: dict[Level, int] = {"ok": 0, "caution": 1, "harmful": 2}
#: Topic of a finding: the expected gain, certain or doubtful; a change of a scan
#: without noise; the porosity; the number of pores, or of small ones; small pores that
#: are only in the scan; thin structures that fade; structure in the removed part;
#: the noise; the similarity to the training data; the voxel size.
Cause = Literal[
    "none",
    "gain",
    "doubtful gain",
    "porosity",
    "change",
    "pores",
    "small pores",
    "lost pores",
    "thin structures",
    "structure",
    "noise",
    "training data",
    "voxel size",
]


#: Causes of findings about the number of pores.
COUNTING: tuple[Cause, ...] = ("pores", "small pores", "lost pores")


class CountLimit(NamedTuple):
    """Size up to which objects cannot be counted in the result.

    Attributes
    ----------
    objects : str
        ``"pores"``, or the objects that are counted instead.
    voxels : int
        Largest size, in voxels of the result (in images: pixels), that cannot be
        counted.
    sentence : str
    """

    objects: str
    voxels: int
    sentence: str


@dataclass(frozen=True)
class RunVerdict:
    """Predicted effect of a model on a scan.

    Attributes
    ----------
    level : str
        ``"ok"``; ``"caution"``: compare the result with the scan; ``"harmful"``: the
        result is expected to be worse than the scan.
    sentence : str
        The main finding, with its numbers and consequence.
    reasons : tuple of str
        Further sentences.
    noise : Noise or None
        Noise of the scan; None for labels, or if its measurement failed.
    gain : (float, float, float) or None
        Expected gain in dB, and its interval (about 90 %); None if it cannot be
        estimated (labels, no noise, scan too small).
    gain_over : str
        Baseline of the gain: ``"scan"`` is the unchanged scan; ``"cubic"``
        (super-resolution) is interpolation.
    figures : mapping of str to float
        The underlying numbers.
    removed : Volume or None
        Scan minus result in the requested region, at its position.
    causes : tuple of str
        Causes of `sentence` and `reasons`, without repetition.
    notes : tuple of str
        Sentences that did not influence `level`.
    limits : tuple of CountLimit
        Sizes up to which objects cannot be counted.
    counting : tuple of str
        The sentences of `reasons` that concern the number of pores.
    """

    level: Level
    sentence: str
    reasons: tuple[str, ...] = ()
    noise: Noise | None = None
    gain: tuple[float, float, float] | None = None
    gain_over: Literal["scan", "cubic"] = "scan"
    figures: Mapping[str, float] = field(default_factory=dict)
    removed: Volume | None = field(default=None, repr=False)
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    limits: tuple[CountLimit, ...] = ()
    counting: tuple[str, ...] = ()

    @property
    def is_harmful(self) -> bool:
        """Whether the result is expected to be worse than the scan."""
        return self.level == "harmful"

    @property
    def loses_pores(self) -> bool:
        """Whether small pores or grains that the scan shows will be lost."""
        return LOST_FROM_SCAN in self.figures

    @property
    def hides_pores(self) -> bool:
        """Whether some pores above the default minimum size cannot be counted."""
        smallest = self.figures.get(COUNTED_SIZE, DEFAULT_MIN_VOXELS)
        return self.figures.get(LOST_SIZE, 0) >= smallest

    @property
    def fades_objects(self) -> bool:
        """Whether more than an eighth of the small objects of any one size fade."""
        return PARTLY_FADED in self.figures

    @property
    def earns_tick(self) -> bool:
        """Whether only noise is removed, and pores can be counted in the result."""
        is_measured = self.noise is None or self.noise.is_measured
        says_limit = self.loses_pores or self.hides_pores or self.fades_objects
        return self.level == "ok" and is_measured and not says_limit

    @property
    def words(self) -> str:
        """All sentences as one text."""
        return " ".join((self.sentence, *self.reasons, *self.notes))

    def to_json_dict(self) -> AnyDict:
        """Return the values for records and ``--json``."""
        gain: AnyDict | None = None
        if self.gain is not None:
            low, high = self.gain[1:]
            # JSON cannot represent infinity.
            ends = [end if math.isfinite(end) else None for end in (low, high)]
            gain = {"db": self.gain[0], "interval_db": ends}
            gain["over"] = self.gain_over
        return {
            "level": self.level,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "causes": list(self.causes),
            "notes": list(self.notes),
            "noise": None if self.noise is None else self.noise.to_json_dict(),
            "expected_gain": gain,
            "figures": dict(self.figures),
            "limits": [limit._asdict() for limit in self.limits],
            "counting": list(self.counting),
        }
