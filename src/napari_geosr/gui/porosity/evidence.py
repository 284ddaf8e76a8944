"""Evidence for measured pores: the scan and settings that explain them, and the run."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.core.steps import ShouldStop, Step, StepIterator, WarningIssued
from napari_geosr.gui.kit.form import fields_of_options
from napari_geosr.gui.layers import METADATA, volume_from_layer
from napari_geosr.gui.layers.explained import explain_settings
from napari_geosr.gui.porosity.pore_layers import VERDICT_COLOURS, features
from napari_geosr.operations.explain import (
    ExplainConfig,
    explain_pores_steps,
    pores_of_report,
    prepare_steps,
    with_explanations,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport


@dataclass(frozen=True)
class ExplainedSource:
    """The scan and the settings that explain the pores of a restored layer."""

    layer: Layer
    config: ExplainConfig
    position: dict[str, int] | None

    def scan(self, viewer: ViewerModel) -> Volume:
        """The part of the scan that was restored.

        Raises
        ------
        VolumeError
            If its layer has no volume.
        """
        return volume_from_layer(self.layer, viewer, self.position)


@dataclass(frozen=True, eq=False)
class ExplainedPores:
    """Result of explaining the pores.

    Attributes
    ----------
    report : PorosityReport
        Report with the added columns.
    features : DataFrame
        The table for the pore layer.
    """

    report: PorosityReport
    features: object
    sentence: str
    warnings: tuple[str, ...]


def explained_source(viewer: ViewerModel, layer: Layer) -> ExplainedSource | None:
    """Scan and settings that explain the pores of `layer`.

    Returns None if it was not restored by a single network, or its scan is not open.
    """
    config = explain_settings(layer, ("evidence",))
    record = layer.metadata.get(METADATA, {})
    if config is None or record.get("series"):
        return None
    name = record.get("source_layer")
    scan = next((la for la in viewer.layers if la.name == name), None)
    if scan is None or scan is layer:
        return None
    return ExplainedSource(scan, config, record.get("position"))


def evidence_steps(
    scan: Volume,
    config: ExplainConfig,
    report: PorosityReport,
    should_stop: ShouldStop,
) -> Generator[Step, None, ExplainedPores]:
    """Explain every pore of a report.

    Raises
    ------
    GeoSRError
        If the model cannot be explained, or none of the pores is in its result.
    """
    prepared = yield from prepare_steps(scan, config, should_stop=should_stop)
    warnings = []
    steps = explain_pores_steps(prepared, pores_of_report(report))
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, WarningIssued):
                warnings.append(fields_of_options(step.message, ())[0])
            else:
                yield step
    result = iterator.result
    explained = with_explanations(report, result)
    sentence = f"{result.sentence.removesuffix('.')} ({VERDICT_COLOURS})."
    return ExplainedPores(explained, features(explained), sentence, tuple(warnings))
