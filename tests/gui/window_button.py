"""The close button of a window, pressed as by a user."""

from __future__ import annotations

import ctypes


class ClientMessage(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    ]


def press_close_button(window) -> None:
    """Send a window manager's event; Qt's close() looks like a call by a script."""
    x = ctypes.CDLL("libX11.so.6")
    x.XOpenDisplay.restype = ctypes.c_void_p
    x.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x.XOpenDisplay(None))

    def atom(name):
        return x.XInternAtom(display, name, 0)

    target = ctypes.c_ulong(int(window.winId()))
    event = ClientMessage(
        33,
        0,
        1,
        display,
        target,
        atom(b"WM_PROTOCOLS"),
        32,
        (ctypes.c_long * 5)(atom(b"WM_DELETE_WINDOW")),
    )
    x.XSendEvent(display, target, 0, 0, ctypes.byref(event))
    x.XCloseDisplay(display)
