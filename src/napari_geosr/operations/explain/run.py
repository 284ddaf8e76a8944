"""Explains a voxel, a pore, or every pore of a table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.attribution import METHODS, AttributionRequest, AttributionResult
from napari_geosr.attribution._trunk import TrainingPatches, training_patches
from napari_geosr.attribution._window import ExplainedScan
from napari_geosr.core import provenance
from napari_geosr.core.errors import ConfigError, ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    PartDone,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.edge_blur import ScanBlur
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.explain.blur import scan_blur
from napari_geosr.operations.explain.config import ExplainConfig
from napari_geosr.operations.explain.sentences import sentence_of, table_warnings
from napari_geosr.operations.explain.targets import (
    ExplainedRegion,
    Explanation,
    PoreRow,
    StoredPoreTable,
    foreign_table_warning,
    pore_at,
    pores_of,
    read_pores,
    voxel_of,
    voxel_target,
)
from napari_geosr.operations.restore import (
    PreparedRestoration,
    RestoreConfig,
    with_noise,
)
from napari_geosr.operations.restore import prepare_steps as prepare_restoration_steps

#: Codes of the verdicts in a verdict volume.
VERDICTS = {"well supported": 1, "weak": 2, "prior only": 3}


@dataclass(frozen=True, eq=False)
class PreparedExplanation:
    """A scan and a model, prepared once for any number of explanations.

    Attributes
    ----------
    restoration : PreparedRestoration
        The restoration to explain, with its network, noise and grey scale.
    """

    restoration: PreparedRestoration
    config: ExplainConfig
    scene: ExplainedScan
    noise: Callable[[], Noise]
    network_for_noise: Callable[[float], Any]
    record: AnyMapping
    scan_blur: Callable[[], ScanBlur]
    training: TrainingPatches | None = None

    @property
    def volume(self) -> Volume:
        return self.restoration.volume


@dataclass(frozen=True, eq=False)
class ExplainResult:
    """Explanations, in the order of the pore table if there is one.

    Attributes
    ----------
    missing : tuple of PoreRow
        Pores of the table that were not found in the result or could not be explained.
    verdicts : Volume or None
        Verdicts on the pores of a table, on the scan's grid: 1 well supported, 2 weak,
        3 prior only.
    """

    prepared: PreparedExplanation
    explanations: tuple[Explanation, ...]
    table: StoredPoreTable | None = None
    missing: tuple[PoreRow, ...] = ()
    verdicts: Volume | None = None

    @property
    def sentence(self) -> str:
        """The main finding."""
        if self.table is None:
            return self.explanations[0].sentence
        return _table_sentence(self)

    def to_json_dict(self) -> AnyDict:
        """Return all results as JSON-serialisable values."""
        prepared = self.prepared
        n = len(prepared.volume.axes)
        return {
            "sentence": self.sentence,
            "scan": prepared.volume.name,
            "model": prepared.restoration.model.card.name,
            "voxels": "of the result",
            "axes": prepared.volume.axes,
            "scale": list(prepared.scene.layout.scale[-n:]),
            "unit": prepared.volume.unit,
            "places": [_described(prepared, each) for each in self.explanations],
            "missing": [row.label for row in self.missing],
            "provenance": dict(prepared.record),
        }


def explain_steps(
    volume: Volume,
    config: ExplainConfig,
    pores: str | Path | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ExplainResult]:
    """Explain the region named in the settings, or the pores of a table.

    Parameters
    ----------
    volume : Volume
        The scan, not the restoration.
    pores : path, optional
        Pore table written by ``measure`` for the result of the same model.

    Raises
    ------
    ConfigError
        If no region or more than one region is named.
    FileError
        If the table cannot be read.
    VolumeError, ModelError
        If the region is outside the result, or the model cannot be explained.
    """
    table = None
    if pores is not None:
        if config.at is not None or config.position is not None:
            raise ConfigError("Give a voxel (--at) or pores (--pores), not both.")
        table = read_pores(pores)
    elif config.at is None and config.position is None:
        raise ConfigError(
            "Specify what to explain: a voxel (--at), a position (--position) or "
            "pores (--pores)."
        )
    prepared = yield from prepare_steps(volume, config, should_stop=should_stop)
    if table is not None:
        return (yield from explain_pores_steps(prepared, table))
    at = voxel_of(prepared.volume, prepared.scene, config.at, config.position)
    found = yield from explain_place_steps(prepared, at)
    return ExplainResult(prepared, (found,))


def prepare_steps(
    volume: Volume, config: ExplainConfig, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, PreparedExplanation]:
    """Prepare a scan and a model for repeated calls of `explain_place_steps`.

    Raises
    ------
    ModelError
        If no model was chosen, or the model is unknown or outputs labels.
    """
    if config.model == "auto":
        raise ModelError(
            "An explanation refers to the model that restored the scan: give its name "
            "(--model) instead of auto."
        )
    restore_config = RestoreConfig.create(
        model=config.model,
        device=config.device,
        nonfinite=config.nonfinite,
        threads=config.threads,
        strength=config.strength,
        sharpness=config.sharpness,
    )
    restoration = yield from prepare_restoration_steps(
        volume, restore_config, should_stop=should_stop
    )
    if restoration.labels:
        raise ModelError(
            f"The model {restoration.model.card.name!r} outputs labels, which have "
            "neither derivatives nor contrast: choose one that restores grey values."
        )
    scene = ExplainedScan(
        restoration.network,
        restoration.volume.data,
        restoration.statistics,
        restoration.device,
        config.threads,
        config.nonfinite,
        should_stop,
    )
    training = None
    if "similar" in config.method:
        training = training_patches(restoration.model, scene)
    record = yield from provenance.record_steps(
        "explain",
        inputs={"scan": restoration.volume},
        settings=config.model_dump(mode="json"),
        model=_about(restoration),
        should_stop=should_stop,
    )
    noise = cache(lambda: _noise_of(restoration))
    blur = cache(lambda: scan_blur(restoration.seen_volume))
    network_for_noise = cache(lambda factor: with_noise(restoration, factor).network)
    return PreparedExplanation(
        restoration, config, scene, noise, network_for_noise, record, blur, training
    )


def _about(restoration: PreparedRestoration) -> AnyDict:
    card = restoration.model.card
    return {"name": card.name, "weights_sha256": card.weights_sha256}


def _noise_of(restoration: PreparedRestoration) -> Noise:
    if restoration.noise is not None:
        return restoration.noise
    return estimate_noise(restoration.seen_volume)


def explain_place_steps(
    prepared: PreparedExplanation, at: tuple[int, int, int], *, pore: bool = False
) -> Generator[Step, None, Explanation]:
    """Explain the pore at a voxel of the result (Z, Y, X), or the voxel itself.

    Parameters
    ----------
    pore : bool
        Whether all methods explain the pore, if there is one. By default, they do so
        only if the method ``evidence`` is selected.
    """
    config, scene = prepared.config, prepared.scene
    target = None
    needs_pore = "evidence" in config.method
    if needs_pore or pore:
        yield StageStarted(message="Measuring the noise")
        noise = prepared.noise()
        yield StageStarted(message="Looking for the pore")
        target = pore_at(
            scene, at, config.threshold, config.phase or "dark", noise.contrast
        )
    if target is None:
        target = voxel_target(scene, at, config.radius)
    names = [n for n in config.method if n != "evidence" or target.kind == "pore"]
    if needs_pore and target.kind != "pore":
        yield WarningIssued(
            message="There is no pore at this voxel, so there is no evidence to "
            "evaluate. If Otsu's threshold does not detect the pore, set another one "
            "(--threshold)."
        )
        if not names:
            raise ConfigError(
                "There is no pore at this voxel: choose one in a pore, or another "
                "method (--method reach)."
            )
    found = yield from _find_region_steps(prepared, target, names)
    if found.n_missing:
        yield WarningIssued(
            message=f"{found.n_missing:,} of {found.n_inputs:,} input voxels are NaN "
            "or infinite. For these voxels, the network receives the replacement value "
            "(--nonfinite)."
        )
    for note in found.notes:
        yield WarningIssued(message=note)
    return found


def _find_region_steps(
    prepared: PreparedExplanation,
    target: ExplainedRegion,
    names: Sequence[str],
    row: PoreRow | None = None,
) -> Generator[Step, None, Explanation]:
    """Run the methods on a region, and convert their attributions to volumes."""
    request = _request(prepared, target)
    findings = {}
    for name in names:
        findings[name] = yield from METHODS.load(name).explain(request)
    overlays = {
        name: _overlay(prepared, name, finding)
        for name, finding in findings.items()
        if finding.overlay is not None
    }
    sentence = sentence_of(target, findings)
    window = request.window
    return Explanation(
        target,
        findings,
        sentence,
        overlays,
        row,
        window.n_missing,
        window.network_input.size,
    )


def _request(
    prepared: PreparedExplanation, target: ExplainedRegion
) -> AttributionRequest:
    config, volume = prepared.config, prepared.volume
    size = (min(volume.voxel_size), *volume.voxel_size)[-3:]
    return AttributionRequest(
        prepared.scene,
        target.region,
        target.mask,
        (size[0], size[1], size[2]),
        {PIXEL: "voxels"}.get(volume.unit, volume.unit),
        prepared.noise,
        prepared.network_for_noise,
        target.threshold,
        target.phase,
        draws=config.draws,
        steps=config.steps,
        blur=config.blur,
        feature=config.feature,
        patch=config.patch,
        margin=config.margin,
        seed=config.seed,
        scan_blur=prepared.scan_blur,
        training=prepared.training,
    )


def _overlay(
    prepared: PreparedExplanation, name: str, finding: AttributionResult
) -> Volume:
    """Return the attributions as a volume on the scan's grid, at their position."""
    volume, found = prepared.volume, finding.overlay
    assert found is not None
    n = len(volume.axes)
    start = [part.start for part in found.place[-n:]]
    origin = tuple(
        o + i * v
        for o, i, v in zip(volume.origin, start, volume.voxel_size, strict=True)
    )
    record = {**prepared.record, "method": name, "meaning": found.meaning}
    return Volume(
        found.values if n == 3 else found.values[0],
        volume.axes,
        volume.voxel_size,
        volume.unit,
        origin,
        name=f"{volume.name} · {name}",
        provenance=(*volume.provenance, record),
    )


def explain_pores_steps(
    prepared: PreparedExplanation, table: StoredPoreTable
) -> Generator[Step, None, ExplainResult]:
    """Explain every pore of a table.

    Yields
    ------
    PartDone
        For each pore.
    WarningIssued
        Once for each distinct warning of the methods; warnings about unknown voxels
        and about limitations are combined for all pores.
    """
    config = prepared.config
    yield StageStarted(message=f"Explaining {len(table.rows)} pores")
    found, missing, total = [], [], len(table.rows)
    warned: set[str] = set()
    if text := foreign_table_warning(table, prepared.record["inputs"]["scan"]):
        yield WarningIssued(message=text)
    pores = pores_of(prepared.scene, table, config.threshold, config.phase)
    for i, (row, target) in enumerate(pores):
        if target is None:
            missing.append(row)
        else:
            try:
                steps = _find_region_steps(prepared, target, config.method, row)
                found.append((yield from _new_warnings(steps, warned)))
            except VolumeError as error:
                # For example, there may be no solid next to the pore.
                yield WarningIssued(message=f"Pore {row.label}: {error}")
                missing.append(row)
        yield PartDone(i + 1, total)
    if not found:
        raise ConfigError(
            f"None of the {total} pores of {table.path} was found in the result of "
            f"{prepared.restoration.model.card.name}: use the table measured on this "
            "model's restoration of the scan."
        )
    for message in table_warnings(found, missing):
        yield WarningIssued(message=message)
    verdicts = _verdict_volume(prepared, found) if "evidence" in config.method else None
    return ExplainResult(prepared, tuple(found), table, tuple(missing), verdicts)


def _new_warnings(
    steps: Generator[Step, None, Explanation], warned: set[str]
) -> Generator[Step, None, Explanation]:
    """Yield only the warnings that are not yet in `warned`, without progress steps."""
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, WarningIssued) and step.message not in warned:
                warned.add(step.message)
                yield step
    return iterator.result


def _verdict_volume(
    prepared: PreparedExplanation, found: Sequence[Explanation]
) -> Volume:
    """Return the verdicts on the pores as a label volume on the scan's grid."""
    volume, layout = prepared.volume, prepared.scene.layout
    codes = np.zeros(layout.shape, np.uint8)
    for each in found:
        verdict = each.findings["evidence"].figures["verdict"]
        fine = np.argwhere(each.target.mask) + [p.start for p in each.target.region]
        codes[tuple((fine // layout.scale).T)] = VERDICTS[verdict]
    record = {**prepared.record, "method": "evidence", "meaning": str(VERDICTS)}
    return Volume(
        codes if layout.ndim == 3 else codes[0],
        volume.axes,
        volume.voxel_size,
        volume.unit,
        volume.origin,
        name=f"{volume.name} · evidence",
        provenance=(*volume.provenance, record),
        metadata={"kind": "labels"},
    )


def _table_sentence(result: ExplainResult) -> str:
    n = len(result.explanations)
    if "evidence" not in result.prepared.config.method:
        return f"{n} pores were explained."
    verdicts = [e.findings["evidence"].figures["verdict"] for e in result.explanations]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in VERDICTS)
    return f"Of {n} pores: {counts}."


def _described(prepared: PreparedExplanation, found: Explanation) -> AnyDict:
    """Return the explanation of one region as JSON-serialisable values."""
    volume, layout = prepared.volume, prepared.scene.layout
    n = len(volume.axes)
    target = found.target
    size, origin = volume.upscaled_geometry(layout.scale[-n:])
    at = target.at[-n:]
    return {
        "kind": target.kind,
        "label": None if found.row is None else found.row.label,
        "at": list(at),
        "at_in_scan": [i // s for i, s in zip(at, layout.scale[-n:], strict=True)],
        "position": [o + i * v for o, i, v in zip(origin, at, size, strict=True)],
        "region": [[part.start, part.stop] for part in target.region[-n:]],
        "voxels": int(target.mask.sum()),
        "threshold": target.threshold,
        "sentence": found.sentence,
        "notes": list(found.notes),
        **{name: dict(finding.figures) for name, finding in found.findings.items()},
    }
