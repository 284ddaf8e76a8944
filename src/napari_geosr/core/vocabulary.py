"""What models do and how their images are made: the words of cards, and for people."""

from __future__ import annotations

from typing import Literal

#: What a model does.
Task = Literal["denoise", "super-resolution", "translate", "segment"]
#: How images are made.
Modality = Literal["ct", "fluorescence", "light", "electron", "mri", "photo"]
#: Where a model comes from: the package, or the person's own folder.
ModelOrigin = Literal["bundled", "own"]

#: What people call them.
TASKS: dict[Task, str] = {
    "denoise": "Remove noise",
    "super-resolution": "Super-resolve",
    "translate": "Translate",
    "segment": "Segment",
}
MODALITIES: dict[Modality, str] = {
    "ct": "CT",
    "fluorescence": "Fluorescence",
    "light": "Light microscopy",
    "electron": "Electron microscopy",
    "mri": "MRI",
    "photo": "Photographs",
}
