"""The page of a comparison: self-contained HTML with a light and a dark style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from napari_geosr.measure.comparison.graphs import distance_text
from napari_geosr.measure.comparison.grids import each_once, sentences_of
from napari_geosr.measure.comparison.pores import STATUSES, PoreChange, PoreMatch
from napari_geosr.measure.comparison.report import QualityReport
from napari_geosr.measure.graph.agreement import COVERED
from napari_geosr.measure.number_text import number_text
from napari_geosr.measure.reports.html import STYLE, png_source

#: Maximum number of pores of each kind on the page; the files list all pores.
_LISTED = 12


def quality_page(
    report: QualityReport,
    *,
    title: str,
    pictures: Mapping[str, Mapping[str, bytes]],
    records: Sequence[str],
) -> str:
    """Return the report page as HTML.

    Parameters
    ----------
    pictures : mapping
        PNG images for the ``light`` and the ``dark`` style, by caption.
    records : sequence of str
        Provenance as JSON text.
    """
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        _list(report.warnings),
        _figures(report),
        *(_picture(caption, both) for caption, both in pictures.items()),
        *_resolutions(report),
        *(_pores(report, key, match) for key, match in report.pores.items()),
        "<h2>Method</h2>",
        _list((*_method(report), *report.remarks)),
    ]
    parts += [
        f"<details><summary>Record {i} of {len(records)}</summary>"
        f"<pre>{escape(record)}</pre></details>"
        for i, record in enumerate(records, start=1)
    ]
    parts.append("</body></html>\n")
    return "\n".join(part for part in parts if part)


def _list(sentences: Sequence[str]) -> str:
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{lines}</ul>" if lines else ""


def _figures(report: QualityReport) -> str:
    head = "".join(
        f'<th scope="col">{escape(title)}{" (base)" if key == report.base else ""}</th>'
        for key, title in report.titles.items()
    )
    body = "".join(
        f'<tr><th scope="row" title="{escape(row.help)}">{escape(row.label)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in row.texts)
        + "</tr>"
        for row in report.rows()
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col"></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _picture(caption: str, both: Mapping[str, bytes]) -> str:
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" '
        f'srcset="{png_source(both["dark"])}">'
        f'<img alt="{escape(caption)}" src="{png_source(both["light"])}">'
        f"</picture><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _resolutions(report: QualityReport) -> list[str]:
    rows = report.resolution_rows()
    if not rows:
        return []
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in rows
    )
    return [f"<h2>Resolution</h2><table><tbody>{lines}</tbody></table>"]


def _pores(report: QualityReport, key: str, match: PoreMatch) -> str:
    parts = [f"<h2>Pores of {escape(report.titles[key])}</h2>"]
    for status in STATUSES:
        found = match.of(status)
        if status == "matched" or not found:
            continue
        rows = "".join(_pore_row(change) for change in found[:_LISTED])
        more = len(found) - _LISTED
        note = f"<p><small>and {more} smaller ones</small></p>" if more > 0 else ""
        parts.append(
            f"<h3>{status.capitalize()}: {len(found)}</h3>"
            '<div class="scroll"><table><thead><tr><th>Position '
            f"({', '.join(report.frame.axes)}; {escape(report.frame.length_unit)})</th>"
            f"<th>In the base ({escape(match.unit)})</th>"
            "<th>In this volume</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div>{note}"
        )
    if len(parts) == 1:
        parts.append("<p>No pore was lost, invented, split or merged.</p>")
    return "\n".join(parts)


def _pore_row(change: PoreChange) -> str:
    position = ", ".join(f"{p:.4g}" for p in change.position)
    sizes = (
        number_text(change.base_volume) if change.base_pores else "–",
        number_text(change.volume) if change.pores else "–",
    )
    cells = "".join(f"<td>{size}</td>" for size in sizes)
    return f'<tr><th scope="row">{position}</th>{cells}</tr>'


def _method(report: QualityReport) -> list[str]:
    ranges = {k: number_text(g.data_range) for k, g in report.grids.items()}
    own = {k: number_text(g.base_range) for k, g in report.grids.items()}
    windows = {k: g.ssim_window for k, g in report.grids.items() if g.ssim_window}
    lines = [
        *sentences_of(report.grids, report.titles),
        f"PSNR and SSIM refer to a range of {each_once(ranges, report.titles)} grey "
        "values, and the range-invariant PSNR to a range of "
        f"{each_once(own, report.titles)}. NRMSE is the root-mean-square "
        f"difference in standard deviations of {report.titles[report.base]}.",
    ]
    if windows:
        lines.append(
            "SSIM uses a Gaussian window with a standard deviation of 1.5 voxels, "
            f"{each_once(windows, report.titles)} wide; voxels are excluded if their "
            "window reaches the border or contains unknown voxels."
        )
    if any(f.ms_ssim is not None for f in report.figures.values()):
        lines.append(
            "MS-SSIM combines five scales with the weights of Wang, Simoncelli and "
            "Bovik (2003); between scales, blocks of two voxels along each axis of the "
            "window are averaged."
        )
    if report.graphs:
        distance = distance_text(report.graphs, report.frame.length_unit, report.titles)
        lines.append(
            f"A branch counts as found if {100 * COVERED:g} % of its length lies "
            f"within {distance} of the lines of the other volume."
        )
    if report.fourier:
        lines.append(
            "Fourier correlation uses a Hann window and shells of equal width in "
            "spatial frequency (1/length). Where a spectrum ends abruptly, the "
            "resolution estimate is one to two shells too fine."
        )
    for key, unit in report.difference_units.items():
        lines.append(f"The difference of {report.titles[key]} is in units of {unit}.")
    return lines
