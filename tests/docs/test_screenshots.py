"""The script that makes the screenshots of the documentation works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("restore", "porosity")


@pytest.mark.gui
@pytest.mark.slow
def test_the_pictures_are_made_afresh(tmp_path):
    if not (os.environ.get("DISPLAY") or sys.platform != "linux"):
        pytest.fail(
            "pictures need a display: python scripts/ensure_display.py installs Xvfb"
        )
    script = ROOT / "scripts" / "screenshots.py"
    out = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path), *SHOWN],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert out.returncode == 0, out.stderr[-2000:]
    for name in SHOWN:
        picture = imread(tmp_path / f"{name}.png")
        committed = imread(ROOT / "docs" / "images" / f"{name}.png")
        assert picture.shape == committed.shape
        # The window was drawn, with as much content as in the committed picture.
        drawn, before = (np.std(p[..., :3]) for p in (picture, committed))
        assert drawn > before / 2


def test_every_picture_and_page_of_the_documents_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for part in text.split("](")[1:]:
            target = part.split(")")[0].split("#")[0]
            if target and "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_picture_is_shown_on_a_page():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    pictures = sorted(p.name for p in (ROOT / "docs" / "images").iterdir())
    assert len(pictures) > 30
    assert [name for name in pictures if f"images/{name}" not in text] == []
