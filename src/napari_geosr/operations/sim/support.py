"""Compares the frequencies in a reconstruction with those that it could contain."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.physics.illumination.otf import Otf

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float32]

#: Smallest amplitude that is shown, relative to the largest.
_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class FourierSupport:
    """Spectrum of a reconstructed plane, and its limiting frequencies.

    Attributes
    ----------
    spectrum : ndarray of shape (upscale_factor · Y, upscale_factor · X), float32
        Logarithm (base 10) of the amplitude; zero frequency at ``(rows // 2, columns
        // 2)``.
    widefield : float
        Cut-off frequency of the objective, in cycles per camera pixel.
    reconstruction : float
        Highest frequency that the patterns shift into the frames, in cycles per camera
        pixel; for widefield and for patterns given as images, the cut-off frequency of
        the objective.
    upscale_factor : int
    """

    spectrum: FloatArray = field(repr=False)
    widefield: float
    reconstruction: float
    upscale_factor: int

    def radii(self, frequency: float) -> tuple[float, float]:
        """Convert a frequency to pixels of the spectrum, along rows and columns."""
        rows, columns = (n / self.upscale_factor for n in self.spectrum.shape)
        return frequency * rows, frequency * columns


def fourier_support(
    image: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    upscale_factor: int,
    *,
    is_widefield: bool = False,
) -> FourierSupport:
    """Compute the spectrum of a reconstructed plane, and its limiting frequencies.

    Parameters
    ----------
    image : ndarray of shape (upscale_factor · Y, upscale_factor · X)
    patterns : PatternSet
    otf : Otf
    upscale_factor : int
    is_widefield : bool
        Whether the frames were only averaged.
    """
    from scipy import fft

    window = np.outer(*(np.hanning(n) for n in image.shape))
    values = (image - float(image.mean())) * window
    amplitude = np.abs(fft.fftshift(fft.fft2(values)))
    least = max(_FLOOR * float(amplitude.max()), float(np.finfo(np.float32).tiny))
    spectrum = np.log10(np.maximum(amplitude, least)).astype(np.float32)
    reach = 0.0 if is_widefield else highest_frequency(patterns)
    return FourierSupport(spectrum, otf.cut_off, otf.cut_off + reach, upscale_factor)


def highest_frequency(patterns: PatternSet) -> float:
    """Return the highest pattern frequency in cycles per pixel; 0 without fringes."""
    return max((f.harmonics * f.frequency for f in patterns.fringes), default=0.0)


def resolution_remark(patterns: PatternSet, otf: Otf, upscale_factor: int) -> str:
    """Return a sentence if the pixels of the result are too large for its detail.

    Parameters
    ----------
    patterns : PatternSet
    otf : Otf
    upscale_factor : int

    Returns
    -------
    str
        Empty if the pixels are small enough.
    """
    reach = otf.cut_off + max(
        (f.harmonics * max(map(abs, f.wave_vector)) for f in patterns.fringes),
        default=0.0,
    )
    if 2 * reach <= upscale_factor:
        return ""
    return (
        f"The frames contain detail with periods down to {1 / reach:.2g} camera "
        f"pixels, but the result's pixels can show only {2 / upscale_factor:.2g} or "
        f"more. Use --upscale-factor {math.ceil(2 * reach)}."
    )


def draw_circles(axes: Axes, widefield: float, reconstruction: float) -> None:
    """Draw both limiting frequencies as circles, on axes large enough to show them."""
    from matplotlib.patches import Circle

    reach = max(0.5, 1.05 * reconstruction)
    axes.set_facecolor("black")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(reach, -reach)
    for radius, style in ((widefield, "--"), (reconstruction, "-")):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="white", ls=style))
    axes.set_xlabel("cycles per camera pixel")
