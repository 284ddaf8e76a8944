"""Result of testing a super-resolution model on a scan."""

from __future__ import annotations

from dataclasses import dataclass

from napari_geosr.core.text.vocabulary import SharpnessChoice
from napari_geosr.core.types import AnyDict
from napari_geosr.measure.number_text import signed_text

#: Expected gain, in dB, below which the model may be no better than interpolation. The
#: estimate scatters by 2 dB.
CLEAR_GAIN = 1.0
#: Difference in porosity between the model and cubic interpolation above which the
#: porosity is uncertain. In scans of real volumes with known porosity, the difference
#: is below 0.01 unless one of the two is wrong.
_MAX_POROSITY_DIFFERENCE = 0.015
#: Interpolation with which all models are compared.
BASELINE = "cubic"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


@dataclass(frozen=True)
class UpscalingVerdict:
    """Expected performance of a super-resolution model on a scan.

    Attributes
    ----------
    gain : float
        Expected gain over cubic interpolation, in dB.
    interval : (float, float)
        Confidence interval of the gain (about 90 %).
    excess : float
        Excess sharpness of the model's result over the scan: the standard deviation, in
        voxels of the scan, of the blur between the two.
    trained_blur : (float, float) or None
        Smallest and largest blur of the model's training scans, in voxels of these
        scans.
    parts : int
        Number of parts of the scan that were evaluated, each at two scales.
    errors : (float, float) or None
        Expected root-mean-square errors of the model and of cubic interpolation, in
        grey values of the scan.
    sharpness : str
        Sharpness with which the model was tested, as in the settings of a restoration.
    interpolation : str
        Name of the model if it only interpolates; otherwise empty.
    is_as_object : bool
        Whether the tested results were as sharp as the model predicts the object to be,
        rather than only as sharp as the scan.
    porosities : (float, float) or None
        Fraction of dark voxels (Otsu's threshold) in parts of the scan: in the result
        of the model, and after cubic interpolation. None if the parts do not consist of
        dark and bright voxels.
    """

    gain: float
    interval: tuple[float, float]
    excess: float
    trained_blur: tuple[float, float] | None
    parts: int
    errors: tuple[float, float] | None = None
    sharpness: SharpnessChoice = "scan"
    interpolation: str = ""
    is_as_object: bool = False
    porosities: tuple[float, float] | None = None

    @property
    def porosity_sentence(self) -> str:
        """Difference in porosity from cubic interpolation; "" if it is small."""
        if self.porosities is None or self.interpolation:
            return ""
        model, cubic = self.porosities
        if abs(model - cubic) <= _MAX_POROSITY_DIFFERENCE:
            return ""
        return (
            "The porosity depends on the method: with Otsu's threshold, the tested "
            f"parts of the scan have a porosity of {_percent(model)} in the result of "
            f"the model, and of {_percent(cubic)} after cubic interpolation. Do not "
            "measure porosity unless you know which is right."
        )

    @property
    def is_doubtful(self) -> bool:
        """Whether interpolation is expected to perform better."""
        return self.gain < 0

    @property
    def is_uncertain(self) -> bool:
        """Whether the model may be no better than interpolation."""
        return self.gain < CLEAR_GAIN

    @property
    def sentence(self) -> str:
        """Main finding, for the user."""
        low, high = self.interval
        low_text, high_text = signed_text(low, 1), signed_text(high, 1)
        figures = f"{signed_text(self.gain, 1)} dB ({low_text} to {high_text})"
        if self.interpolation and self.is_doubtful:
            text = (
                f"{self.interpolation} amplifies the noise of the scan: the expected "
                f"difference from cubic interpolation is {figures}. Use cubic "
                "interpolation."
            )
        elif self.is_doubtful:
            text = (
                f"Cubic interpolation is expected to be closer to the sample than this "
                f"model: {figures} on parts of the scan itself. Choose interpolation."
            )
        elif self.is_uncertain:
            text = (
                f"This model may be no better than cubic interpolation: {figures} on "
                "parts of the scan itself."
            )
        else:
            text = (
                f"The expected gain over cubic interpolation is {figures}, measured on "
                "parts of the scan itself."
            )
        return text + self._blur_sentence()

    def _blur_sentence(self) -> str:
        """Describe a difference in sharpness from the training scans, if any."""
        blur, excess = self.trained_blur, f"{self.excess:.1f}"
        if blur is None or blur[0] - 0.1 <= self.excess <= blur[1] + 0.1:
            return ""
        if float(excess) == 0:  # an excess of 0 says little about the scan
            return ""
        what = "softer" if self.excess > blur[1] else "sharper"
        return (
            f" The scan is {what} than the scans that the model was trained on: its "
            f"blur is about {excess} voxels (standard deviation), compared with "
            f"{blur[0]:g} to {blur[1]:g} voxels for the training scans."
        )

    def to_json_dict(self) -> AnyDict:
        """Return the values for records and ``--json``."""
        return {
            "expected_gain_over_cubic_db": self.gain,
            "interval_db": list(self.interval),
            "excess_sharpness": self.excess,
            "as_sharp_as": "object" if self.is_as_object else "scan",
            "trained_blur": None
            if self.trained_blur is None
            else list(self.trained_blur),
            "parts": self.parts,
            "porosity": None if self.porosities is None else self.porosities[0],
            "porosity_cubic": None if self.porosities is None else self.porosities[1],
            "doubtful": self.is_doubtful,
            "sentence": self.sentence,
        }
