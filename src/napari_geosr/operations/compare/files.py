"""Files of a comparison: JSON, an HTML page, tables, and difference volumes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.measure.comparison import pictures
from napari_geosr.measure.comparison.fourier import CRITERIA
from napari_geosr.measure.comparison.page import quality_page
from napari_geosr.measure.comparison.report import QualityReport
from napari_geosr.measure.reports import export
from napari_geosr.operations.compare.config import CompareConfig
from napari_geosr.operations.earlier_files import EarlierFiles
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.measure.files import check as check
from napari_geosr.operations.measure.files import claimed as claimed
from napari_geosr.operations.measure.files import (
    existing_files,
    free_files,
    moved_error,
    safe_name,
)

#: Keys omitted from JSON files: they duplicate other entries, and
#: `QualityReport.to_dict` includes them only for compatibility with old scripts.
_DUPLICATE_KEYS = ("volume", "reference")


def plan(
    folder: str | Path, keys: Sequence[str], base: str, config: CompareConfig
) -> dict[str, Path]:
    """Name the files of a comparison.

    Parameters
    ----------
    folder : path
        Folder for the files; `write` creates it if it is missing.
    keys : sequence of str
        Keys of the volumes.
    base : str
        Key of the base volume, with which the others are compared.

    Returns
    -------
    dict
        Path by kind: ``json``, ``html``, ``figures``, ``spectra``; if requested,
        ``fourier`` and, for each other volume, ``pores KEY`` and ``difference KEY``.
    """
    folder = Path(folder).expanduser()
    files = {
        "json": folder / "report.json",
        "html": folder / "report.html",
        "figures": folder / "figures.csv",
        "spectra": folder / "spectra.csv",
    }
    if config.fsc != "none":
        files["fourier"] = folder / "fourier.csv"
    for key in keys:
        if key == base:
            continue
        if config.pores:
            files[f"pores {key}"] = folder / f"pores_{safe_name(key)}.csv"
        if config.difference:
            name = f"difference_{safe_name(key)}.ome.tif"
            files[f"difference {key}"] = folder / name
    return files


def earlier_files(files: Mapping[str, Path]) -> EarlierFiles:
    """Find files of an earlier comparison in the same folder."""
    key = "([A-Z]|reference)"
    names = rf"fourier\.csv|pores_{key}\.csv|difference_{key}\.ome\.tif"
    return EarlierFiles(files["json"], names)


def companions_by_name(
    mask: Volume | None, halves: tuple[Volume, Volume] | None
) -> dict[str, Volume]:
    """Return the other inputs of a comparison, keyed by their names in its record.

    The compared volumes are not included.
    """
    named = {"mask": mask}
    if halves is not None:
        named |= {"half 1": halves[0], "half 2": halves[1]}
    return {name: volume for name, volume in named.items() if volume is not None}


def write(
    files: Mapping[str, Path],
    volumes: Mapping[str, Volume],
    report: QualityReport,
    config: CompareConfig,
    *,
    companions: Mapping[str, Volume] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the files named by `plan`: all of them or, if the disk is full, none.

    Parameters
    ----------
    files : mapping of str to Path
    volumes : mapping of str to Volume
        The compared volumes.
    report : QualityReport
    config : CompareConfig
    companions : mapping of str to Volume, optional
        Other inputs for the record by name: sample mask, halves of a scan.
    overwrite : bool

    Raises
    ------
    FileError
        If the folder cannot be created, a file cannot be written or must not be
        overwritten, or is the source of one of the volumes. If files that must not be
        overwritten exist, the report is written to a new folder, which the message
        names.
    """
    for volume in volumes.values():
        check_not_source(volume, *files.values())
    record = provenance.record(
        "compare",
        inputs={**volumes, **(companions or {})},
        settings=config.model_dump(mode="json"),
    )
    existing, asked = existing_files(files), files
    if existing and not overwrite:  # the files were created during the comparison
        files = free_files(files)
    with ExitStack() as stack:
        stack.enter_context(atomic.created_folder(files["json"].parent))
        check(files, overwrite=overwrite)
        made = stack.enter_context(
            atomic.replacing_all(list(files.values()), overwrite=overwrite)
        )
        for key, difference in report.differences.items():
            target = files.get(f"difference {key}")
            if target is not None:
                with_record = difference.replace(provenance=(record,))
                io.write(with_record, made[target])
        values = {k: v for k, v in report.to_dict().items() if k not in _DUPLICATE_KEYS}
        export.write_json(made[files["json"]], {**values, "provenance": record})
        atomic.write_text(made[files["figures"]], report.to_dataframe().to_csv())
        atomic.write_text(made[files["spectra"]], _table(_spectrum_rows(report)))
        if "fourier" in files:
            atomic.write_text(made[files["fourier"]], _table(_fourier_rows(report)))
        for key in report.compared:
            if (target := files.get(f"pores {key}")) is not None:
                rows = _pore_rows(report, key)
                atomic.write_text(made[target], _table(rows))
        text = quality_page(
            report,
            title="Comparison of " + ", ".join(report.titles.values()),
            pictures=_pictures(report),
            records=[json.dumps(record, indent=2, ensure_ascii=False)],
        )
        atomic.write_text(made[files["html"]], text)
    if files is not asked:
        raise moved_error(asked, files, existing)


def _table(rows: Iterator[Sequence[object]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _spectrum_rows(report: QualityReport) -> Iterator[Sequence[object]]:
    yield "volume", f"frequency (1/{report.frame.length_unit})", "power"
    for name, spectrum in report.spectra.items():
        title = report.titles.get(name, name)
        for f, p in zip(spectrum.frequency, spectrum.power, strict=True):
            yield title, f"{f:.6g}", f"{p:.6g}"


def _fourier_rows(report: QualityReport) -> Iterator[Sequence[object]]:
    yield (
        "volumes",
        f"frequency (1/{report.frame.length_unit})",
        "correlation",
        *CRITERIA,
    )
    for name, curve in report.fourier.items():
        lines = [curve.threshold(criterion) for criterion in CRITERIA]
        for i, (f, c) in enumerate(
            zip(curve.frequency, curve.correlation, strict=True)
        ):
            levels = [f"{line[i]:.4f}" for line in lines]
            yield name, f"{f:.6g}", f"{c:.5f}", *levels


def _pore_rows(report: QualityReport, key: str) -> Iterator[Sequence[object]]:
    """Yield match status, position and sizes of each pore of the base or the volume."""
    axes, unit = report.frame.axes.lower(), report.frame.length_unit
    places = [f"{axis} ({unit})" for axis in axes]
    match = report.pores.get(key)
    power = match.unit if match is not None else unit
    yield (
        "status",
        *places,
        f"base volume ({power})",
        f"volume ({power})",
        "relative difference",
        "pores in base",
        "pores",
    )
    for change in match.changes if match is not None else ():
        mean = (change.base_volume + change.volume) / 2
        relative = (change.volume - change.base_volume) / mean
        yield (
            change.status,
            *(f"{p:.6g}" for p in change.position),
            f"{change.base_volume:.6g}",
            f"{change.volume:.6g}",
            f"{relative:.4f}",
            change.base_pores,
            change.pores,
        )


def _pictures(report: QualityReport) -> dict[str, dict[str, bytes]]:
    """Draw the page's figures as PNG; return them by caption and theme."""
    drawn: AnyDict = {}
    planes = {
        report.titles[key]: pictures.middle(volume.data, volume.shape)
        for key, volume in report.volumes.items()
    }
    differences = {
        volume.name: pictures.middle(volume.data, volume.shape)
        for volume in report.differences.values()
    }
    drawn["The middle slice of the common region, with the same contrast limits"] = (
        lambda theme: pictures.slices_png(planes, differences, theme=theme)
    )
    if report.fourier:
        drawn["Fourier correlation, with the threshold curves"] = lambda theme: (
            pictures.fourier_png(report, theme=theme)
        )
    if report.spectra:
        drawn["Power spectra of slices"] = lambda theme: pictures.spectra_png(
            report, theme=theme
        )
    if any(len(match.of("matched")) for match in report.pores.values()):
        drawn["Volumes of matched pores (Bland and Altman)"] = lambda theme: (
            pictures.bland_altman_png(report, theme=theme)
        )
    return {
        caption: {theme: draw(theme) for theme in ("light", "dark")}
        for caption, draw in drawn.items()
    }
