"""Graph of the pores as a network of tubes, if requested (``--graph``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari_geosr.core.types import AnyDict
from napari_geosr.measure.number_text import number_text
from napari_geosr.measure.statistic import Row, Values, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def graph(totals: SweepTotals) -> AnyDict | None:
    """Return all values of the graph; lengths are in the graph's unit."""
    return None if totals.graph is None else totals.graph.to_json_dict()


def _figure(name: str) -> Callable[[SweepTotals], Any]:
    def figure(totals: SweepTotals) -> Any:
        return None if totals.graph is None else totals.graph.to_json_dict()[name]

    return figure


def _along_axes(found: Mapping[str, float | None]) -> str:
    """Format values along the axes as text, such as ``Z 12, Y 0, X 3``."""
    return ", ".join(
        f"{letter} {number_text(value)}"
        for letter, value in found.items()
        if value is not None
    )


def _known(name: str) -> Callable[[Values], Any]:
    """Return a function that returns the values along the axes, or None if unknown."""

    def value(figures: Values) -> Any:
        along_axes = figures[name]
        if along_axes is None or all(v is None for v in along_axes.values()):
            return None
        return along_axes

    return value


STATISTICS = (
    VolumeStatistic("graph", graph, order=900),
    VolumeStatistic(
        "graph_nodes",
        _figure("nodes"),
        order=901,
        in_json=False,
        row=Row(
            "Nodes of the graph",
            order=200,
            help="Junctions and free ends of the centrelines of the pores.",
        ),
    ),
    VolumeStatistic(
        "graph_branches",
        _figure("branches"),
        order=902,
        in_json=False,
        row=Row("Branches", order=201, help="Centrelines from node to node."),
    ),
    VolumeStatistic(
        "graph_mean_degree",
        _figure("mean_degree"),
        order=903,
        in_json=False,
        row=Row(
            "Branches per junction",
            order=202,
            help="Mean degree of the nodes where three or more branches meet.",
        ),
    ),
    VolumeStatistic(
        "graph_loops",
        _figure("loops"),
        order=904,
        in_json=False,
        row=Row("Loops", order=203, help="Independent closed paths along branches."),
    ),
    VolumeStatistic(
        "graph_length",
        _figure("length"),
        power=1,
        order=905,
        in_json=False,
        row=Row("Length of all branches", order=204),
    ),
    VolumeStatistic(
        "graph_mean_branch_length",
        _figure("mean_branch_length"),
        power=1,
        order=906,
        in_json=False,
        row=Row("Mean length of a branch", order=205),
    ),
    VolumeStatistic(
        "graph_joining_components",
        _figure("joining_components"),
        order=907,
        in_json=False,
        row=Row(
            "Components that join two faces",
            order=206,
            text=_along_axes,
            compares=False,
            help="Number of connected pores that touch two opposite faces along Z, "
            "along Y and along X.",
        ),
    ),
    VolumeStatistic(
        "graph_tubules_per_mm2",
        _figure("tubules_per_mm2"),
        flat=False,
        order=908,
        in_json=False,
        row=Row(
            "Tubules per mm²",
            order=207,
            value=_known("graph_tubules_per_mm2"),
            file_unit="1/mm²",
            text=_along_axes,
            compares=False,
            help="Number of tubes per mm² that cross planes normal to Z, to Y and to "
            "X, at less than 45° from the normal.",
        ),
    ),
)
