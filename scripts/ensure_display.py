"""Ensure that the tests with napari can open a window under Xvfb.

Looks for Xvfb and the system libraries that Qt and OpenGL load. On Debian and Ubuntu,
missing ones are installed as root or with passwordless sudo; otherwise, the program
stops and prints the command to run. GUI tests are never skipped because of a missing
display.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

PACKAGES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libOpenGL.so.0": "libopengl0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
}
GLIB = "libglib2.0-0"


def missing_packages() -> list[str]:
    """Names of the Debian packages that provide missing programs and libraries."""
    missing = []
    if shutil.which("Xvfb") is None or shutil.which("xvfb-run") is None:
        missing.append("xvfb")
    if shutil.which("xauth") is None:
        missing.append("xauth")
    for library, package in PACKAGES.items():
        if not _loads(library):
            missing.append(package)
    if not _loads("libglib-2.0.so.0"):
        missing.append(GLIB)
    if not _has_dri():
        missing.append("libgl1-mesa-dri")
    return missing


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _has_dri() -> bool:
    folders = (
        "/usr/lib/x86_64-linux-gnu/dri",
        "/usr/lib/aarch64-linux-gnu/dri",
        "/usr/lib/dri",
    )
    folders += ("/usr/lib64/dri",)
    return any(os.path.isdir(folder) and os.listdir(folder) for folder in folders)


def main() -> int:
    """Install missing packages, or print the command to install them."""
    if not sys.platform.startswith("linux"):
        return 0
    missing = missing_packages()
    if not missing:
        return 0
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    line = f"sudo apt-get update && sudo {' '.join(install)}"
    if shutil.which("apt-get") is None:
        print(
            "napari's tests need Xvfb and the libraries of Qt and OpenGL. On Debian or "
            f"Ubuntu this installs them: {line}. Install the same with your system's "
            "package manager.",
            file=sys.stderr,
        )
        return 1
    prefix = []
    if os.geteuid() != 0:
        if (
            shutil.which("sudo") is None
            or subprocess.run(
                ["sudo", "-n", "true"], capture_output=True, check=False
            ).returncode
        ):
            print(f"Missing system libraries. Run: {line}", file=sys.stderr)
            return 1
        prefix = ["sudo", "-n"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    for command in (["apt-get", "update"], install):
        if subprocess.run([*prefix, *environment, *command], check=False).returncode:
            print(f"Installing system libraries failed. Run: {line}", file=sys.stderr)
            return 1
    still = missing_packages()
    if still:
        print(f"Still missing after installation: {', '.join(still)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
