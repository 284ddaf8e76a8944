"""Numbers of voxels of a sample and of its pores."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass
class SampleCounts:
    """Numbers of voxels of the sample, its pores, and pores at shifted thresholds.

    Attributes
    ----------
    sample, pores : int
    at_low, at_high : int
        Pores at the shifted thresholds, below the blurred surface of the sample.
    inner, inner_pores : int
        Voxels, and pores, of the sample below its blurred surface.
    """

    sample: int = 0
    pores: int = 0
    at_low: int = 0
    at_high: int = 0
    inner: int = 0
    inner_pores: int = 0

    def __add__(self, other: SampleCounts) -> SampleCounts:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return SampleCounts(*(a + b for a, b in pairs))

    @property
    def at_limits(self) -> tuple[int, int]:
        """Numbers of pore voxels of the whole sample at the shifted thresholds.

        At another threshold, the mask would end elsewhere. Therefore, voxels of the
        blurred surface do not count as pores; the change below the surface is
        extrapolated to the whole sample.
        """
        scale = self.sample / max(1, self.inner)
        low, high = (
            self.pores + round(scale * (n - self.inner_pores))
            for n in (self.at_low, self.at_high)
        )
        return max(0, low), min(self.sample, high)
