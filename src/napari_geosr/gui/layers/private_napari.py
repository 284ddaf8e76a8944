"""The only module that uses private attributes of napari's layers.

Each function falls back on the public interface if a future version of napari does
not have these attributes. `tests/gui/test_private_napari.py` fails if napari changes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Labels, Layer


def can_redraw(layer: Labels) -> bool:
    """Whether new colours can be drawn by replacing only the displayed values."""
    try:
        return _can_be_quick(layer)
    except AttributeError:
        return False


def can_replace_textures() -> bool:
    """Whether napari's label colormap has the private methods that are overridden."""
    from napari.utils.colormaps import CyclicLabelColormap

    names = ("_data_to_texture", "_map_without_cache")
    return all(hasattr(CyclicLabelColormap, name) for name in names)


def redraw_labels(layer: Labels) -> bool:
    """Send only the labels on screen to the graphics card, after a colormap changed.

    napari would compile a shader and redraw the layer list and the layer controls.

    Returns
    -------
    bool
        Whether this was possible; if not, assign the colormap.
    """
    try:
        image, colormap = layer._slice.image, layer.colormap
        shown = image.view
        shown[...] = colormap._data_to_texture(image.raw)
        with layer.events.blocker():  # any event would redraw the layer list
            layer.events.labels_update(data=shown, offset=(0,) * shown.ndim)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _can_be_quick(layer: Labels) -> bool:
    from napari.settings import get_settings

    image = layer._slice.image
    return bool(
        layer.visible
        and layer.loaded
        and layer.contour == 0
        and image.raw.shape == image.view.shape
        and not layer.multiscale
        and not layer.show_selected_label
        and layer.data.dtype.itemsize > 2  # smaller types are sent unchanged
        and not get_settings().experimental.async_
    )


def surround_drawing(layer: Layer, context: Callable[..., Any]) -> bool:
    """Let napari enter a context whenever it reads data of a layer to draw them.

    Returns
    -------
    bool
        Whether this was possible; if not, napari waits for the data, as for any layer.
    """
    try:
        drawing: Any = layer._slicing_state
        drawing.dask_optimized_slicing  # noqa: B018  (must exist to be replaced)
        drawing.dask_optimized_slicing = context
    except AttributeError:
        return False
    return True


def describe_in_status_bar(layer: Labels, text_of: Callable[[int], str]) -> None:
    """Describe the label under the mouse with `text_of` in the status bar.

    By default, napari lists all columns of the features, even for the background. There
    is no public way to change this, so the method is replaced in this layer only.
    """
    reference = weakref.ref(layer)

    def get_status(position: Any = None, **how: Any) -> dict[str, str]:
        from napari.layers import Labels

        shown = reference()
        if shown is None:
            return {}
        # Skip `Labels.get_status`, which would append the features as plain values.
        status: dict[str, str] = super(Labels, shown).get_status(position, **how)
        label = status.get("value", "")
        if label.isdecimal() and "coords" in status:
            status["value"] = text_of(int(label))
            status["coordinates"] = f"{status['coords']}: {status['value']}"
        return status

    layer.get_status = get_status
