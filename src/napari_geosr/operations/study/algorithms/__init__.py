"""Algorithms that a study compares, one a file, found by file name.

An algorithm module offers, without importing torch:

``TITLE``
    What people call it.
``LEARNS``
    Whether it is trained on the lower rows.
``reconstruct_steps(cell, should_stop)``
    Generator of steps that returns an `Outcome`: the judged rows from the few
    projections of ``cell`` (`napari_geosr.operations.study.cell.Cell`).

``ALGORITHM`` or ``METHOD``
    Of `tomography.algorithms` or `learning.methods`: whose settings it takes.

A module may offer ``CANDIDATES`` as well: settings to choose from by their error in
rows that are not judged.

The file ``tomogan_js.py`` is typed as ``tomogan-js``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_geosr.core.config import Config
from napari_geosr.core.registry import Registry
from napari_geosr.learning.methods import config_class as of_method
from napari_geosr.tomography.algorithms import config_class as of_algorithm

ALGORITHMS = Registry(
    package="napari_geosr.operations.study.algorithms",
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


def checked_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a person gave an algorithm, in their own types.

    Raises
    ------
    ConfigError
        If there is no such algorithm, it has no such setting, or a value is bad.
    """
    module = module_of(name)
    kind: type[Config]
    if module.LEARNS:
        kind = of_method(module.METHOD)
    else:
        kind = of_algorithm(module.ALGORITHM)
    return kind.create(**options).model_dump(mode="json", include=set(options))
