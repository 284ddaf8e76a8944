"""``napari-geosr doctor``."""

from __future__ import annotations

from napari_geosr.cli.kit.console import print_json
from napari_geosr.cli.kit.options import Json
from napari_geosr.operations.doctor import examine


def doctor(*, json: Json = False) -> int:
    """Print versions, devices, memory and advice; return the exit code."""
    findings = examine()
    if json:
        print_json(findings.to_json_dict())
        return 0
    for section, rows in findings.sections.items():
        print(section)
        for label, value in rows.items():
            print(f"  {label:<28} {value}")
    for advice in findings.advice:
        print(f"! {advice}")
    return 0
