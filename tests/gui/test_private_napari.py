"""Private names of napari exist in the installed version, or are done without."""

from __future__ import annotations

import ast
from pathlib import Path

import napari
import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap
from qtpy.QtCore import QObject

import napari_geosr
from napari_geosr.gui.kit import closing
from napari_geosr.gui.layers import private_napari
from napari_geosr.gui.porosity.pore_colours import (
    HIGHLIGHT,
    Highlighter,
    PoreColormap,
    PoreColours,
)

GUI = Path(napari_geosr.__file__).parent / "gui"
#: Private attributes of napari, by the only module that uses each of them.
USED = {
    "layers/private_napari.py": {"_slice", "_slicing_state", "_data_to_texture"},
    "porosity/pore_colours.py": {"_data_to_texture", "_map_without_cache"},
}
#: Private modules of napari, by the only module that imports each of them.
IMPORTED = {"kit/closing.py": {"napari._app_model"}}
#: Private names of magicgui, which is not napari.
OTHERS = {"_qwidget"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _private_names_of_napari() -> set[str]:
    """All private names that napari defines for its layers and colormaps."""
    folder = Path(napari.__file__).parent
    files = [*folder.glob("layers/**/*.py"), *folder.glob("utils/colormaps/*.py")]
    found: set[str] = set()
    for path in files:
        if "_tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return set(filter(_is_private, found))


def test_private_names_are_used_in_the_listed_modules_only() -> None:
    of_napari = _private_names_of_napari()
    assert of_napari >= set().union(*USED.values())
    used: dict[str, set[str]] = {}
    imported: dict[str, set[str]] = {}
    for path in GUI.rglob("*.py"):
        module = path.relative_to(GUI).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
                if node.attr in of_napari and not is_own:
                    used.setdefault(module, set()).add(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module:
                parts = node.module.split(".")
                if parts[0] == "napari" and any(map(_is_private, parts)):
                    imported.setdefault(module, set()).add(node.module)
    assert imported == IMPORTED
    ours = _defined_by_the_plugin() - set().union(*USED.values())
    found = {m: names - ours for m, names in used.items()}
    assert {m: names for m, names in found.items() if names} == USED


def _defined_by_the_plugin() -> set[str]:
    """Private attributes and functions that the docks define themselves."""
    found: set[str] = set()
    for path in GUI.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return found


def test_private_names_exist_in_the_installed_napari() -> None:
    labels = Labels(np.ones((4, 4), np.uint32))
    image = labels._slice.image
    assert image.raw.shape == image.view.shape == (4, 4)
    assert hasattr(labels.events, "labels_update")
    assert callable(labels._slicing_state.dask_optimized_slicing)
    for name in ("_data_to_texture", "_map_without_cache"):
        assert callable(getattr(CyclicLabelColormap, name))
    assert private_napari.can_replace_textures()
    assert closing._app_model() is not None


def test_data_are_drawn_within_a_context_or_as_for_any_layer() -> None:
    layer, entered = Image(np.zeros((4, 4))), []

    class Context:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> None:
            entered.append(True)

        def __exit__(self, *_: object) -> None: ...

    assert private_napari.surround_drawing(layer, Context)
    layer.refresh()
    assert entered
    del layer._slicing_state.dask_optimized_slicing
    assert not private_napari.surround_drawing(layer, Context)
    assert not private_napari.surround_drawing(object(), Context)


@pytest.fixture
def colours() -> PoreColours:
    table = np.random.default_rng(0).random((256, 4)).astype(np.float32)
    table[:, 3], table[0], table[255] = 1, 0, HIGHLIGHT
    return PoreColours(np.arange(4, dtype=np.uint8), table)


def test_pores_have_their_colours_without_the_private_methods(
    qapp, colours, monkeypatch
) -> None:
    marked = np.array([True, False, False])
    quick = colours.colormap(marked)
    monkeypatch.setattr(private_napari, "can_replace_textures", lambda: False)
    monkeypatch.setattr(
        "napari_geosr.gui.porosity.pore_colours.can_replace_textures", lambda: False
    )
    slow = colours.colormap(marked)
    assert isinstance(quick, PoreColormap)
    assert isinstance(slow, DirectLabelColormap)
    values = np.arange(6, dtype=np.uint32)
    np.testing.assert_allclose(slow.map(values), quick.map(values), atol=1e-6)
    layer, parent = Labels(values[None]), QObject()
    highlighter = Highlighter(parent)
    for row in (0, 2):
        marked = np.arange(3) == row
        highlighter.show(layer, colours, marked)
        np.testing.assert_allclose(layer.get_color(row + 1), HIGHLIGHT, atol=1e-6)


def test_textures_cannot_be_replaced_if_a_method_is_missing(monkeypatch) -> None:
    monkeypatch.setattr("napari.utils.colormaps.CyclicLabelColormap", object)
    assert not private_napari.can_replace_textures()


def test_a_layer_without_its_slice_is_drawn_by_the_public_interface() -> None:
    class Without:
        visible, loaded, contour = True, True, 0

    assert not private_napari.can_redraw(Without())
    assert not private_napari.redraw_labels(Without())
