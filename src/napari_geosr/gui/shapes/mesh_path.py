"""Asks for the file of a mesh."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_geosr.gui.layers.saving import confirm_overwrite

#: File filters for meshes in the save dialog, and their suffixes.
_MESHES = {
    f"{kind.upper()} (*.{kind})": f".{kind}" for kind in ("stl", "ply", "obj", "3mf")
}


def ask_mesh_path(parent: QWidget, name: str) -> Path | None:
    """Ask for the file of the mesh `name`; None if the dialog was cancelled."""
    proposed = Path.cwd() / f"{name}.stl"
    given, chosen = QFileDialog.getSaveFileName(
        parent, "Export mesh", str(proposed), ";;".join(_MESHES)
    )
    if not given:
        return None
    path = Path(given)
    if path.suffix.lower() in _MESHES.values():
        return path
    path = path.with_name(path.name + _MESHES.get(chosen, ".stl"))
    # The dialog has only asked about the name that was entered.
    if path.exists() and not confirm_overwrite(parent, path.parent, [path.name]):
        return None
    return path
