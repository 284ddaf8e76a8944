"""Settings of the chosen learning method; every method keeps its own settings."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.remembered import recall, remember
from napari_geosr.gui.kit.warm_up import load_torch
from napari_geosr.gui.kit.widgets import button
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.train import config_class, networks
from napari_geosr.operations.train.fine_tune import NETWORK_FIELDS, fine_tune_settings
from napari_geosr.operations.train.name import without_default_name

#: Settings that describe what is trained, not how it is trained.
_TRAINING_SPECIFIC = frozenset({"name", "from_model", "labels"})


class MethodMemory:
    """Keeps the values of every method, and carries over user settings.

    A value set by the user carries over to the next method if that method has the
    field, has no user value for it, and accepts the value. Settings of the network
    carry over only if the network is the same.
    """

    def __init__(self) -> None:
        self._values: dict[str, AnyDict] = {}
        self._by_hand: dict[str, set[str]] = {}
        self._shown, self._start = "", AnyDict()
        self._carried: AnyDict = {}
        self._network: Any = None

    def enter(self, key: str, kind: type[Config], start: AnyMapping) -> AnyDict:
        """Return the values to show for a method.

        Parameters
        ----------
        key : str
            The method and its use.
        kind : type of Config
            Config class that validates the values.
        start : mapping
            Initial values if the method was not shown before.
        """
        values = dict(self._values.get(key, start))
        not_carried = self._by_hand.get(key, set()) | _TRAINING_SPECIFIC
        if values.get("network") != self._network:
            not_carried |= NETWORK_FIELDS
        for name, value in self._carried.items():
            if (
                name in values
                and name not in not_carried
                and _is_valid(kind, values, name, value)
            ):
                values[name] = value
        self._shown, self._start = key, dict(values)
        return values

    def begin(self, values: AnyMapping) -> None:
        """Record the values shown that the user has not set."""
        self._start = self._start | dict(values)

    def leave(self, values: AnyMapping) -> None:
        """Record the values of the previous method as the user left them."""
        if not self._shown:
            return
        changed = {k for k, v in values.items() if v != self._start.get(k)}
        self._values[self._shown] = dict(values)
        self._by_hand.setdefault(self._shown, set()).update(changed)
        self._carried |= {name: values[name] for name in changed}
        if changed & NETWORK_FIELDS:
            self._network = values.get("network")


def _is_valid(kind: type[Config], values: AnyMapping, name: str, value: object) -> bool:
    try:
        kind.create(**{**values, name: value})
    except ConfigError:
        return False
    return True


_FROM = "from_model"
#: Settings specific to one training run, which are not remembered.
_NOT_REMEMBERED = frozenset({_FROM, "preview_slice"})
#: Suffix of the name of a model that is fine-tuned from another model.
TUNED = "-tuned"
#: Fields that the dock shows above *Advanced*.
ABOVE = ("source", "target", "name", "steps")


#: Settings by title of their group; *Method* lists none, and receives all the others.
_GROUPS: dict[str, tuple[str, ...]] = {
    "Method": (),
    "Data": (
        "dimensions",
        "adjacent_slices",
        "patch",
        "batch_size",
        "sampling",
        "augment",
        "normalisation",
        "validation",
        "validate_every",
        "upscale_factor",
        "labels",
    ),
    "Network": (
        "network",
        "layers",
        "width",
        "network_options",
        "from_model",
    ),
    "Learning": (
        "learning_rate",
        "final_rate",
        "warm_up",
        "averaging",
        "gradient_clip",
    ),
    "Computer": ("device", "precision", "threads", "checkpoint_seconds", "seed"),
    "Record": ("preview_slice", "similarity_index", "country", "licence"),
}


class MethodSettings(QWidget):
    """A form for a method's config; name and number of steps are shown elsewhere.

    Parameters
    ----------
    name, steps : QLineEdit, QSpinBox
        Widgets of the dock for the fields ``name`` and ``steps``.

    Signals
    -------
    changed
        A setting was changed or is being edited.
    failed : object
        The error if settings of the last session could not be read.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(
        self, name: QLineEdit, steps: QSpinBox, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._name, self._steps = name, steps
        self._memory = MethodMemory()
        self._reading: BackgroundTask | None = None
        self._key = self._proposed = ""
        self.method = ""
        self.form: Any = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._defaults: AnyDict = {}
        self.reset_button = button(
            "Reset to defaults",
            "Reset all settings below to the defaults for this method and data.",
            "Alt+Shift+Z",
        )
        layout.addWidget(self.reset_button)
        self.reset_button.clicked.connect(self._on_reset)
        name.textEdited.connect(self._on_changed)
        steps.valueChanged.connect(self._on_changed)

    def show_method(
        self, method: str, use: str = "", defaults: AnyMapping | None = None
    ) -> None:
        """Show the settings of a method as last used, in this or the last session.

        Parameters
        ----------
        use : str
            Purpose, if a method has several uses.
        defaults : mapping
            Settings that fit this use.
        """
        key = f"{method}_{use}" if use else method
        if key == self._key:
            return
        if self.form is not None:
            self._memory.leave(self._entered())
        kind = config_class(method)
        if method != self.method:
            self._make_form(kind)
        self.method, self._key = method, key
        # An empty name stands for the name that the dock proposes.
        start = kind().model_dump() | {"name": ""} | dict(defaults or {})
        try:
            kept = recall(f"train_{key}", kind).model_dump(exclude_unset=True)
        except ConfigError as error:
            kept = {}
            self.failed.emit(error)
        self._defaults = start
        shown = start | _remembered_settings(kept)
        shown.pop("preview_slice")  # the slice on screen is used instead
        self.set_values(self._memory.enter(key, kind, shown))
        self._memory.begin(self._entered())
        self._on_changed()

    def values(self) -> AnyDict:
        """Return the user's settings without the data, not yet validated.

        An empty name is replaced by the proposed one.
        """
        entered = self._entered()
        return entered | {"name": entered["name"] or self._proposed}

    @property
    def is_named(self) -> bool:
        """Whether the user gave the model a name other than the proposed one."""
        return bool(self._user_name())

    def propose(self, name: str) -> None:
        """Propose `name` for the model unless the user has named it."""
        if name == self._proposed:
            return  # the user has just cleared the field to type a name
        is_free = not self.is_named
        self._proposed = name
        show_placeholder(self._name, name)
        if is_free:
            self._name.setText(name)

    def _entered(self) -> AnyDict:
        """Return the user's settings; a proposed name counts as empty."""
        above = {"name": self._user_name(), "steps": self._steps.value()}
        return dict(self.form.values()) | above

    def _user_name(self) -> str:
        name = str(self._name.text()).strip()
        return "" if name == self._proposed else name

    def set_values(self, values: AnyMapping) -> None:
        """Show `values`; fields that the method does not have are left out."""
        self.form.set_values(values)
        if "name" in values:
            self._name.setText(values["name"] or self._proposed)
        if "steps" in values:
            self._steps.setValue(values["steps"])

    def adopt(self, values: AnyMapping) -> None:
        """Show `values`, without carrying them over to other methods."""
        self.set_values(values)
        self._memory.begin(self._entered())

    def keep(self, values: AnyMapping) -> None:
        """Keep the settings for the next session, except the initial model.

        Raises
        ------
        GeoSRError
            If the settings cannot be written.
        """
        kept = config_class(self.method).create(**_remembered_settings(values))
        remember(f"train_{self._key}", kept)

    def list_models(self, is_open: bool = True) -> None:
        """Suggest zoo models as initial models; slow, so called only when needed."""
        combo: Any = None if self.form is None else self.form.editor(_FROM)
        if not is_open or combo is None or combo.count() > 1:
            return
        text = combo.currentText()
        combo.blockSignals(True)
        combo.addItems([model.name for model in catalogue.list_models()])
        combo.setCurrentText(text)
        combo.blockSignals(False)

    def _on_reset(self) -> None:
        """Reset all fields except those above the form to their defaults."""
        self.set_values({k: v for k, v in self._defaults.items() if k not in ABOVE})
        self.changed.emit()

    def show_faults(self, error: BaseException) -> list[QWidget]:
        """Show errors below their fields; return these fields."""
        shown: list[QWidget] = self.form.show_faults(error)
        return shown

    def clear_faults(self) -> None:
        """Remove the messages below fields."""
        if self.form is not None:
            self.form.clear_faults()

    def _make_form(self, kind: type[Config]) -> None:
        old = self.form
        files = [
            name
            for name, field in kind.model_fields.items()
            if "Path" in str(field.annotation)
        ]
        self.form = ConfigForm(
            kind,
            skip=(*ABOVE, *files),
            groups=_GROUPS,
            choices={
                "network": networks(),
                "device": ("auto", "cpu", "cuda"),
                _FROM: ("",),  # filled when the section opens
            },
        )
        if old is not None:
            self.layout().removeWidget(old)
            old.hide()  # until it is deleted, it would appear below the new one
            old.deleteLater()
        self.layout().addWidget(self.form)
        self.form.changed.connect(self._on_changed)
        for line in self.form.findChildren(QLineEdit):
            line.textEdited.connect(self._on_changed)
        self.form.editor(_FROM).currentTextChanged.connect(self._on_from_model)
        if self.isVisible():
            self.list_models()

    def _on_changed(self, *_: object) -> None:
        self.changed.emit()

    @property
    def is_reading(self) -> bool:
        """Whether the network settings of a model are still being read."""
        return self._reading is not None

    def _on_from_model(self, name: str) -> None:
        """Adopt the network settings of a zoo model; its weights require them."""
        if self._reading is not None:
            self._reading.detach()
            self._reading = None
        if not name or self.form.editor(_FROM).findText(name) < 0:
            return
        method = self.method
        self._reading = BackgroundTask(
            lambda _stop: tune_steps(name, method),
            owner=self,
            on_result=self._on_network,
            on_error=self.failed.emit,
            on_finished=self._on_read,
        )

    def _on_network(self, settings: AnyMapping) -> None:
        self.set_values({k: v for k, v in settings.items() if k != _FROM})

    def _on_read(self) -> None:
        self._reading = None


def tune_steps(model: str | Path, method: str | None) -> Generator[Step, None, AnyDict]:
    """Find the settings of a training run that starts from a model.

    Call this function in a worker: it loads torch, which the module that defines the
    model's network imports.
    """
    load_torch()
    yield StageStarted(message="Reading the initial model")
    return fine_tune_settings(model, method)


def _remembered_settings(values: AnyMapping) -> AnyDict:
    """Return the settings that also apply to later training runs."""
    is_tuned = str(values.get("name", "")).endswith(TUNED)
    omitted = _NOT_REMEMBERED | {"name"} if is_tuned else _NOT_REMEMBERED
    return {k: v for k, v in without_default_name(values).items() if k not in omitted}
