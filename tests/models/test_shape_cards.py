"""The cards of the bundled models for shapes state their limits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from napari_geosr.models import bundle
from napari_geosr.operations.shapes.models import BUNDLED, bundled_names

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import train_shapes


@pytest.mark.parametrize("name", bundled_names())
def test_a_card_has_the_texts_of_its_script(name: str) -> None:
    card = bundle.read_card(BUNDLED / name)
    assert card == train_shapes.with_texts(card)
    assert card.remarks


def test_the_card_of_the_refinement_has_the_figures_of_the_evidence() -> None:
    remarks = " ".join(bundle.read_card(BUNDLED / "shape-sr-x2").remarks)
    page = Path(__file__).parents[2] / "docs" / "evidence" / "shapes_refinement.md"
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith(("| trabeculae", "| tree", "| skull"))
    ]
    by_factor_4 = {(r[0], r[1]): r[4:] for r in rows if len(r) == 7}
    for method in ("`shape-sr-x2`", "trilinear"):
        # The page has a table for a factor of 4, then one for a factor of 8.
        first = next(r for r in rows if r[:2] == ["trabeculae", method] and len(r) == 7)
        for cell in first[4:]:
            assert cell.split(" ±")[0] in remarks
        assert by_factor_4["tree", method][0].split(" ±")[0][1:] in remarks
        for kind in ("skull", "trabeculae"):  # the last table
            assert by_factor_4[kind, method][0].split(" ±")[0][1:] in remarks
