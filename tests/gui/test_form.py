"""The settings form: every kind of field, generated from the config."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.questions import TimeSeriesQuestion
from napari_geosr.core.text.name_choices import NameChoices
from napari_geosr.gui.kit.action_bar import Heading
from napari_geosr.gui.kit.form import AUTOMATIC, ConfigForm
from napari_geosr.gui.kit.option_words import fields_of_options
from napari_geosr.gui.kit.widgets import SentenceLabel, form_layout
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.sim import SimConfig


class Example(Config):
    rule: Literal["one", "two"] = Field("two", title="Rule", description="Which.")
    value: Literal["otsu"] | float = Field("otsu", title="Value", description="V.")
    number: int = Field(3, ge=1, le=9, title="Number", description="N.")
    share: float = Field(0.5, gt=0, lt=1, title="Share", description="S.")
    threads: int | None = Field(None, ge=1, title="Threads", description="T.")
    is_on: bool = Field(True, title="On", description="O.")
    name: str | None = Field(None, title="Name", description="Na.")
    sides: Literal[6, 26] = Field(26, title="Sides", description="Si.")
    unit: Literal["deg", "rad"] | None = Field(None, title="Unit", description="U.")
    is_log: bool | None = Field(None, title="Log", description="L.")


@pytest.fixture
def form(qtbot) -> ConfigForm:
    form = ConfigForm(Example)
    qtbot.addWidget(form)
    return form


def test_it_starts_with_the_defaults(form):
    assert form.config() == Example()


def test_every_kind_of_field_goes_through(form, qtbot):
    values = {
        "rule": "one",
        "value": 12.5,
        "number": 7,
        "share": 0.25,
        "threads": 2,
        "is_on": False,
        "name": "x",
        "sides": 6,
        "unit": "deg",
        "is_log": False,
    }
    with qtbot.waitSignal(form.changed):
        form.set_values({**values, "unknown": 1})
    assert form.config() == Example(**values)
    form.set_values(Example().model_dump())
    assert form.config() == Example()


def test_widgets_suit_their_fields(form):
    kinds = {
        "rule": QComboBox,
        "value": QComboBox,
        "number": QSpinBox,
        "share": QDoubleSpinBox,
        "threads": QSpinBox,
        "is_on": QCheckBox,
        "name": QLineEdit,
        "unit": QComboBox,
        "is_log": QComboBox,
    }
    for name, kind in kinds.items():
        assert isinstance(form.editor(name), kind)
    assert form.editor("value").isEditable()
    assert not form.editor("rule").isEditable()
    assert (form.editor("number").minimum(), form.editor("number").maximum()) == (1, 9)
    assert 0 < form.editor("share").minimum() < 1e-3
    assert form.editor("threads").text() == AUTOMATIC
    for name in ("unit", "is_log"):  # values are set only by the user
        assert form.editor(name).currentText() == AUTOMATIC
    for name, field in Example.model_fields.items():
        assert form.editor(name).toolTip() == field.description
        assert form.editor(name).accessibleName() == field.title


def test_bad_values_are_refused_in_a_sentence(form):
    form.editor("value").setCurrentText("nonsense")
    with pytest.raises(ConfigError, match="nonsense"):
        form.config()


def test_auto_is_shown_as_the_word_used_elsewhere(qtbot):
    form = ConfigForm(RestoreConfig, choices={"device": ("auto", "cpu")})
    qtbot.addWidget(form)
    for name in ("device", "backend"):
        assert form.editor(name).currentText() == AUTOMATIC
        assert form.values()[name] == "auto"
    form.editor("device").setCurrentText("cpu")
    assert form.values()["device"] == "cpu"
    form.set_values({"device": "auto"})
    assert form.editor("device").currentText() == AUTOMATIC


def test_skipped_fields_come_from_elsewhere(qtbot):
    form = ConfigForm(
        RestoreConfig, skip=("model",), choices={"device": ("auto", "cpu")}
    )
    qtbot.addWidget(form)
    assert form.config(model="mine").model == "mine"
    form.editor("device").setCurrentText("cuda:1")
    assert form.config(model="mine").device == "cuda:1"


class Losses(Config):
    parts: Annotated[
        str, NameChoices(lambda: {"l1": "grey values", "euler": "parts"})
    ] = Field("l1", title="Parts", description="P.")


def test_listed_names_are_typed_or_ticked_and_keep_their_weights(qtbot):
    form = ConfigForm(Losses)
    qtbot.addWidget(form)
    editor = form.editor("parts")
    assert (form.values(), editor.line.toolTip()) == ({"parts": "l1"}, "P.")

    def tick(name):
        editor.menu.aboutToShow.emit()
        actions = {a.text().partition(":")[0]: a for a in editor.menu.actions()}
        actions[name].trigger()
        return {name for name, action in actions.items() if action.isChecked()}

    with qtbot.waitSignal(form.changed):
        assert tick("euler") == {"l1", "euler"}
    assert form.values() == {"parts": "l1,euler"}
    editor.line.clear()
    with qtbot.waitSignal(form.changed):
        qtbot.keyClicks(editor.line, "l1:2, euler:0.3")
        qtbot.keyClick(editor.line, Qt.Key.Key_Return)
    assert tick("l1") == {"euler"}
    assert form.values() == {"parts": "euler:0.3"}
    form.set_values({"parts": "l1"})
    assert form.config() == Losses()


class Measures(Config):
    length: float = Field(
        0.002,
        gt=0,
        title="Length",
        description="L.",
        json_schema_extra={"unit": "mm"},
    )
    count: int = Field(
        4, ge=1, title="Count", description="C.", json_schema_extra={"unit": "steps"}
    )
    odd: int | None = Field(None, ge=1, title="Odd", description="O.")


def test_numbers_have_their_digits_and_units(qtbot):
    form = ConfigForm(Measures)
    qtbot.addWidget(form)
    assert form.editor("length").text() == "0.002 mm"
    assert form.editor("count").text() == "4 steps"
    assert form.editor("odd").text() == AUTOMATIC
    form.set_values({"length": 1e-6})
    assert form.editor("length").text() == "0.000001 mm"
    form.editor("length").lineEdit().setText("0.25 mm")
    form.editor("length").interpretText()
    assert form.values()["length"] == 0.25
    form.set_values({"length": 30.0})
    assert form.editor("length").text() == "30 mm"


@pytest.mark.parametrize("wavelengths", [(525.0,), (525.0, 605.5)])
def test_lists_of_numbers_are_shown_as_they_are_typed(qtbot, wavelengths):
    form = ConfigForm(SimConfig)
    qtbot.addWidget(form)
    form.set_values({"wavelength": wavelengths})
    assert form.values()["wavelength"].startswith("525")
    assert SimConfig.create(**form.values()).wavelength == wavelengths


def test_fields_stand_in_groups(qtbot):
    groups = {"Most": (), "Few": ("odd",), "None": ("missing",)}
    form = ConfigForm(Measures, groups=groups)
    qtbot.addWidget(form)
    titles = [
        label.accessibleName()
        for label in form.findChildren(QLabel)
        if label.accessibleName().startswith("Group")
    ]
    assert titles == ["Group Most", "Group Few"]
    assert form.names == ("length", "count", "odd")


def test_what_is_wrong_is_said_below_its_field(form):
    with pytest.raises(ConfigError) as raised:
        form.config(number=20, share=3.0)
    wrong = form.show_faults(raised.value)
    assert wrong == [form.editor("number"), form.editor("share")]
    assert set(form.faults) == {"number", "share"}
    assert "9" in form.faults["number"]
    rows = form.layout()
    row, _ = rows.getWidgetPosition(form.editor("number"))
    assert rows.itemAt(row + 1, QFormLayout.ItemRole.SpanningRole) is not None
    form.set_values({"number": 5})
    assert not form.faults
    assert form.show_faults(ConfigError("Something else.")) == []


def test_options_of_the_command_line_become_fields(form):
    said = "Choose less (--number). Or leave it out (--share 1) here (--other)."
    text, found = fields_of_options(said, [form])
    assert text == "Choose less (Number). Or leave it out (Share: 1) here."
    assert found == [(form, "number"), (form, "share")]
    bare = "To learn this, set --number 2 --other-thing 3D without --share and --x."
    assert fields_of_options(bare, [form])[0] == (
        "To learn this, set Number 2, other thing 3D without Share and x."
    )
    several = "Set the voxel size (--voxel-size, --unit), or crop one."
    text, found = fields_of_options(several, [form])
    assert text == "Set the voxel size (Unit), or crop one."
    assert found == [(form, "unit")]


def test_names_of_thresholds_are_spelled_as_in_the_porosity_dock(qtbot):
    from napari_geosr.gui.porosity.settings import METHODS
    from napari_geosr.operations.study.config import StudyConfig

    form = ConfigForm(StudyConfig)
    qtbot.addWidget(form)
    menu = form.editor("threshold")
    assert menu.currentText() == "Otsu"
    assert {menu.itemText(i) for i in range(menu.count())} <= set(METHODS)
    for title, value in (("Multi-Otsu", "multi-otsu"), ("li", "li"), ("0.5", 0.5)):
        menu.setCurrentText(title)
        assert form.values()["threshold"] == value
    form.set_values({"threshold": "triangle"})
    assert menu.currentText() == "Triangle"


def test_lines_are_broken_within_names_and_not_within_numbers(qtbot):
    label = SentenceLabel("a_b.tif by +1.06 in v2.ome")
    qtbot.addWidget(label)
    shown = QLabel.text(label).replace("\u200b", "|")
    assert shown == "a_|b.|tif by +1.06 in v2.|ome"
    assert label.text() == "a_b.tif by +1.06 in v2.ome"
    label.setText("+8.9 dB in 3 s, of 40 % in 12 slices")
    shown = QLabel.text(label).replace("\u00a0", "~")
    assert shown == "+8.9~dB in 3~s, of 40~% in 12 slices"
    assert label.text() == "+8.9 dB in 3 s, of 40 % in 12 slices"


class Optional(Config):
    window: int | None = Field(
        None, ge=5, title="Window", json_schema_extra={"unset": "off"}
    )
    start: str | None = Field(None, title="Start", json_schema_extra={"unset": "none"})
    threads: int | None = Field(None, ge=1, title="Threads")


def test_a_blank_value_says_what_it_means(qtbot):
    form = ConfigForm(Optional)
    qtbot.addWidget(form)
    assert form.editor("window").text() == "off"
    assert form.editor("start").placeholderText() == "none"
    assert form.editor("threads").text() == AUTOMATIC
    assert form.config() == Optional()


def test_fields_may_stand_in_a_layout_of_the_dock(qtbot):
    outside = QWidget()
    rows = form_layout()
    outside.setLayout(rows)
    form = ConfigForm(Optional, elsewhere={"window": rows})
    for widget in (outside, form):
        qtbot.addWidget(widget)
    assert form.editor("window").parentWidget() is outside
    assert form.editor("threads").parentWidget() is form
    form.set_values({"window": 7})
    assert form.config().window == 7
    form.add_fault("window", "too small.")
    form.add_fault("threads", "too many.")
    assert list(form.faults) == ["threads", "window"]
    assert len(outside.findChildren(SentenceLabel)) == 1
    form.clear_faults()
    assert not form.faults
    assert rows.rowCount() == 1


def test_a_heading_is_shown_with_what_stands_below_it(qtbot):
    box = QWidget()
    qtbot.addWidget(box)
    column = QVBoxLayout(box)
    parts = QPushButton("one"), QPushButton("two")
    for part in parts:
        part.hide()
    heading = Heading("Result", parts)
    for widget in (heading, *parts):
        column.addWidget(widget)
    box.show()
    assert heading.isHidden()
    parts[1].show()
    assert heading.isVisible()
    parts[1].hide()
    assert heading.isHidden()


def test_docks_name_their_buttons_instead_of_an_option():
    """The dock asks with two buttons whether planes are frames."""
    text = str(TimeSeriesQuestion(5, "TYX", ("fine detail stays in place",)))
    shown, _ = fields_of_options(text, [])
    assert shown.endswith("(Z). Choose Time series or Slices.")
