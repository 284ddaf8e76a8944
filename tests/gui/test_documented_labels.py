"""Buttons, fields and menus have the names used in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import yaml
from opening import opened
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QGroupBox,
    QLabel,
    QTabWidget,
    QWidget,
)

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/tutorials/*.md")])
#: Emphasised words that are not in our docks: menus and questions of napari, choices
#: that appear with a scan, columns of reports, words of other websites.
OTHERS = {
    *("Plugins", "GeoSR", "Open Sample", "Convert to Labels", "Remember"),
    *("Leave the scan as it is", "Compared on voxels of", "Shift"),
    *("Threshold sensitivity",),
    *("Found", "Invented", "Used", "Work", "Reads", "Large", "Caution"),
    *("C. elegans", "CPU", "CUDA", "Stable", "Pip", "Anscombe"),
}
#: Words for notions for which the docks have another word: none, whole volume,
#: automatic, Jobs….
OTHER_WORDS = {"nothing", "everything", "auto", "All jobs…"}


def texts_of(widget: QWidget) -> set[str]:
    """All texts of a dock, without markup and mnemonics."""
    found: set[str] = set()
    for one in [widget, *widget.findChildren(QWidget)]:
        if isinstance(one, QLabel | QAbstractButton):
            found.add(one.text())
        if isinstance(one, QGroupBox):
            found.add(one.title())
        if isinstance(one, QComboBox):
            found |= {one.itemText(i) for i in range(one.count())}
        if isinstance(one, QTabWidget):
            found |= {one.tabText(i) for i in range(one.count())}
    return {re.sub("<[^>]+>|&", "", text) for text in found}


def emphasised(page: Path) -> set[str]:
    """Emphasised words of a page that begin with a capital; menu paths are split."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    phrases = re.findall(r"(?<![*\w])\*([A-Z][^*\n]{1,60}?)\*(?!\*)", text)
    return {part for phrase in phrases for part in phrase.split(" ▸ ")}


def test_documents_name_what_is_there(viewer):
    viewer.add_image(np.zeros((8, 16, 16), np.float32), name="scan")
    manifest = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))
    contributions = manifest["contributions"]
    docks = [widget["display_name"] for widget in contributions["widgets"]]
    texts = {*docks, *(one["display_name"] for one in contributions["sample_data"])}
    for name in docks:
        texts |= texts_of(opened(viewer, name))
    porosity = opened(viewer, "Porosity")
    porosity.cluster.widget.click()
    texts |= texts_of(porosity.cluster.dialog)
    porosity.cluster.dialog.close()
    every_text = "\n".join(texts)
    unknown = {
        f"{page.name}: {label}"
        for page in PAGES
        for label in emphasised(page) - OTHERS
        if label.rstrip("…:") not in every_text
    }
    assert not unknown
    assert texts & OTHER_WORDS == set()
    assert len(set().union(*map(emphasised, PAGES)) - OTHERS) > 80
