"""Show each error below the setting or layer of the Porosity dock that it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from napari_geosr.gui.kit.form import (
    FieldFaults,
    show_in_fields,
    texts_by_field,
)
from napari_geosr.gui.kit.option_words import fields_of_options

if TYPE_CHECKING:
    from qtpy.QtWidgets import QComboBox, QFormLayout, QSpinBox, QWidget

    from napari_geosr.gui.kit.form import ConfigForm
    from napari_geosr.gui.layers.combo import LayerCombo


class FieldsOfSettings(Protocol):
    """The fields of the settings, from top to bottom."""

    rows_above: QFormLayout
    method: QComboBox
    form: ConfigForm
    rows_below: QFormLayout
    sample: LayerCombo
    other: LayerCombo
    deviation: LayerCombo
    closing: QSpinBox


class SettingsFaults:
    """Shows each error below its setting or layer, in the form that contains the row.

    Parameters
    ----------
    settings : FieldsOfSettings
        Fields whose changes clear the errors. Slots that may show new errors must
        therefore be connected to these fields after this object has been created.
    """

    def __init__(self, settings: FieldsOfSettings) -> None:
        self._form = settings.form
        above, below = (
            FieldFaults(rows) for rows in (settings.rows_above, settings.rows_below)
        )
        self._parts = above, below
        #: Rows and menu of each setting or layer, by its name in error messages.
        self._menus = {
            "threshold": (above, settings.method),
            "sample_mask": (below, settings.sample),
            "mask": (below, settings.sample),
            "reference": (below, settings.other),
            "deviation": (below, settings.deviation),
            "mask_closing": (below, settings.closing),
        }
        settings.method.currentIndexChanged.connect(self.clear)
        for layers in (settings.sample, settings.other, settings.deviation):
            layers.layerChanged.connect(self.clear)

    @property
    def texts(self) -> dict[str, str]:
        """Errors, keyed by the name of the setting or layer."""
        above, below = (part.texts for part in self._parts)
        return above | self._form.faults | below

    def show(self, error: Exception) -> list[QWidget]:
        """Show an error below the widgets that it concerns; return these widgets."""
        self.clear()
        shown = show_in_fields(error, (self._form,))
        for name, text in texts_by_field(error).items():
            if name in self._menus:
                part, menu = self._menus[name]
                part.add(name, menu, fields_of_options(text, (self._form,))[0])
                shown.append(menu)
        return shown

    def clear(self) -> None:
        """Remove all errors."""
        self._form.clear_faults()
        for part in self._parts:
            part.clear()
