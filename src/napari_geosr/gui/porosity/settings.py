"""The settings of the porosity dock: image, threshold, sample, minimum pore size."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QLocale, QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import ConfigError
from napari_geosr.gui.kit.fields import field_widget
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.plots.histogram import Bars, ThresholdView
from napari_geosr.gui.kit.widgets import ElidedLabel
from napari_geosr.gui.layers import (
    holds_deviations,
    is_measurable,
    provenance_of,
)
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.explained import source_of
from napari_geosr.gui.layers.questions.frames import FramesRow
from napari_geosr.gui.layers.questions.notes import NotesRow
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow
from napari_geosr.gui.porosity.choices import (
    MASKS,
    METHODS,
    NONE,
    WHOLE,
    SampleProposal,
    finds_mask,
    is_deviation,
)
from napari_geosr.gui.porosity.drawn_sample import marks_sample
from napari_geosr.gui.porosity.faults import SettingsFaults
from napari_geosr.gui.porosity.morphometry_box import SHOWN_ELSEWHERE, MorphometryBox
from napari_geosr.gui.porosity.rows import (
    SELDOM_CHANGED,
    add_physical_size,
    form_of,
    more_settings,
    show_element,
)
from napari_geosr.operations.measure import MeasureConfig, number_text
from napari_geosr.operations.measure.deviation import belongs_to
from napari_geosr.operations.measure.grey_levels import GreyLevels
from napari_geosr.operations.measure.pore_size import pore_size

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from napari_geosr.core.volume import Volume

NO_IMAGE = "Open an image to measure its pores."
READY = "Ready: press Measure."
UNUSABLE = "This image cannot be measured."
#: Largest grey value that can be entered. Its negative represents an unknown value.
_MAX_VALUE = 1e12


class PorositySettings(QWidget):
    """All settings of a measurement.

    Signals
    -------
    sourceChanged
        Another image was chosen.
    thresholdChanged
        The value, phase, mask or preview option was changed.
    """

    sourceChanged = Signal()
    thresholdChanged = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        #: Grey values that determine the threshold, and those of the whole image.
        self._levels: GreyLevels | None = None
        self._whole: GreyLevels | None = None
        self._volume: Volume | None = None
        self.image = LayerCombo(viewer, is_measurable)
        self.voxel_size = VoxelSizeRow(viewer)
        self.frames = FramesRow()
        self.notes = NotesRow(self.voxel_size, self.frames)
        self.method = QComboBox()
        self.method.addItems(list(METHODS))
        self.value = QDoubleSpinBox()
        self.value.setLocale(QLocale(QLocale.Language.C))
        self.value.setRange(-_MAX_VALUE, _MAX_VALUE)
        self.value.setSpecialValueText("–")  # shown at the minimum; see `_clear_value`
        self.value.setKeyboardTracking(False)
        self.value.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.value.setMinimumWidth(64)
        self.method.setMinimumWidth(64)
        self.histogram = ThresholdView()
        self.histogram.empty_text = "Reading grey values…"
        self.preview = QCheckBox("Show pores on the sli&ce")
        self.preview.setChecked(True)
        self.more, rows = more_settings()
        self.form = ConfigForm(
            MeasureConfig,
            skip=SHOWN_ELSEWHERE,
            elsewhere=dict.fromkeys(SELDOM_CHANGED, rows),
        )
        self.smallest = ElidedLabel("")
        add_physical_size(self.form, self.smallest)
        self.morphometry = MorphometryBox()
        self.sample = LayerCombo(viewer, marks_sample, fixed=tuple(MASKS))
        self.other = LayerCombo(viewer, self._can_compare, fixed=(NONE,))
        self.deviation = LayerCombo(viewer, is_deviation, fixed=(NONE,))
        self.proposal = SampleProposal(self.sample, self)
        closing = field_widget(MeasureConfig.model_fields["mask_closing"]).native
        assert isinstance(closing, QSpinBox)
        self.closing = closing
        self.closing.valueChanged.connect(lambda _number: show_element(self.closing))
        self._source: weakref.ref[Layer] | None = None  # the proposed reference
        self._describe()
        self._lay_out()
        self.faults = SettingsFaults(self)
        self.image.layerChanged.connect(self._on_image)
        self.method.currentTextChanged.connect(self._on_method)
        self.value.valueChanged.connect(self._on_value)
        self.histogram.thresholdMoved.connect(self.set_manual)
        self.preview.toggled.connect(lambda _: self.thresholdChanged.emit())
        self.form.changed.connect(self._on_form)
        self.sample.layerChanged.connect(self._on_sample)
        self.closing.valueChanged.connect(lambda _: self.thresholdChanged.emit())

    def _describe(self) -> None:
        for widget, name, tip in (
            (self.image, "Image", "Image or volume in which pores are measured."),
            (
                self.method,
                "Threshold method",
                "Method that finds the threshold between pore and solid from all "
                "grey values of the sample, or “Manual” to set it yourself.",
            ),
            (
                self.value,
                "Threshold value",
                "Grey value that separates pores from solid. Changing it switches to "
                "“Manual”.",
            ),
            (
                self.histogram,
                "Histogram of grey values",
                "Grey values of the image, on a square-root scale. Drag the line, or "
                "press ← or →, to move the threshold.",
            ),
            (
                self.preview,
                "Show pores on the slice",
                "Highlight the pores in the current slice, that is, everything below "
                "(or above) the threshold. Small pores are excluded only when "
                "measuring. With a local window or hysteresis, the pores of the whole "
                "volume are found first; this preview is available for volumes of up "
                "to 33 million voxels.",
            ),
            (
                self.sample,
                "Sample",
                "Sample region: everything, an automatic mask of the solid including "
                "its pores, the cortex or the marrow space of a bone along Z, a Labels "
                "layer (all labels except 0), or a Shapes layer (the union of "
                "its polygons, rectangles and ellipses, in all slices, time points and "
                "channels).",
            ),
            (
                self.other,
                "Compare with",
                "Second image to measure with the same settings, such as the scan "
                "before restoration. Its minimum pore size is the same in physical "
                "units.",
            ),
            (
                self.deviation,
                "Uncertainty",
                "Layer of standard deviations from a restoration for which the "
                "uncertainty was estimated. The porosity is then given with an "
                "interval. The layer that belongs to the image is selected "
                "automatically.",
            ),
            (
                self.closing,
                "Mask closing",
                "Openings of pores up to twice this width are closed, so that these "
                "pores count as part of the sample. Increase the width until the "
                "porosity no longer changes. For cortex and marrow: at least half the "
                "thickness of the trabeculae, and less than half of their spacing.",
            ),
            (
                self.smallest,
                "Minimum pore size",
                "Minimum pore size in physical units; smaller pores are not counted. Ø "
                "is the diameter of a sphere (in 2D, a circle) of that size.",
            ),
        ):
            widget.setAccessibleName(name)
            widget.setToolTip(tip)

    def _lay_out(self) -> None:
        for field in (self.method, self.value):
            field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        rows = (
            ("&Image", self.image, self.image),
            ("Th&reshold", self.method, self.method),
            ("Grey value", self.value, self.value),
        )
        top, bottom = (
            form_of(rows),
            form_of(
                (
                    ("&Sample", self.sample, self.sample),
                    ("Mask closing", self.closing, self.closing),
                    ("Comp&are with", self.other, self.other),
                    ("&Uncertainty", self.deviation, self.deviation),
                )
            ),
        )
        self.rows_above, self.rows_below = top, bottom
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(top)
        layout.insertWidget(1, self.notes)
        layout.insertWidget(2, self.voxel_size)
        layout.insertWidget(3, self.frames)
        layout.addWidget(self.histogram)
        layout.addWidget(self.preview)
        layout.addWidget(self.form)
        bottom.insertRow(1, "", self.proposal.note)
        self._show_closing()
        layout.addLayout(bottom)
        layout.addWidget(self.more)
        layout.addWidget(self.morphometry.section)
        layout.addStretch(1)

    def _can_compare(self, layer: Layer) -> bool:
        return is_measurable(layer) and bool(layer is not self.image.layer())

    def set_volume(self, volume: Volume | None) -> None:
        """Set the volume to which the settings apply; its grey values are set later."""
        self._volume, self._levels, self._whole = volume, None, None
        self.histogram.set_series((), "")
        self.histogram.set_threshold(None, dark=True)
        self.histogram.empty_text = (
            "Grey values appear here." if volume is None else "Reading grey values…"
        )
        if volume is not None:
            self._set_decimals(_decimals(volume))
            self._show_dimensions(flat=volume.spatial_shape[:-2] in ((), (1,)))
        self._clear_value()
        self._show_smallest()

    def _show_dimensions(self, *, flat: bool) -> None:
        """Use the words for a volume or for a single image."""
        self.proposal.set_flat(flat)
        for editor in (self.form.editor("min_voxels"), self.closing):
            assert isinstance(editor, QSpinBox)
            show_element(editor, flat=flat)

    def _clear_value(self) -> None:
        """Clear the threshold that an automatic method found for another image.

        A manual threshold is kept, because it is a setting.
        """
        if METHODS[self.method.currentText()] is not None:
            with QSignalBlocker(self.value):
                self.value.setValue(-_MAX_VALUE)
        self.value.setEnabled(False)

    @property
    def _is_value_known(self) -> bool:
        return bool(self.value.value() > -_MAX_VALUE)

    def set_levels(self, levels: GreyLevels) -> None:
        """Show the grey values and where the threshold lies among them."""
        self._levels = self._whole = levels
        self._draw_levels(levels)
        self.value.setEnabled(True)
        if not self._is_value_known:  # *Manual* was chosen before there was a value
            otsu = self.form.config(threshold="otsu")
            assert isinstance(otsu, MeasureConfig)
            with QSignalBlocker(self.value):
                self.value.setValue(levels.threshold(otsu))
        self._follow_rule()
        self._propose_sample(levels)

    def set_levels_inside(self, levels: GreyLevels | None) -> None:
        """Show the grey values inside the mask; with None, show all."""
        self._levels = levels or self._whole
        if self._levels is not None:
            self._draw_levels(self._levels)
            self._follow_rule()

    def _draw_levels(self, levels: GreyLevels) -> None:
        counts, edges = levels.bars()
        title = "grey value (some planes only)" if levels.sampled else "grey value"
        if levels.dtype.kind == "f":
            span = float(edges[-1] - edges[0])
            digits = max(0, 3 - math.floor(math.log10(span))) if span > 0 else 3
            self._set_decimals(min(digits, 9))
        self.histogram.set_series([Bars(counts, edges)], title)

    def _set_decimals(self, n: int) -> None:
        """Round the value for display; this does not count as user input."""
        with QSignalBlocker(self.value):
            self.value.setDecimals(n)

    def choose_deviation(self) -> None:
        """Choose the standard deviations of the image's own run, if available."""
        image = self.image.layer()
        mine = None
        if image is not None:
            made = provenance_of(image)
            known = (layer for layer in self._viewer.layers if holds_deviations(layer))
            mine = next((x for x in known if belongs_to(provenance_of(x), made)), None)
        self.deviation.set_layer(mine)

    def choose_source(self) -> None:
        """Choose a restored image's source as the reference, if available."""
        image = self.image.layer()
        source = None
        if image is not None and provenance_of(image):
            source = source_of(image, self._viewer)
        earlier = None if self._source is None else self._source()
        if source is not None and self._can_compare(source):
            self.other.set_layer(source)
            self._source = weakref.ref(source)
        elif earlier is not None and self.other.layer() is earlier:
            self.other.set_layer(None)
            self._source = None

    def _propose_sample(self, levels: GreyLevels) -> None:
        """Propose the automatic mask if background may surround the sample."""
        if self.threshold is not None:
            phase = self.form.values()["phase"]
            around = levels.surroundings.suggests_mask(self.threshold, phase)
            self.proposal.consider(around, phase)
            if self.proposal.is_wanted:
                self.thresholdChanged.emit()

    def _on_sample(self) -> None:
        self._show_closing()
        self.thresholdChanged.emit()

    def _show_closing(self) -> None:
        """Show the setting for morphological closing only for masks that use it."""
        for part in (self.closing, self.rows_below.labelForField(self.closing)):
            part.setVisible(finds_mask(self.sample))

    @property
    def reusable_config(self) -> MeasureConfig:
        """The settings that also apply to other images."""
        config = self.config()
        if not self.proposal.is_active:
            return config
        return config.model_copy(update={"sample_mask": "none"})

    @property
    def threshold(self) -> float | None:
        """The displayed threshold; None while grey values are unknown."""
        return self.histogram.threshold

    @property
    def previews(self) -> bool:
        """Whether to preview the threshold in the image."""
        return bool(self.preview.isChecked())

    def layers(self) -> dict[str, Layer | None]:
        """Return the chosen layers by their role in a measurement."""
        combos = (self.image, self.other, self.sample, self.deviation)
        roles = ("data", "reference", "mask", "deviation")
        return {r: c.layer() for r, c in zip(roles, combos, strict=True)}

    def config(self) -> MeasureConfig:
        """Validate the settings; raise `ConfigError` if one is invalid."""
        rule = METHODS[self.method.currentText()]
        mask = MASKS.get(self.sample.fixed_entry() or WHOLE, "none")
        threshold = self.value.value() if rule is None else rule
        if rule is None and not self._is_value_known:
            raise ConfigError(
                "There is no threshold yet. Wait until the histogram is shown, or "
                "choose a method under Threshold.",
                fields=["threshold"],
            )
        more = self.morphometry.values()
        more["mask_closing"] = self.closing.value()
        config = self.form.config(threshold=threshold, sample_mask=mask, **more)
        assert isinstance(config, MeasureConfig)
        return config

    def set_config(self, config: MeasureConfig) -> None:
        """Show these settings."""
        self.form.set_values(config.model_dump())
        self.closing.setValue(config.mask_closing)
        self.morphometry.set_values(config)
        if config.sample_mask != "none":
            entries = {mask: entry for entry, mask in MASKS.items()}
            self.sample.setCurrentText(entries[config.sample_mask])
        if isinstance(config.threshold, str):
            words = {rule: word for word, rule in METHODS.items()}
            self.method.setCurrentText(words[config.threshold])
        else:
            self.set_manual(config.threshold)

    def set_manual(self, value: float) -> None:
        """Select *Manual*, and set the threshold to `value`."""
        with QSignalBlocker(self.method):
            self.method.setCurrentText("Manual")
        with QSignalBlocker(self.value):
            self.value.setValue(value)
        self._draw_threshold(self.value.value())

    def show_used(self, value: float) -> None:
        """Show the threshold that a measurement used."""
        with QSignalBlocker(self.value):
            self.value.setValue(value)
        self._draw_threshold(value)

    def _draw_threshold(self, value: float) -> None:
        dark = self.form.values()["phase"] == "dark"
        self.histogram.set_threshold(value, dark=dark)
        self.thresholdChanged.emit()

    def _follow_rule(self) -> None:
        if self._levels is None:
            return
        try:
            value = self._levels.threshold(self.config())
        except ConfigError:
            return  # the field is being edited; Measure reports the error
        with QSignalBlocker(self.value):
            self.value.setValue(value)
        self._draw_threshold(value)

    def _on_image(self) -> None:
        self.proposal.restart()
        with QSignalBlocker(self.other):
            self.other.refresh()
        self.sourceChanged.emit()

    def _on_method(self, _text: str) -> None:
        self._follow_rule()

    def _on_value(self, value: float) -> None:
        self.set_manual(value)

    def _on_form(self) -> None:
        self._show_smallest()
        self._follow_rule()
        if self._whole and self.proposal.phase != self.form.values()["phase"]:
            self._propose_sample(self._whole)

    def _show_smallest(self) -> None:
        volume = self._volume
        if volume is None or not volume.has_physical_size:
            self.smallest.setText("Physical size unknown." if volume else "")
            return
        size = pore_size(int(self.form.values()["min_voxels"]), volume)
        power = "²" if size.ndim == 2 else "³"
        self.smallest.setText(
            f"= {number_text(size.volume)} {size.unit}{power}, "
            f"Ø {number_text(size.diameter)} {size.unit}"
        )


def _decimals(volume: Volume) -> int:
    return 0 if np.dtype(volume.dtype).kind in "iub" else 4
