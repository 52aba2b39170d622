"""Ctrl-C and SIGTERM ask a run to stop after its step; a second Ctrl-C stops it at once."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """``requested`` becomes True with the first signal. Only the main thread can set handlers."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Set the handlers; does nothing outside the main thread."""
        try:
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        except ValueError:  # not the main thread, so the signals belong to another
            self.restore()

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        print(f"\nckf: {signal.Signals(number).name}: saving after this step", file=sys.stderr, flush=True)
