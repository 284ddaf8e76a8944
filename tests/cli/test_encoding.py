"""Numbers, units and names on streams and terminals with few characters."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from napari_geosr.cli.kit import encoding
from napari_geosr.measure.number_text import number_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (number_text(13994), "13 994"),
        (number_text(-0.5), "-0.500"),
        (number_text(1.5e-7), "1.50x10^-7"),
        ("4 µm, 64 µm³, 2 1/µm", "4 um, 64 um^3, 2 1/um"),
        (
            "scan-µ.tif, µmap.tif and µm.tif",
            r"scan-\xb5.tif, \xb5map.tif and \xb5m.tif",
        ),
        ("5–10 % ≈ ¼ …", "5-10 % ~ \\xbc ..."),
        (os.fsdecode(b"r\xe4") + " Δ", r"r\xe4 \u0394"),
    ],
)
def test_what_ascii_cannot_hold_is_written_plainly(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    encoding.prepare_streams()
    stream.write(text)
    stream.flush()
    assert stream.buffer.getvalue().decode() == shown  # type: ignore[attr-defined]


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "name", "asked", "known"),
    [
        (_Terminal, "C", {}, "ascii"),
        (_Terminal, "C", {"PYTHONUTF8": "1"}, "utf-8"),
        (_Terminal, "C.UTF-8", {}, "utf-8"),
        (io.TextIOWrapper, "C", {}, "utf-8"),  # a file
    ],
)
def test_a_terminal_with_the_locale_c_gets_ascii(
    kind: Any, name: str, asked: dict[str, str], known: str, monkeypatch: Any
) -> None:
    for variable in ("PYTHONUTF8", "PYTHONIOENCODING"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in asked.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(encoding.locale, "setlocale", lambda *_: name)
    stream = kind(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    encoding.prepare_streams()
    assert stream.encoding == known
