"""Algorithms that a study compares, one a file, found by file name.

An algorithm module offers, without importing torch:

``TITLE``
    What people call it.
``LEARNS``
    Whether it is trained on the lower rows.
``reconstruct_steps(cell, should_stop)``
    Generator of steps; the last is ``ResultReady(Outcome)``: the judged rows from the
    few projections of ``cell`` (`napari_geosr.operations.study_cells.Cell`).

A module may offer ``CANDIDATES`` as well: settings to choose from by their error in
rows that are not judged.

The file ``tomogan_js.py`` is typed as ``tomogan-js``.
"""

from __future__ import annotations

from typing import Any

from napari_geosr.core.registry import Registry

ALGORITHMS = Registry(
    package="napari_geosr.operations.study_algorithms",
    group="napari_geosr.study_algorithms",
    noun="algorithm of a study",
)


def module_of(name: str) -> Any:
    """The module of an algorithm by the name that people type.

    Raises
    ------
    ConfigError
        If there is none.
    """
    return ALGORITHMS.load(name.replace("-", "_"))
