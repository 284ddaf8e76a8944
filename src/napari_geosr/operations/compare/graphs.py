"""Checks settings and memory for graphs of tubes, and compares their branches."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.measure.comparison.frame import Frame
from napari_geosr.measure.comparison.sweep import FrameVolumes
from napari_geosr.measure.graph.agreement import GraphAgreement, graph_agreement
from napari_geosr.measure.graph.steps import check_graph_memory
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.operations.compare.config import CompareConfig
from napari_geosr.operations.measure.networks import MATCHING_VOXELS


def check_graphs(config: CompareConfig) -> None:
    """Refuse contradictory settings for graphs.

    Raises
    ------
    ConfigError
        If graphs are requested without pores, or a distance is given without graphs.
    """
    if config.graph and not config.pores:
        raise ConfigError(
            "Graphs (--graph) are traced in the pores: compare the pores as well, or "
            "omit the graphs."
        )
    if config.graph_distance is not None and not config.graph:
        raise ConfigError("--graph-distance requires --graph.")


def check_graphs_fit(group: FrameVolumes, budget: int) -> None:
    """Refuse graphs that would not fit into memory, before any voxel is read.

    Raises
    ------
    VolumeError
        If the graph of one of the volumes needs more than `budget` bytes.
    """
    for placed in group.placed.values():
        check_graph_memory(placed.cropped().shape, budget, placed.volume.name)


def graph_steps(
    reports: Mapping[str, PorosityReport],
    base: str,
    frame: Frame,
    config: CompareConfig,
    should_stop: ShouldStop,
) -> Generator[Step, None, dict[str, GraphAgreement]]:
    """Compare the branches of each volume with those of the base.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    graphs = {
        key: report.graph.in_unit(frame.unit)
        for key, report in reports.items()
        if report.graph is not None
    }
    if not graphs:
        return {}
    yield StageStarted(message="Comparing the graphs")
    # Use one distance for all volumes on a grid, so that their results are comparable.
    distance = config.graph_distance or MATCHING_VOXELS * max(frame.voxel_size)
    found = {}
    for key, graph in graphs.items():
        if should_stop():
            raise Cancelled("The comparison was cancelled.")
        if key != base:
            found[key] = graph_agreement(graph, graphs[base], distance)
    return found
