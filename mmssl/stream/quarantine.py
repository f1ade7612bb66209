"""Samples that could not be read: counted, written down, and a reason to stop when there are too many."""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmssl.errors import MmsslError
from mmssl.stream.config import FaultLimits
from mmssl.stream.sample import Fault

_SHOWN = 20


@dataclass
class Attempts:
    """What happened while one batch was read: how many samples were tried, and which tries failed."""

    total: int = 0
    faults: list[tuple[int, Fault]] = field(default_factory=list)
    """(number of the try, counted from 0 within the batch; fault), in order."""


class Quarantine:
    """Counts over everything read so far by this process and its workers."""

    def __init__(self, limits: FaultLimits) -> None:
        self.limits = limits
        self.attempts = 0
        self.faults = 0
        self._in_a_row = 0
        self._last = -2
        self._recent: deque[Fault] = deque(maxlen=_SHOWN)
        self._log: Path | None = None

    def log_to(self, path: Path | str) -> None:
        """Append every further fault to ``path``, one JSON object a line: shard, key, field, reason."""
        self._log = Path(path)
        self._log.parent.mkdir(parents=True, exist_ok=True)

    def note(self, attempts: Attempts) -> None:
        """Take in one batch.

        Raises:
            MmsslError: a limit is passed; the message lists the latest unreadable samples.
        """
        self._write(fault for _, fault in attempts.faults)
        for number, fault in attempts.faults:
            at = self.attempts + number
            self._in_a_row = self._in_a_row + 1 if at == self._last + 1 else 1
            self._last = at
            self.faults += 1
            self._recent.append(fault)
            if self._in_a_row >= self.limits.max_in_a_row:
                raise MmsslError(self._explain(f"{self._in_a_row} unreadable samples in a row"))
        self.attempts += attempts.total
        if self.attempts >= self.limits.after and self.faults > self.limits.max_share * self.attempts:
            raise MmsslError(
                self._explain(f"more than {self.limits.max_share:.2%} of the samples are unreadable")
            )

    def _write(self, faults: Iterable[Fault]) -> None:
        text = "".join(json.dumps(asdict(fault), ensure_ascii=False) + "\n" for fault in faults)
        if text and self._log is not None:
            # One write in append mode: ranks that share the file do not tear each other's lines.
            with open(self._log, "ab", buffering=0) as file:
                file.write(text.encode("utf-8", "surrogateescape"))

    def _explain(self, what: str) -> str:
        return "\n".join([f"stopped: {what} ({self.faults} in all); the latest:", *list_faults(self._recent)])


def list_faults(faults: Iterable[Fault]) -> list[str]:
    """One line a fault."""
    return [f"  {fault.shard}: {fault.key}: {fault.field}: {fault.reason}" for fault in faults]
