"""The report page: self-contained HTML with a light and a dark style."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from napari_geosr.core.units import MILLIMETRES, shown_unit
from napari_geosr.measure.interval import PorosityInterval
from napari_geosr.measure.methods import methods_text
from napari_geosr.measure.number_text import number_text
from napari_geosr.measure.reports.named import named_warnings
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.reports.rows import reference_column, table_rows

#: How the interval from the samples of a restoration is determined.
_SAMPLE_INTERVAL = (
    "Porosity interval: quantiles of the porosities of the samples, moved apart by the "
    "porosity that was calibrated for the model, with the same threshold. It does not "
    "include errors that all samples share (for example because a material is missing "
    "from the training data), nor the choice of the threshold."
)
#: Style sheet of every report page.
STYLE = """
:root { color-scheme: light dark; --ink: #1d1f23; --soft: #5b616b; --line: #d9dce1;
  --paper: #ffffff; --card: #f6f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9ebee; --soft: #a5acb8;
  --line: #3a3f47; --paper: #1b1d21; --card: #25282e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.2rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; }
.card { flex: 1 1 12rem; padding: .8rem 1rem; border-radius: .6rem;
  background: var(--card); border: 1px solid var(--line); }
.card b { display: block; font-size: 1.5rem; font-weight: 600; }
.card span, small, figcaption { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--soft); }
td small { display: block; }
figure { margin: .6rem 0 1.2rem; }
img { max-width: 100%; height: auto; border-radius: .4rem; }
pre { overflow-x: auto; padding: .8rem 1rem; border-radius: .6rem; font-size: .8rem;
  background: var(--card); border: 1px solid var(--line); }
summary { cursor: pointer; }
"""


def page(
    reports: Mapping[str, PorosityReport],
    *,
    title: str,
    pictures: Mapping[str, bytes],
    histogram: Mapping[str, bytes],
    records: Sequence[str],
) -> str:
    """Return the report page as HTML.

    Parameters
    ----------
    pictures : mapping of bytes
        PNG pictures by caption.
    histogram : mapping of bytes
        PNG for the ``light`` and the ``dark`` style.
    records : sequence of str
        Provenance as JSON text.
    """
    names, values = list(reports), list(reports.values())
    reference = reference_column(names)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        _cards(names, values),
        "<h2>Measured values</h2>",
        _figures(names, values, reference),
        *_warnings(names, values),
    ]
    for caption, picture in pictures.items():
        parts.append(
            f'<figure><img alt="{escape(caption)}" src="{png_source(picture)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    parts += [
        "<h2>Pore sizes</h2><figure><picture>",
        f'<source media="(prefers-color-scheme: dark)" '
        f'srcset="{png_source(histogram["dark"])}">',
        f'<img alt="Histogram of pore sizes" src="{png_source(histogram["light"])}">',
        "</picture></figure>",
        "<h2>Settings and definitions</h2>",
        _settings(names, values),
        _notes(values[reference]),
        *_interval_note(values),
        *_methods(values),
    ]
    for i, record in enumerate(records, start=1):
        parts.append(
            f"<details><summary>Record {i} of {len(records)}</summary>"
            f"<pre>{escape(record)}</pre></details>"
        )
    parts.append("</body></html>\n")
    return "\n".join(parts)


def png_source(picture: bytes) -> str:
    """Encode a PNG picture as the source of an ``img`` element in the page."""
    return f"data:image/png;base64,{b64encode(picture).decode('ascii')}"


def _cards(names: Sequence[str], reports: Sequence[PorosityReport]) -> str:
    cards = []
    for i, name in enumerate(names):
        text = table_rows([reports[i]])[0][1][0]
        cards.append(
            f'<div class="card"><span>Porosity, {escape(name)}</span>'
            f"<b>{escape(text)}</b></div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _figures(
    names: Sequence[str], reports: Sequence[PorosityReport], reference: int
) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = []
    for label, texts, differences in table_rows(reports, reference=reference):
        cells = "".join(
            f"<td>{escape(text)}{f'<small>{escape(d)}</small>' if d else ''}</td>"
            for text, d in zip(texts, differences, strict=True)
        )
        body.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    note = ""
    if len(names) > 1:
        note = (
            "<p><small>In small print: change relative to "
            f"{escape(names[reference])}.</small></p>"
        )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col"></th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{note}"
    )


def _warnings(names: Sequence[str], reports: Sequence[PorosityReport]) -> list[str]:
    pairs = list(zip(names, reports, strict=True))
    texts = named_warnings(
        {name: report.warnings for name, report in pairs},
        {name: report.name for name, report in pairs},
    )
    lines = [f"<li>{escape(text)}</li>" for text in texts]
    return [f"<ul>{''.join(lines)}</ul>"] if lines else []


def _settings(names: Sequence[str], reports: Sequence[PorosityReport]) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("Volume", [r.name for r in reports]),
        ("Voxels", [" × ".join(map(str, r.shape)) for r in reports]),
        ("Voxel size", [_voxel_size(r) for r in reports]),
        (
            "Threshold",
            [
                ", ".join(
                    [
                        f"{r.threshold_rule}: {number_text(r.threshold)}",
                        *(
                            f"{name.replace('_', ' ')} {value:g}"
                            for name, value in r.neighbourhood.items()
                        ),
                    ]
                )
                for r in reports
            ],
        ),
        ("Pores are", [r.phase for r in reports]),
        ("Minimum pore size", [f"{r.min_voxels} voxels" for r in reports]),
        ("Connectivity", [str(r.connectivity) for r in reports]),
        (
            "Not a number",
            [f"{number_text(r.nonfinite_voxels)} voxels" for r in reports],
        ),
    ]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in texts)
        + "</tr>"
        for label, texts in rows
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col"></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _voxel_size(report: PorosityReport) -> str:
    sizes = (
        report.voxel_size if len(set(report.voxel_size)) > 1 else report.voxel_size[:1]
    )
    numbers = " × ".join(f"{v:.4g}" for v in sizes)
    if report.unit in MILLIMETRES:
        return f"{numbers} {report.unit}"
    unit = shown_unit(report.unit, sizes, flat=report.is_flat)
    return f"{numbers} (unit unknown)" if unit == "unit" else "unknown"


def _notes(report: PorosityReport) -> str:
    border = "surface areas" if not report.is_flat else "perimeters"
    return (
        "<p><small>Porosity is pore voxels ÷ sample voxels, including pores of all "
        "sizes. Threshold sensitivity: the porosity with the threshold lowered and "
        "raised by 5 % of the distance between the mean grey values of the two "
        "phases. It is not a measurement uncertainty: noise and artefacts are not "
        "included. Pores below the minimum size are not counted. Open pores reach "
        f"the border of the sample; {border} exclude faces on the border.</small></p>"
    )


def _methods(reports: Sequence[PorosityReport]) -> list[str]:
    """Return the methods sections of the reports with known settings."""
    parts = []
    for report in reports:
        if report.has_methods:
            parts += [f"<p>{escape(p)}</p>" for p in methods_text(report).splitlines()]
    return ["<h2>Methods</h2>", *parts] if parts else []


def _coverage(interval: PorosityInterval) -> str:
    """State how often the calibrated interval contained the true porosity."""
    if interval.nominal is None:
        return ""
    return (
        " At this width, the interval contains the true porosity of at least "
        f"{100 * interval.nominal:g} % of scans like those used for calibration, on "
        "average."
    )


def _interval_note(reports: Sequence[PorosityReport]) -> list[str]:
    """Describe how the interval was determined, and what it does not cover."""
    report = next((r for r in reports if r.interval is not None), None)
    if report is None or report.interval is None:
        return []
    interval = report.interval
    if interval.factor is None and interval.porosity is not None:
        return [f"<p><small>{_SAMPLE_INTERVAL}{_coverage(interval)}</small></p>"]
    if interval.factor is None:
        reach = "one standard deviation of the restoration (not calibrated)"
    else:
        reach = f"{number_text(interval.factor)} standard deviations of the restoration"
    word = "spread" if interval.porosity is None else "interval"
    return [
        f"<p><small>Porosity {word}: the grey values of all voxels are shifted "
        f"together by {reach}, with the same threshold.{_coverage(interval)} It does "
        "not include errors that all members of the restoration share (for example "
        "because a material is missing from the training data), nor the choice of the "
        "threshold.</small></p>"
    ]
