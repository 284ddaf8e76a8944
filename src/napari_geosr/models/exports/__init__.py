"""Export formats for models, one per file, found by file name.

A format's module offers, without importing torch or a library that it needs at module
level, ``TITLE`` and ``SUFFIX``, and ``write(model, path) -> float``: it writes the file
and returns how far its result is from ours at most, in standard deviations of the
result; it raises `ModelError` where the two are not the same. It may offer
``remarks(card) -> list of str``: what a person has to know to get there what is got
here, in sentences.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

EXPORTS = Registry(
    package="napari_geosr.models.exports",
    group="napari_geosr.exports",
    noun="format of exported models",
)
