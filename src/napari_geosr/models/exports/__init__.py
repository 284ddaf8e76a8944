"""Export formats for models: one module each, found by file name.

The module of a format provides ``TITLE``, ``SUFFIX`` and
``write(model, path) -> float``. `write` writes the file and returns the largest
difference between the results of the file and of the model, in standard deviations of
the result; it raises `ModelError` if they do not agree. The module may also provide
``remarks(card) -> list of str``: sentences on how to obtain the same results with other
software. The module must not import torch or optional libraries at module level.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

EXPORTS = Registry(
    package="napari_geosr.models.exports",
    group="napari_geosr.exports",
    noun="format of exported models",
)
