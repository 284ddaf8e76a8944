"""Operations of the Porosity dock that run in a worker."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_geosr.core.provenance import IS_IN_FILE
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.layers import part_of_file, volume_beside
from napari_geosr.gui.layers.contents import checksum_of, is_untouched
from napari_geosr.gui.layers.geometry import (
    check_same_rotation,
    layer_type,
    origin_along,
)
from napari_geosr.gui.layers.saving import confirm_overwrite
from napari_geosr.gui.porosity import pore_layers
from napari_geosr.gui.porosity.drawn_sample import sample_volume
from napari_geosr.gui.porosity.pore_layers import PoreTarget
from napari_geosr.jobs.handover import LayerVolume, StoppedMeasurement
from napari_geosr.operations.measure import (
    MeasureConfig,
    measure_record,
    measure_several_steps,
    named_warnings,
)
from napari_geosr.operations.measure import files as report_files
from napari_geosr.operations.measure.grey_levels import histogram_steps, one_volume
from napari_geosr.operations.measure.mask import align_mask
from napari_geosr.operations.measure.sampled import SampledPorosity, sampled_porosities

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport
    from napari_geosr.operations.measure.grey_levels import GreyLevels


@dataclass
class PoreMeasurement:
    """A measurement as kept by the dock: inputs, settings and results.

    The volumes keep their names, axes and geometry but no voxels, so that removing a
    layer frees its memory.

    Attributes
    ----------
    checksums : dict of str to int
        Checksums of the labels, by key of the report.
    into : dict of str to weak reference
        Layers of earlier measurements that can be reused for the labels.
    notes : tuple of str
        What was kept of the user's changes to the previous results, and what was not.
    origins : dict of str to dict
        The images measured, by key of the report (`PoreTarget.origin`).
    edited : str
        Warning that layers were edited during the measurement; empty if not.
    """

    volumes: dict[str, Volume]
    config: MeasureConfig
    reports: dict[str, PorosityReport]
    record: AnyDict
    features: AnyDict
    checksums: dict[str, int] = field(default_factory=dict)
    into: dict[str, weakref.ref[Labels]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origins: dict[str, AnyDict] = field(default_factory=dict)
    edited: str = ""

    @property
    def position(self) -> str:
        """The time point and channel of the first image; empty if it has none."""
        key = next(iter(self.reports))
        return pore_layers.position_text(self.origins.get(key, {}))

    @property
    def warnings(self) -> list[str]:
        """Warnings of all reports, with the names of the images if there are two."""
        return named_warnings({k: r.warnings for k, r in self.reports.items()})

    @property
    def samples(self) -> dict[str, SampledPorosity]:
        """Porosities of the samples of which the images are means, if they are."""
        found = {
            key: sampled_porosities(self.volumes[key], report)
            for key, report in self.reports.items()
        }
        return {key: one for key, one in found.items() if one is not None}

    def without_labels(self) -> PoreMeasurement:
        """Return a copy without labels and masks, which are now stored in layers."""
        reports = {
            key: replace(r, labels=None, sample_mask=None)
            for key, r in self.reports.items()
        }
        return replace(self, reports=reports)


def levels_steps(
    volume: Volume, mask: Volume | None, should_stop: ShouldStop
) -> Generator[Step, None, GreyLevels]:
    """Read the grey values inside the mask, and prepare the preview."""
    steps = histogram_steps(volume, mask, should_stop=should_stop)
    levels = yield from steps
    pore_layers.warm_up()
    return levels


def measured_steps(
    volumes: Mapping[str, Volume],
    config: MeasureConfig,
    mask: Volume | None,
    targets: Mapping[str, PoreTarget],
    should_stop: ShouldStop,
    deviation: Volume | None = None,
) -> Generator[Step, None, PoreMeasurement]:
    """Measure pores, create the record, and find layers to reuse, all in a worker.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Volumes by the names of their layers.
    config : MeasureConfig
    mask : Volume or None
        Sample mask.
    targets : mapping of str to PoreTarget
        Where to show the pores of each volume.
    should_stop : callable
    deviation : Volume, optional
        Standard deviations of the first volume.
    """
    steps = measure_several_steps(
        volumes, config, mask, deviation=deviation, should_stop=should_stop
    )
    reports = yield from steps
    yield StageStarted(message="Saving the measurement record")
    companions = {"mask": mask, "deviation": deviation}
    record = measure_record(volumes, config, companions)
    known = {key: without_voxels(v) for key, v in volumes.items()}
    tables = {key: pore_layers.features(r) for key, r in reports.items()}
    measured = PoreMeasurement(known, config, reports, record, tables)
    return _with_layers(measured, targets, should_stop)


@dataclass(frozen=True)
class MeasuringInput:
    """The volumes and settings of a measurement.

    Attributes
    ----------
    volumes : dict of str to Volume
        The image and the volume to compare it with, by the names of their layers.
    config : MeasureConfig
    mask, deviation : Volume or None
        Sample mask, and standard deviations of the image.
    targets : dict of str to PoreTarget
        Where to show the pores of each volume.
    sources : dict of weakref
        Layers of the volumes.
    """

    volumes: dict[str, Volume]
    config: MeasureConfig
    mask: Volume | None
    deviation: Volume | None
    targets: dict[str, PoreTarget]
    sources: dict[str, weakref.ref[Layer]]

    @classmethod
    def of(
        cls,
        layers: Mapping[str, Layer | None],
        config: MeasureConfig,
        viewer: napari.viewer.Viewer,
    ) -> MeasuringInput:
        """Return the input of a measurement, given layers by role, such as ``"data"``.

        Raises
        ------
        GeoSRError
            If a layer cannot be used.
        """
        image, spread = layers["data"], layers["deviation"]
        assert image is not None
        measured = [one for one in (image, layers["reference"]) if one is not None]
        volumes = {
            one.name: volume_beside(one, image, viewer, fields=["reference"])
            for one in measured
        }
        sample = sample_volume(layers["mask"], image, viewer)
        if sample is not None:
            align_mask(sample, one_volume(volumes[image.name]))  # refuses a misfit
        return cls(
            volumes,
            config,
            sample,
            None
            if spread is None
            else volume_beside(spread, image, viewer, fields=["deviation"]),
            {one.name: PoreTarget.of(one, viewer) for one in measured},
            {one.name: weakref.ref(one) for one in measured},
        )

    def steps(self, should_stop: ShouldStop) -> Generator[Step, None, PoreMeasurement]:
        """Measure in a worker."""
        return measured_steps(
            self.volumes,
            self.config,
            self.mask,
            self.targets,
            should_stop,
            self.deviation,
        )


def _with_layers(
    measured: PoreMeasurement,
    targets: Mapping[str, PoreTarget],
    should_stop: ShouldStop,
) -> PoreMeasurement:
    """Find a layer to reuse for each report: one that the user has not edited."""
    checksums, into, kept = {}, {}, []
    for key, report in measured.reports.items():
        if report.labels is None:
            continue
        checksums[key] = checksum_of(report.labels, should_stop)
        for reference in targets[key].earlier:
            layer = reference()
            if layer is None:
                continue
            if is_untouched(layer, should_stop):
                into[key] = reference
                break
            kept.append(layer.name)
    origins = {key: target.origin for key, target in targets.items()}
    notes = measured.notes
    if kept:
        notes += (
            f"Labels changed by hand are kept ({', '.join(kept)}); the new labels are "
            "in a separate layer.",
        )
    return replace(
        measured, checksums=checksums, into=into, notes=notes, origins=origins
    )


def with_edits(measured: PoreMeasurement, edited: list[str]) -> PoreMeasurement:
    """Add a warning to the reports if layers were edited while they were measured."""
    if not edited:
        return measured
    again = "Press Measure to measure"
    warning = edit_warning(edited, "measurement", "these results", again)
    reports = {
        key: replace(report, warnings=(warning, *report.warnings))
        for key, report in measured.reports.items()
    }
    return replace(measured, reports=reports, edited=warning)


def edit_warning(edited: Sequence[str], action: str, results: str, again: str) -> str:
    """Return a warning about layers edited during an operation; may be empty.

    Parameters
    ----------
    edited : sequence of str
        Names of the layers.
    action, results : str
        Words for the message, such as "measurement" and "these results".
    again : str
        What the user should do, without the word "again".
    """
    if not edited:
        return ""
    names = " and ".join(map(repr, edited))
    return (
        f"{names} {'was' if len(edited) == 1 else 'were'} edited during the {action}, "
        f"so {results} may combine values from before and after the edit. {again} "
        "again."
    )


def with_groups_of(
    measured: PoreMeasurement, before: PoreMeasurement | None
) -> PoreMeasurement:
    """Add the groups of pores that the user kept in the previous measurement.

    Groups are kept only if the pores are the same; otherwise, a note says that they
    were removed.
    """
    if before is None:
        return measured
    reports, tables = dict(measured.reports), dict(measured.features)
    dropped: dict[str, str] = {}
    for earlier, old in before.reports.items():
        origin = before.origins.get(earlier)
        key = next((k for k, o in measured.origins.items() if o == origin), earlier)
        new = reports.get(key)
        names = [name for name in old.groups if name in old.table]
        if new is None or not names:
            continue
        column = old.size_column
        is_same = (
            origin == measured.origins.get(key)
            and before.checksums.get(earlier) == measured.checksums.get(key)
            and np.array_equal(old.table[column], new.table.get(column, ()))
        )
        for name in names:
            if is_same and name not in new.table:
                new = new.with_group(name, old.table[name], old.groups[name])
            else:
                dropped[name] = old.groups[name].text or "selected by hand"
        reports[key], tables[key] = new, pore_layers.features(new)
    notes = measured.notes
    if dropped:
        named = "; ".join(f"{name} ({how})" for name, how in dropped.items())
        notes += (f"Groups from the previous measurement were removed: {named}.",)
    return replace(measured, reports=reports, features=tables, notes=notes)


def stopped_measurement(
    layers: Mapping[str, Layer | None],
    config: MeasureConfig,
    viewer: napari.viewer.Viewer,
) -> StoppedMeasurement:
    """Return the input for a job that measures these layers in place of the dock.

    Raises
    ------
    VolumeError
        If a layer is rotated relative to the image.
    """
    mask, image = layers["mask"], layers["data"]
    assert image is not None
    found = {}
    for role, layer in layers.items():
        if layer is not None and layer_type(layer) != "shapes":
            check_same_rotation(layer, image, [role])
            volume, part = part_of_file(layer, viewer)
            placed = volume.replace(origin=origin_along(layer, image))
            found[role] = LayerVolume(placed, part)
    if "mask" not in found and mask is not None:
        drawn = sample_volume(mask, image, viewer)
        assert drawn is not None
        found["mask"] = LayerVolume(drawn, {})
    return StoppedMeasurement(found, config)


def without_voxels(volume: Volume) -> Volume:
    """Return a volume of the same shape, type and geometry that uses no memory."""
    nothing = np.broadcast_to(np.zeros((), volume.dtype), volume.shape)
    # Omit the function that checks for edits: it keeps the layer's voxels in memory.
    metadata = {k: v for k, v in volume.metadata.items() if k != IS_IN_FILE}
    return volume.replace(data=nothing, metadata=metadata)


#: Suffix of the file that the user names; the other files have the same folder and
#: stem.
_SUFFIX = "_report.html"


@dataclass(frozen=True)
class ExportedReport:
    """The folder with the files of a report, and remarks on earlier files there."""

    folder: Path
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Message about the export."""
        return " ".join([f"The report is in {self.folder}.", *self.remarks])


def export_dialog(
    parent: QWidget,
    measured: PoreMeasurement,
) -> Callable[[ShouldStop], Generator[Step, None, ExportedReport]] | None:
    """Ask for the folder and name, and whether to overwrite existing files.

    Returns
    -------
    callable or None
        Returns the steps that write the files; None if the user cancels.
    """
    chosen = ask_report_path(parent, next(iter(measured.reports)))
    if chosen is None:
        return None
    stem = chosen.name.removesuffix(".html").removesuffix("_report")
    files = report_files.plan(
        chosen.parent,
        list(measured.reports),
        stem=stem,
        statistics=measured.config.statistics,
    )
    earlier = report_files.earlier_files(files)
    existing = [path.name for path in files.values() if path.exists()]
    existing += [name for name in earlier.removable if name not in existing]
    if existing and not confirm_overwrite(parent, chosen.parent, existing):
        return None

    def steps(should_stop: ShouldStop) -> Generator[Step, None, ExportedReport]:
        """Write the report's files, and remove those of the report it replaces."""
        yield StageStarted(message="Writing the report")
        report_files.check(files, overwrite=True)
        written = report_files.write(
            files,
            measured.volumes,
            measured.reports,
            measured.config,
            # Use the record made when measuring, because the file may have changed.
            record=measured.record,
        )
        remarks = earlier.remove(written.values(), measured.volumes.values())
        return ExportedReport(chosen.parent, tuple(remarks))

    return steps


def ask_report_path(parent: QWidget, name: str) -> Path | None:
    """Ask for the report's name, with which all file names start."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    chosen, _ = QFileDialog.getSaveFileName(
        parent,
        "Export results and table as…",
        f"{safe}{_SUFFIX}",
        "Report: CSV, JSON, PNG and HTML (*.html)",
        # Overwriting is confirmed for all files together below.
        options=QFileDialog.Option.DontConfirmOverwrite,
    )
    return Path(chosen) if chosen else None
