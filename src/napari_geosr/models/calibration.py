"""How far a model's standard deviations reach: measured where the truth is known."""

from __future__ import annotations

from pydantic import Field

from napari_geosr.core.config import Config


class SpreadCalibration(Config):
    """How many standard deviations a band of the porosity needs.

    For each of a number of simulated scans, the smallest factor was found with which
    the band holds the known porosity; `factor` is their quantile of split conformal
    prediction [1]_: of another scan *of the same kind* the band holds the porosity with
    at least the nominal probability.

    References
    ----------
    .. [1] Lei et al. Distribution-free predictive inference for regression. J. Am.
       Stat. Assoc. 113, 1094-1111 (2018). doi:10.1080/01621459.2017.1307116
    """

    kind: str = "tta"
    """Of members that the standard deviation is taken over."""
    members: int = Field(8, ge=2)
    """How many they were."""
    factor: float = Field(gt=0)
    """Standard deviations that the band reaches to either side."""
    nominal: float = Field(0.9, gt=0, lt=1)
    """Share of scans whose porosity the band holds."""
    scans: int = Field(ge=1)
    """Simulated scans that the factor comes from."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Checksum of the weights that it was measured with."""
    description: str = ""
    """Which scans, in plain words."""
