"""Render figures as PNG, and escape file names shown in them."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg


def as_png(canvas: FigureCanvasAgg) -> bytes:
    """Render a figure as PNG.

    Characters that the font lacks are drawn as boxes; matplotlib's warnings about them
    are suppressed, because reports also show the names as text.
    """
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        canvas.print_png(stream)
    return stream.getvalue()


def as_label(name: str) -> str:
    r"""Escape `name` so that matplotlib shows it unchanged.

    Text between dollar signs would be rendered as a formula, and a label that begins
    with an underscore would be left out of the legend.

    Examples
    --------
    >>> as_label("a$x$"), as_label("_a")
    ('a\\$x\\$', ' _a')
    """
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped
