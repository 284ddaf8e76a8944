"""Evidence for measured pores, from the scan and the settings of its restoration."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.steps import ShouldStop, Step, StepIterator, WarningIssued
from napari_geosr.gui.kit.option_words import fields_of_options
from napari_geosr.gui.layers import METADATA, provenance_of, volume_from_layer
from napari_geosr.gui.layers.explained import explain_settings, source_of
from napari_geosr.gui.porosity.pore_colours import VERDICT_COLOURS
from napari_geosr.gui.porosity.pore_layers import features
from napari_geosr.operations.explain import (
    ExplainConfig,
    ExplainResult,
    checked_scan_steps,
    described_input,
    explain_pores_steps,
    pores_of_report,
    prepare_steps,
    recorded_input,
    recorded_scan_steps,
    with_explanations,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_geosr.core.types import AnyMapping
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport

    ScanOpener = Callable[[ShouldStop], Generator[Step, None, Volume]]


#: Message if other pores are shown by the time the evidence is computed.
OUTDATED = "The evidence was discarded: the pores that it explains are no longer shown."


@dataclass(frozen=True)
class ExplainedSource:
    """The scan and the settings with which pores of a restored layer are explained.

    Attributes
    ----------
    layer : Layer or None
        The scan, if it is open.
    config : ExplainConfig
    position : dict or None
        Time point and channel that were restored.
    facts : mapping or None
        Description of the scan in the record, to find its file or to check that the
        open scan is the one that was restored.
    result : Path or None
        File of the result.
    """

    layer: Layer | None
    config: ExplainConfig
    position: dict[str, int] | None
    facts: AnyMapping | None = None
    result: Path | None = None

    def opener(self, viewer: ViewerModel) -> ScanOpener:
        """Return steps that open the part of the scan that was restored.

        Call this method in the main thread, and run the steps in a worker.

        Raises
        ------
        VolumeError
            If the layer of the scan cannot be used as a volume.
        """
        if self.layer is not None:
            scan = volume_from_layer(self.layer, viewer, self.position)
            return partial(checked_scan_steps, scan, self.facts)
        assert self.facts is not None
        return partial(_from_file, self.facts, self.result, self.position)


def _from_file(
    facts: AnyMapping,
    result: Path | None,
    position: dict[str, int] | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, Volume]:
    steps = recorded_scan_steps(
        facts, beside=result, position=position, should_stop=should_stop
    )
    return (yield from steps)


@dataclass(frozen=True, eq=False)
class ExplainedPores:
    """Result of explaining the pores.

    Attributes
    ----------
    before, report : PorosityReport
        The reports without and with the added columns.
    features : DataFrame
        The table for the pore layer.
    result : ExplainResult
        Values of the added columns.
    """

    before: PorosityReport
    report: PorosityReport
    features: object
    result: ExplainResult
    sentence: str
    warnings: tuple[str, ...]

    def added_to(self, report: PorosityReport) -> tuple[PorosityReport, object]:
        """Return `report` with the added columns, and its features.

        The given report may contain groups of pores that were saved while the pores
        were being explained.
        """
        if report is self.before:
            return self.report, self.features
        extended = with_explanations(report, self.result)
        return extended, features(extended)


def explained_source(viewer: ViewerModel, layer: Layer) -> ExplainedSource | None:
    """Return the scan and settings for explaining the pores of `layer`.

    The scan is an open layer or, if there is none, the file named in the layer's
    record. Returns None if neither exists, or if the layer is a series or was not
    restored by a single network.
    """
    config = explain_settings(layer, ("evidence",))
    record = layer.metadata.get(METADATA, {})
    if config is None or record.get("series"):
        return None
    position = record.get("position")
    made = provenance_of(layer)[-1]
    scan = source_of(layer, viewer)
    if scan is not None:
        return ExplainedSource(scan, config, position, described_input(made))
    facts = recorded_input(made)
    if facts is None:
        return None
    file = record.get("source")
    result = None if file is None else Path(file)
    return ExplainedSource(None, config, position, facts, result)


def evidence_steps(
    open_scan: ScanOpener,
    config: ExplainConfig,
    report: PorosityReport,
    should_stop: ShouldStop,
) -> Generator[Step, None, ExplainedPores]:
    """Explain every pore of a report.

    Raises
    ------
    GeoSRError
        If the scan's file is missing or changed, the open scan is not the one that was
        restored, the model cannot be explained, or no pore lies in the model's result.
    """
    scan = yield from open_scan(should_stop)
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
    table = features(explained)
    return ExplainedPores(report, explained, table, result, sentence, tuple(warnings))
