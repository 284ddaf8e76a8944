"""Entries and layers that the menus of the Porosity dock offer or propose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_geosr.core.text.flat import flat_words
from napari_geosr.gui.kit.widgets import text_label
from napari_geosr.gui.layers import holds_deviations, is_helper
from napari_geosr.gui.layers.geometry import layer_type

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_geosr.gui.layers.combo import LayerCombo
    from napari_geosr.operations.measure.automatic_sample import AutomaticSample

#: Threshold rules by menu entry, as named in settings; None for a manual threshold.
METHODS: dict[str, str | None] = {
    "Otsu": "otsu",
    "Multi-Otsu": "multi-otsu",
    "Li": "li",
    "Triangle": "triangle",
    "Manual": None,
}
WHOLE, AUTOMATIC = "whole volume", "automatic mask"
#: First entry of the menus for the second image and for the uncertainty.
NONE = "none"
#: Sample masks by menu entry, as named in settings.
MASKS = {
    WHOLE: "none",
    AUTOMATIC: "auto",
    "cortex of a bone": "cortex",
    "marrow space of a bone": "marrow",
}
#: Suffixes of the names of layers and files that hold standard deviations.
_DEVIATIONS = ("(std)", "_std")
_SURROUNDED = "The background around the sample is not counted."
_SURROUNDED_HELP = (
    "Background reaches the faces of the volume, so pores are counted inside an "
    f"automatic sample mask. Choose “{WHOLE}” to count everything."
)
_DECIDED = (_SURROUNDED, _SURROUNDED_HELP)
_BRIGHT = "Bright regions at the faces are counted as pores."
_BRIGHT_HELP = (
    "Bright regions reach the faces of the volume. If they are the material, set "
    "“Pores are” to “dark”. If they are background around a dark sample, draw the "
    "sample in a Labels or Shapes layer and choose that layer here."
)
_OPEN = "Dark space at the faces is counted as pores."
_OPEN_HELP = (
    "Empty space reaches the faces of the volume. It may be air, or pore space cut by "
    "the border of the volume, such as the marrow cavity. An automatic mask would "
    "exclude open pores too, so everything is counted. If it is air, draw the sample "
    "in a Labels or Shapes layer and choose that layer here."
)
#: Texts and tool tips if the mask is refused, by the phase of the pores.
_REFUSED = {"dark": (_OPEN, _OPEN_HELP), "bright": (_BRIGHT, _BRIGHT_HELP)}


def is_deviation(layer: Layer) -> bool:
    """Whether `layer` may hold standard deviations, judging by its record or name."""
    if layer_type(layer) != "image" or getattr(layer, "rgb", False):
        return False
    named = layer.name.endswith(_DEVIATIONS)
    return holds_deviations(layer) or (named and not is_helper(layer))


def finds_mask(sample: LayerCombo) -> bool:
    """Whether the chosen sample mask is determined from the grey values."""
    return MASKS.get(sample.fixed_entry() or WHOLE, "none") != "none"


class SampleProposal(QObject):
    """Chooses the automatic mask, unless the user has made a choice.

    Parameters
    ----------
    sample : LayerCombo
        The menu of samples.
    parent : QObject

    Attributes
    ----------
    note : QLabel
        States why the mask was chosen or refused; hidden if neither is the case.
    phase : str
        Phase of the pores for which the proposal was made.
    is_active : bool
        Whether the automatic mask is chosen because it was proposed.
    is_wanted : bool
        Whether the mask must be computed before it can be proposed.
    """

    def __init__(self, sample: LayerCombo, parent: QObject) -> None:
        super().__init__(parent)
        self._sample = sample
        self._by_hand = self._refused = self._is_flat = False
        self.phase = "dark"
        self.is_active = self.is_wanted = False
        self.note = text_label("About the sample", _SURROUNDED_HELP, _SURROUNDED)
        self.note.setVisible(False)
        sample.activated.connect(self._on_choice)

    def set_flat(self, flat: bool) -> None:
        """Set whether the sample belongs to a single image, not to a volume."""
        self._is_flat = flat
        self._sample.set_text(WHOLE, flat_words(WHOLE, flat=flat))

    def consider(self, surrounded: bool, phase: str) -> None:
        """Request the mask, or withdraw it if no background surrounds the sample.

        Parameters
        ----------
        surrounded : bool
        phase : str
            Phase of the pores. If it has changed, earlier automatic decisions no
            longer apply.
        """
        if phase != self.phase:
            self.phase, self._refused = phase, False
            self._withdraw()
        if self._by_hand or self._refused:
            return
        chosen = self._sample.fixed_entry()
        self.is_active &= chosen == AUTOMATIC  # False if the user chose another entry
        self.is_wanted = surrounded and chosen == WHOLE
        if self.is_active and not surrounded:
            self._sample.set_layer(None)
            self.is_active = False
        self.note.setVisible(self.is_active)

    def decide(self, found: AutomaticSample | None) -> None:
        """Choose the mask, unless it cuts through the sample.

        Parameters
        ----------
        found : AutomaticSample or None
            The mask; None if the volume is too large for the mask to be computed now.
        """
        is_wanted, self.is_wanted = self.is_wanted, False
        if not is_wanted or self._sample.fixed_entry() != WHOLE:
            return  # another sample was chosen meanwhile
        fit = None if found is None else found.fit
        self._refused = fit is not None and fit.cuts
        self.is_active = not self._refused
        refused = _REFUSED[self.phase]
        text, tip = refused if self._refused else _DECIDED
        self.note.setText(flat_words(text, flat=self._is_flat))
        self.note.setToolTip(flat_words(tip, flat=self._is_flat))
        self.note.setVisible(True)
        if self.is_active:
            self._sample.setCurrentText(AUTOMATIC)

    def restart(self) -> None:
        """Discard the proposal and the choice made for another image."""
        self._by_hand = self._refused = self.is_wanted = False
        self._withdraw()

    def _withdraw(self) -> None:
        """Choose the whole volume if the mask was chosen because it was proposed."""
        if self.is_active:
            self.is_active = False
            self._sample.set_layer(None)
        self.note.setVisible(False)

    def _on_choice(self, _index: int) -> None:
        self._by_hand, self.is_active, self.is_wanted = True, False, False
        self.note.setVisible(False)
