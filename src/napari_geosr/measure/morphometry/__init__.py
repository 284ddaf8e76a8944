"""Statistics that read the voxels of both phases: one module each, found by name.

They take longer than the single sweep over the volume that the statistics in
`napari_geosr.measure.statistics` share, and are measured only on request
(``--statistics NAME,...``). The module of a statistic defines

- ``TITLE`` and ``ABOUT``: its name in the dock, and one sentence about it;
- ``CONVENTION``: how its values are defined, in sentences for a methods section;
- ``SOURCES``: a tuple of the publications that define them;
- ``QUANTITIES``: a tuple of `Quantity`, its values under their standard names;
- optionally ``TABLES``: a tuple of the names of tables that are written to separate
  files;
- optionally ``COLUMNS``: a tuple of `Column`, the columns that it adds to the pore
  table, so that expressions of groups can be checked before anything is measured;
- ``measure(phases, totals)``: a generator of steps that returns `Findings`.

Modules of other packages are added with the entry-point group
``napari_geosr.morphometry``.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

MORPHOMETRY = Registry(
    package="napari_geosr.measure.morphometry",
    group="napari_geosr.morphometry",
    noun="statistic",
)
