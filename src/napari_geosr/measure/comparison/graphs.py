"""Graphs of networks in a comparison: metrics as text and as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from napari_geosr.measure.comparison.grids import each_once
from napari_geosr.measure.graph import NetworkGraph
from napari_geosr.measure.graph.agreement import COVERED, GraphAgreement
from napari_geosr.measure.number_text import number_text, percent_text


def agreement_rows(
    found: Mapping[str, GraphAgreement], unit: str, titles: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the label, one text per volume and the explanation of each metric."""
    if not found:
        return
    near = f"within {distance_text(found, unit, titles)} of the lines of"
    covered = f"with at least {100 * COVERED:g} % of their length {near}"
    for label, name, help_ in (
        (
            "Branch recall",
            "branch_recall",
            f"Share of the base's branches {covered} the volume.",
        ),
        (
            "Branch precision",
            "branch_precision",
            f"Share of the volume's branches {covered} the base.",
        ),
        (
            "Length recall",
            "length_recall",
            f"Share of the total branch length of the base that lies {near} the "
            "volume.",
        ),
        (
            "Length precision",
            "length_precision",
            f"Share of the total branch length of the volume that lies {near} the "
            "base.",
        ),
    ):
        shares = {k: percent_text(getattr(a, name)) for k, a in found.items()}
        yield label, shares, help_


def distance_text(
    found: Mapping[str, GraphAgreement], unit: str, titles: Mapping[str, str]
) -> str:
    """Format the distance within which branches count as found."""
    texts = {k: f"{number_text(a.distance)} {unit}" for k, a in found.items()}
    return each_once(texts, titles)


def agreement_numbers(found: GraphAgreement) -> dict[str, float]:
    """Return the metrics of an agreement, by column name."""
    numbers = found.to_json_dict()
    return {"graph_distance": numbers.pop("distance"), **numbers}


def graph_numbers(graph: NetworkGraph) -> dict[str, float | None]:
    """Return the values of a graph by column name; directional values for each axis."""
    numbers: dict[str, float | None] = {}
    for name, value in graph.to_json_dict().items():
        if isinstance(value, dict):
            numbers |= {f"{name}_{axis.lower()}": v for axis, v in value.items()}
        elif not isinstance(value, str):
            numbers[f"graph_{name}"] = value
    return numbers
