"""Stopping on request: a signal sets a flag, and the loop acts on it between two steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What schedulers send before they take a machine back (SLURM: --signal=USR1@120)."""


class StopSignals:
    """Context in which SIGTERM and SIGUSR1 only set ``requested``; the former handlers return afterwards.

    Python delivers signals to the main thread only, so elsewhere the context does nothing.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        """Name of the signal that came, such as "SIGTERM"."""
        self._former: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
            # a parent may have left them blocked: the loader's fork server does, for its workers
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
