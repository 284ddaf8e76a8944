"""Properties of the microscope that determine its resolution."""

from __future__ import annotations

from dataclasses import dataclass

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.units import PIXEL, convert_length

#: Maximum of the resolution limit of the objective, λ/(2 NA), in pixels; if it is
#: exceeded, the pixel size probably has the wrong unit.
_MAX_PIXELS = 50
#: Minimum of the resolution limit of the objective, in pixels.
_MIN_PIXELS = 0.25


@dataclass(frozen=True)
class Optics:
    """Properties of the microscope that determine its resolution.

    Attributes
    ----------
    numerical_aperture : float or None
    wavelengths : tuple of float
        Emission wavelength of each channel in nm; a single value applies to all.
    refractive_index : float
        Refractive index of the immersion medium.
    """

    numerical_aperture: float | None = None
    wavelengths: tuple[float, ...] = ()
    refractive_index: float = 1.515

    def __post_init__(self) -> None:
        aperture, index = self.numerical_aperture, self.refractive_index
        if aperture is not None and aperture > index:
            raise ConfigError(
                f"The numerical aperture {aperture:g} exceeds the refractive index "
                f"{index:g}, which is impossible. Correct one of them (--na, --index)."
            )

    def wavelength(self, channel: int = 0) -> float | None:
        """Return the emission wavelength of a channel in nm; None if unknown."""
        if len(self.wavelengths) <= 1:
            return next(iter(self.wavelengths), None)
        if channel >= len(self.wavelengths):
            raise ConfigError(
                f"Channel {channel} has no wavelength: {len(self.wavelengths)} are "
                "given. Give one for each channel, or one for all (--wavelength)."
            )
        return self.wavelengths[channel]

    def cut_off(self, pixel_size: float, unit: str, channel: int = 0) -> float | None:
        """Return the highest frequency that the optics transmit, in cycles per pixel.

        Parameters
        ----------
        pixel_size : float
            Edge length of a camera pixel in the sample, in `unit`.
        unit : str

        Returns
        -------
        float or None
            None if numerical aperture, wavelength or pixel size is unknown.

        Raises
        ------
        ConfigError
            If pixel size and wavelength cannot both be right.
        """
        wavelength = self.wavelength(channel)
        if self.numerical_aperture is None or wavelength is None or unit == PIXEL:
            return None
        half_period = wavelength / (2 * self.numerical_aperture)
        pixel = convert_length(pixel_size, unit, "nm")
        if not pixel * _MIN_PIXELS < half_period < pixel * _MAX_PIXELS:
            raise ConfigError(
                f"A pixel of {pixel_size:g} {unit} cannot be right: the resolution of "
                f"the objective, λ/(2 NA) = {half_period:.4g} nm, would be "
                f"{half_period / pixel:.3g} pixels. Check the unit of the pixel size "
                "(--pixel) and the wavelength (--wavelength)."
            )
        return pixel / half_period
