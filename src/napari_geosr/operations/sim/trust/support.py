"""Compare reconstructions with what the frames can contain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.operations.sim.config import METHOD_TITLES
from napari_geosr.operations.sim.estimate import PatternEstimate
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float32]

#: Smallest amplitude that is shown, relative to the largest.
_FLOOR = 1e-6
#: Smallest reported difference of a result from the frames, in units of the noise.
MAX_DIFFERENCE = 3.0
#: Smallest reported difference, as a fraction of the contrast.
_MIN_SHARE = 0.05


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


def compare_answers(
    answers: Mapping[str, FloatArray], estimate: PatternEstimate
) -> tuple[str, ...]:
    """Warn if the result of a method for a plane contradicts the frames.

    Each result is blurred by the objective, sampled by the camera and scaled; it should
    then agree with the mean of the frames to within the noise.

    Parameters
    ----------
    answers : mapping of str to ndarray of shape (upscale_factor · Y, …)
        Results of one plane by method; all but widefield are compared.
    estimate : PatternEstimate
        Estimate with the frames of this plane in `block`.

    Returns
    -------
    tuple of str
        One sentence for each method that differs.
    """
    import torch

    mean = estimate.block.mean(axis=(0, 1))
    n_frames = estimate.block.shape[0] * estimate.block.shape[1]
    sigma = np.sqrt(estimate.noise.weights(mean) / n_frames)
    uniform = PatternSet(
        (), estimate.patterns.shape, images=np.ones((1, *mean.shape), np.float32)
    )
    border = max(2, round(2 / estimate.otf.cut_off))
    inner = (slice(border, -border), slice(border, -border))
    contrast = float(mean[inner].std())
    found = []
    for method, answer in answers.items():
        if method == "widefield":
            continue
        factor = answer.shape[0] // mean.shape[0]
        operator = IlluminationOperator.create(uniform, estimate.otf, factor)
        rows, columns = operator.grid.inside_fine
        pads = [
            (part.start, n - part.stop)
            for part, n in zip((rows, columns), operator.grid.fine, strict=True)
        ]
        image = torch.from_numpy(np.pad(answer, pads, mode="edge"))
        seen = operator.forward(image)[0].numpy()[inner]
        slope, start = np.polyfit(seen.ravel(), mean[inner].ravel(), 1)
        difference = slope * seen + start - mean[inner]
        rms = float(np.sqrt(np.square(difference / sigma[inner]).mean()))
        share = float(difference.std()) / contrast if contrast else 0.0
        if rms > MAX_DIFFERENCE and share > _MIN_SHARE:
            found.append(
                f"{METHOD_TITLES.get(method, method)} differs from the mean of the "
                f"frames by {rms:.1f} times the noise ({100 * share:.0f} % of the "
                "contrast): do not trust detail that only this method shows."
            )
    return tuple(found)
