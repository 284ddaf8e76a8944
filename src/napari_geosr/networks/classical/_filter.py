"""Base of classical filters: axes, strength and noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import nn

from napari_geosr.core.config import Config
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise


class FilterConfig(Config):
    """Axes and strength of a filter; each filter defines what its strength means."""

    ndim: Literal[2, 3] = 2
    """Number of spatial axes: planes (2) or volumes (3)."""
    strength: float = Field(1.0, ge=0)
    """Strength of the filter; 0 changes nothing."""


class Filter(nn.Module):
    """A filter that has no weights and may need the noise level.

    Parameters
    ----------
    config : FilterConfig
    reach : int
        Radius of the receptive field along every axis, in voxels.

    Attributes
    ----------
    needs_noise : bool
        Whether `set_noise` must be called before the filter is applied to a scan.
    level : float
        Standard deviation of the noise in the units of the input; 1 until it is set.
    between_strips : callable or None
        Called every few milliseconds; may raise to stop the computation.
    """

    needs_noise = False

    def __init__(self, config: FilterConfig, reach: int) -> None:
        super().__init__()
        n = config.ndim
        self.config = config
        self.level = 1.0
        self.between_strips: Callable[[], None] | None = None
        self.spec = NetworkSpec(
            axes="ZYX"[-n:], halo=(reach,) * n, stride=(1,) * n, upscale_factor=(1,) * n
        )

    def set_noise(self, noise: Noise) -> None:
        """Set the noise of a scan, in the units of the filter's input."""
        self.level = noise.level

    def pause(self) -> None:
        """Call `between_strips`, which may cancel the run."""
        if self.between_strips is not None:
            self.between_strips()
