"""Tasks of models and imaging modalities: identifiers in cards, and titles."""

from __future__ import annotations

from typing import Literal

#: Task of a model.
Task = Literal[
    "denoise", "super-resolution", "translate", "segment", "complete", "generate"
]
#: Imaging modality.
Modality = Literal["ct", "fluorescence", "light", "electron", "mri", "photo"]
#: Sharpness of a super-resolved result; see `RestoreConfig`.
SharpnessChoice = Literal["auto", "scan", "object"]
#: Where a model comes from: the package, or the user's own folder.
ModelOrigin = Literal["bundled", "own"]

#: Names of tasks and modalities, as shown to the user.
TASKS: dict[Task, str] = {
    "denoise": "Remove noise",
    "super-resolution": "Super-resolve",
    "translate": "Translate",
    "segment": "Segment",
    "complete": "Complete shapes",
    "generate": "Generate images",
}
MODALITIES: dict[Modality, str] = {
    "ct": "CT",
    "fluorescence": "Fluorescence",
    "light": "Light microscopy",
    "electron": "Electron microscopy",
    "mri": "MRI",
    "photo": "Photographs",
}
