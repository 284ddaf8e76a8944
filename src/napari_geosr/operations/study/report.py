"""Writes the report of a study, a self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from napari_geosr.core.config import format_bytes
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.measure.reports.html import STYLE, png_source
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.figures import (
    Picture,
    Theme,
    curves_png,
    table_png,
    volumes_png,
)
from napari_geosr.operations.study.judge import VOLUMES_PER_DECADE
from napari_geosr.operations.study.result import StudySummary
from napari_geosr.operations.study.subset import ScanSubset, all_subsets, share_text

if TYPE_CHECKING:
    from rich.table import Table

PicturesOf = Callable[[ScanSubset, str], Mapping[str, Picture]]
#: Maximum number of rows of pictures.
_MAX_PICTURE_ROWS = 5


def write_report(
    done: StudySummary,
    scan: Projections,
    config: StudyConfig,
    record: AnyMapping,
    pictures: PicturesOf,
    reference_pictures: Mapping[str, Picture],
) -> None:
    """Write ``report.html``.

    Parameters
    ----------
    record : mapping
        Provenance, shown at the end of the page.
    pictures : callable
        Returns the pictures of a cell (keys ``slice`` and ``pores``) for a subset of
        the scan and the name of an algorithm.
    reference_pictures : mapping
        Returns the pictures of the reference.
    """
    shorter = min(config.exposure) < 1
    how = "How few projections" + (", how short an exposure" if shorter else "")
    title = f"{how}: {scan.name}"
    names = list(config.algorithms)
    themes: tuple[Theme, Theme] = ("light", "dark")
    curves = [curves_png(done.rows, names, t, config.tolerance) for t in themes]
    slices, pores = (
        _pictures(done, config, scan, kind, pictures, reference_pictures.get(kind))
        for kind in _KINDS
    )
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        _cards(done, config, scan),
        f"<p>{_method_text(done, config, scan)}</p>",
        "<h2>Errors</h2>",
        _themed_picture("Measured values by number of projections or exposure", curves),
        f"<p><small>Shaded: porosity within ±{100 * config.tolerance:.0f} "
        "%.</small></p>",
        *_maps(done, config),
        *_volumes(done, names, themes),
        "<h2>Measured values</h2>",
        _table(_HEAD, [_cells(row) for row in done.rows]),
        *_remarks(done),
        *_settings(done.rows),
        "<h2>Savings</h2>",
        _table(_SAVED, _savings_rows(done, scan)),
        f"<p><small>{_factors(config)}</small></p>",
    ]
    for heading, picture in (("Slices", slices), ("Pores", pores)):
        parts.append(
            f'<h2>{heading}</h2><figure><img alt="{heading}" '
            f'src="{png_source(picture)}"></figure>'
        )
    text = json.dumps(dict(record), indent=2, ensure_ascii=False)
    parts.append(f"<h2>What was measured</h2><p><small>{_NOTES}</small></p>")
    parts.append(
        f"<details><summary>Record</summary><pre>{escape(text)}</pre></details>"
        "</body></html>\n"
    )
    atomic.write_text(done.files["html"], "\n".join(parts), overwrite=True)


def _themed_picture(alt: str, pictures: Sequence[bytes]) -> str:
    light, dark = map(png_source, pictures)
    return (
        '<figure><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{dark}"><img alt="{alt}" src="{light}"></picture></figure>'
    )


def _maps(done: StudySummary, config: StudyConfig) -> list[str]:
    """Tabulate porosity errors by exposure and projections, if both were varied."""
    if min(len(config.counts), len(config.exposure)) < 2:
        return []
    parts = ["<h2>Porosity error by exposure and projections</h2>"]
    for name in config.algorithms:
        mine = [row for row in done.rows if row["algorithm"] == name]
        rows = {ScanSubset.of(row): row for row in mine}
        if name == "fbp":  # the whole scan is not a cell, so add it
            rows[ScanSubset.of(done.rows[0])] = done.rows[0]
        body = []
        for exposure in config.exposure:
            line = [share_text(exposure)]
            for count in config.counts:
                row = rows.get(ScanSubset(count, exposure), {})
                error = row.get("porosity_error")
                right = error is not None and abs(error) <= config.tolerance
                line.append(percent(error) + (" ✓" if right else ""))
            body.append(line)
        parts.append(f"<h3>{escape(str(mine[0]['title']))}</h3>")
        parts.append(_table(["Exposure", *map(str, config.counts)], body))
    parts.append(f"<p><small>✓: within ±{100 * config.tolerance:.0f} %.</small></p>")
    return parts


def _volumes(
    done: StudySummary, names: Sequence[str], themes: Sequence[Theme]
) -> list[str]:
    """Draw histograms of pore volumes; omit cells of older releases without them."""
    key = "pore_volume_counts"
    rows = [row for row in done.rows if row.get(key) and row["algorithm"] in names]
    if not rows:
        return []
    true = done.reference.get(key) or []
    pictures = [volumes_png(rows, names, true, VOLUMES_PER_DECADE, t) for t in themes]
    return [
        "<h2>Pore volumes</h2>",
        _themed_picture("Histograms of pore volumes", pictures),
        "<p><small>Number of pores by volume, four bins per decade; grey: the "
        "reference.</small></p>",
    ]


def _remarks(done: StudySummary) -> list[str]:
    """Return remarks for interpreting the results."""
    items = "".join(f"<li>{escape(text)}</li>" for text in done.warnings)
    return [f"<ul>{items}</ul>"] if items else []


def _settings(rows: Sequence[AnyMapping]) -> list[str]:
    """Tabulate the settings chosen for each cell, and its training data."""
    table = []
    for row in rows:
        known = {k: v for k, v in (row.get("settings") or {}).items() if v is not None}
        found = {word: known.pop(key, "") for key, word in _LEARNED.items()}
        own = ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in known.items())
        by = "; ".join(f"{word} {text}" for word, text in found.items() if text)
        if own or by:
            table.append([ScanSubset.of(row).short, str(row["title"]), own, by])
    if not table:
        return []
    head = ("Projections", "Algorithm", "Settings", "Learned")
    return [
        f"<details><summary>Settings</summary>{_table(head, table)}</details>",
    ]


#: Words that introduce the data with which a network was trained or settings were
#: chosen, by the key of the description.
_LEARNED = {"learned_from": "from", "tuned_on": "chosen by"}
_KINDS = ("slice", "pores")
_NOTES = (
    "All reconstructions are thresholded by the same rule, each at its own grey value, "
    "and measured in the same sample. Porosity is pore voxels ÷ sample voxels. Only "
    "pores of at least the minimum size are counted. Pore-volume distance: "
    "Wasserstein-1 distance between the log10 volumes of the counted pores; 1 means "
    "a factor of ten. Euler number: computed for the pores, with voxels connected "
    "through faces, edges and corners. Connectivity: loops minus enclosed solids per "
    "mm³, which is (number of pores − Euler number) ÷ sample volume. Dice: overlap "
    "with the pores of the reference. PSNR: within the sample, relative to the "
    "contrast between solid and pores in the reference. SSIM: mean over up to 8 whole "
    "slices, including the air around the sample, with a Gaussian window of standard "
    "deviation 1.5 pixels. Errors are relative to the reference and signed. The "
    "rendering shows the pores in the centre of the evaluated rows, darker with "
    "distance. Times were measured on this computer, for the evaluated rows."
)
_HEAD = (
    "Projections",
    "Algorithm",
    "Porosity",
    "error",
    "Pores per mm³",
    "error",
    "Volumes (W1)",
    "Euler number",
    "error",
    "Connectivity per mm³",
    "Dice",
    "PSNR",
    "SSIM",
    "Seconds",
    "Training",
)
_SAVED = (
    "Projections",
    "Time",
    "Data",
    "Hours",
    "Size",
    "Synchrotron",
    "CO2eq",
    "Laboratory",
    "CO2eq",
)


def number(value: float | None, digits: int = 3) -> str:
    """Format a number as text; "–" if it is unknown."""
    return "–" if value is None else f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """Format a signed relative error as text."""
    return "–" if value is None else f"{100 * value:+.1f} %"


def _cells(row: AnyMapping) -> list[str]:
    if "failed" in row:
        first = [ScanSubset.of(row).short, str(row["title"]), "failed"]
        return first + [""] * (len(_HEAD) - len(first))
    density = row["pores_per_mm3"]
    seconds = f"{row['seconds']:.1f} s"
    return [
        ScanSubset.of(row).short,
        str(row["title"]),
        f"{100 * row['porosity']:.2f} %",
        percent(row["porosity_error"]),
        f"{row['pore_count']} pores" if density is None else number(density, 4),
        percent(row["pores_per_mm3_error"]),
        number(row["volume_histogram_distance"]),
        str(row["euler_number"]),
        percent(row["euler_error"]),
        number(row["connectivity_per_mm3"]),
        number(row["dice"]),
        "–" if row["psnr"] is None else f"{row['psnr']:.1f} dB",
        number(row["ssim"]),
        seconds,
        f"{row['training_seconds']:.0f} s" if row["training_seconds"] else "–",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(word)}</th>' for word in head)
    body = []
    for row in rows:
        first = f'<th scope="row">{escape(row[0])}</th>'
        rest = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        body.append(f"<tr>{first}{rest}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _savings_rows(done: StudySummary, scan: Projections) -> list[list[str]]:
    return [
        [
            ScanSubset.of(row).short,
            f"{row['time_factor']:.3g} × less",
            f"{row['data_factor']:.3g} × less",
            number(row["hours"]),
            format_bytes(row["bytes"]),
            f"{row['synchrotron_kilowatt_hours']:.3g} kWh",
            f"{row['synchrotron_kilograms_co2eq']:.3g} kg",
            f"{row['laboratory_kilowatt_hours']:.3g} kWh",
            f"{row['laboratory_kilograms_co2eq']:.3g} kg",
        ]
        for row in done.savings
    ]


def _factors(config: StudyConfig) -> str:
    computing = (
        f"The computer is assumed to draw {config.computer_kilowatts:g} kW while it "
        "reconstructs and trains; the resulting energy for the whole volume is in "
        "study.csv, for every reconstruction."
    )
    return (
        f"A scan of all projections takes {config.scan_hours:g} h, all of it assumed "
        "to be exposure (rotation and readout take additional time); a synchrotron "
        f"beamline draws {config.synchrotron_kilowatts:g} kW and a laboratory "
        f"scanner {config.laboratory_kilowatts:g} kW; each kilowatt-hour causes "
        f"{config.kilograms_per_kilowatt_hour:g} kg of CO2eq. All these values "
        f"can be changed in the settings. {computing}"
    )


def _cards(done: StudySummary, config: StudyConfig, scan: Projections) -> str:
    cards = []
    titles = {row["algorithm"]: row["title"] for row in done.rows}
    for name in config.algorithms:
        least = done.least[name]
        text = "none of these"
        if least is not None:
            subset = ScanSubset.of(least)
            at = subset.short.removeprefix(str(subset.projections))
            text = f"{subset.projections} of {scan.n_angles}{at}"
        cards.append(
            f'<div class="card"><span>{escape(str(titles[name]))}: smallest scan '
            f"with a porosity within ±{100 * config.tolerance:g} "
            f"%</span><b>{escape(text)}</b></div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _method_text(done: StudySummary, config: StudyConfig, scan: Projections) -> str:
    words = {
        "step": "acquired in step-and-shoot mode; the other projections are left out",
        "continuous": "acquired while the sample rotates: each projection is the mean "
        "over its angles, "
        + (
            "with the photons of one projection"
            if config.light == "one"
            else "with all of their photons"
        ),
    }
    against = (
        f"the ground truth, {done.reference['name']}"
        if done.reference["is_truth"]
        else f"the filtered back-projection of all {scan.n_angles} projections"
    )
    shorter = ""
    if min(config.exposure) < 1:
        shorter = (
            ' "100 at 10 %" means 100 projections with a tenth of the exposure each: '
            "a random tenth of the counted photons is kept, as in a shorter exposure. "
            "The photons that were left out serve as targets for the networks."
        )
        if not done.reference["is_truth"]:
            shorter += (
                " These photons are also part of the reference, which favours networks."
            )
    taught = ""
    if any(row.get("training_seconds") for row in done.rows):
        taught = (
            " Networks are trained on the first half of the rows, each for "
            f"{config.steps} steps of {config.batch_size} patches of {config.patch}² "
            "pixels; the results refer to the second half."
        )
    return escape(
        f"Scans with fewer projections are {words[config.acquisition]}. Errors are "
        f"relative to {against}.{shorter}{taught}"
    )


def _pictures(
    done: StudySummary,
    config: StudyConfig,
    scan: Projections,
    kind: str,
    pictures: PicturesOf,
    reference: Picture | None,
) -> bytes:
    """Draw slices or pores: a row per subset, and a column per algorithm."""
    titles = {row["algorithm"]: str(row["title"]) for row in done.rows}

    def picture(subset: ScanSubset, name: str) -> Picture | None:
        return pictures(subset, name).get(kind)

    first = [("reference", reference)]
    if done.reference["is_truth"]:
        first[0] = ("truth", reference)
        first.append(
            (f"FBP {scan.n_angles}", picture(ScanSubset(scan.n_angles), "full"))
        )
    table = [
        [(f"{titles[n]} {subset.short}", picture(subset, n)) for n in config.algorithms]
        for subset in _evenly_spaced(all_subsets(config, scan.n_angles))
    ]
    return table_png([first, *table])


def _evenly_spaced(subsets: Sequence[ScanSubset]) -> Sequence[ScanSubset]:
    """Select evenly spaced items, up to a maximum, including the first and the last."""
    n = len(subsets)
    if n <= _MAX_PICTURE_ROWS:
        return subsets
    return [
        subsets[round(i * (n - 1) / (_MAX_PICTURE_ROWS - 1))]
        for i in range(_MAX_PICTURE_ROWS)
    ]


def terminal_table(done: StudySummary) -> Table:
    """Return a table of the main results for the terminal: porosity and errors."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    columns = {
        0: "Views",
        1: "Algorithm",
        2: "Porosity",
        3: "Error",
        5: "Pores/mm³",
        6: "W1",
        8: "Euler",
        11: "PSNR",
    }
    for at, word in columns.items():
        table.add_column(word, justify="left" if at == 1 else "right", no_wrap=at != 1)
    for row in done.rows:
        cells = _cells(row)
        table.add_row(*(escape(cells[at]) for at in columns))
    return table
