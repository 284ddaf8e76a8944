"""What is asked before a run that is expected to do harm."""

from __future__ import annotations

from qtpy.QtWidgets import QMessageBox, QWidget

from napari_geosr.operations.restore.outlook import Outlook


def run_anyway(model: str, outlook: Outlook, parent: QWidget | None) -> bool:
    """Ask whether to restore although the result is expected to be worse."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setWindowTitle(f"Restore with {model}?")
    box.setAccessibleName(box.windowTitle())
    box.setText(outlook.sentence)
    box.setInformativeText("The scan itself is kept as it is.")
    anyway = box.addButton("&Run anyway", QMessageBox.ButtonRole.AcceptRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.exec()
    return box.clickedButton() is anyway
