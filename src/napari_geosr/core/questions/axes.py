"""The question of whether an unnamed axis of a file or an array is depth or time."""

from __future__ import annotations

from dataclasses import dataclass

#: Key of an `UnnamedAxis` in the metadata of volumes.
UNNAMED_AXIS = "unnamed_axis"
#: Metadata key of the axes given by the user, in the order of the file.
AXES_GIVEN = "axes_given"


@dataclass(frozen=True)
class UnnamedAxis:
    """An axis that was assumed to be Z although the file or the user did not name it.

    Attributes
    ----------
    stored : str
        The axes in the order of the file, ``"ZYX"`` for a stack of pages.
    interval : float or None
        Seconds between planes, if the file states them.
    in_file : bool
        False for an array passed in Python without ``axes``.
    """

    stored: str
    interval: float | None = None
    in_file: bool = True


@dataclass(frozen=True)
class TimeSeriesQuestion:
    """Planes that were read as slices (Z) but look like frames of a time series.

    Attributes
    ----------
    n_planes : int
        Length of the axis.
    axes : str
        The stored axes with T in place of Z, in the form required by ``--axes``.
    reasons : tuple of str
        Evidence for a time series.
    certain : bool
        True if treating the frames as depth would most likely be wrong; False if the
        user should check.
    in_file : bool
        False if the planes were passed as an array in Python.
    """

    n_planes: int
    axes: str
    reasons: tuple[str, ...]
    certain: bool = False
    in_file: bool = True

    @property
    def reason(self) -> str:
        """The reasons in one phrase."""
        return "; ".join(self.reasons)

    @property
    def as_depth(self) -> str:
        """The stored axes with T replaced by Z, in the form required by ``--axes``."""
        return self.axes.replace("T", "Z")

    def __str__(self) -> str:
        verb = "look like" if self.certain else "may be"
        text = (
            f"its {self.n_planes} planes {verb} frames of a time series "
            f"({self.reason}), but "
        )
        if not self.in_file:
            return (
                f"{text}the axes are not given, so they are treated as slices (Z). "
                f"Pass axes='{self.axes}' if they are frames, axes='{self.as_depth}' "
                "if they are slices."
            )
        return (
            f"{text}the file does not state this, so they are treated as slices (Z). "
            f"Give --axes {self.axes} if they are frames, --axes {self.as_depth} if "
            "they are slices."
        )
