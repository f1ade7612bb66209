"""One sample on its way from the tar to a view: bytes, decoded on demand, at most once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmssl.stream.decode import Decoder, EncodedVideo, decode


class Unreadable(Exception):
    """A field of a sample is absent, damaged or not what its name says; the reason is the message."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Sample:
    """``sample["image"]`` decodes the field (one decode feeds every view that asks for it).

    What each field decodes to is in ``mmssl.modalities``.
    """

    __slots__ = ("_decoded", "decoder", "id", "key", "members", "pass_", "shard")

    def __init__(
        self, id: int, key: str, shard: str, pass_: int, members: Mapping[str, tuple[str, bytes | memoryview]]
    ) -> None:
        self.id = id
        """Stable integer in 0..N-1 over the whole stream (sources of a mixture follow each other)."""
        self.key = key
        self.shard = shard
        self.pass_ = pass_
        """How many times the sample's source had been gone through before this appearance."""
        self.members = members
        """Field name to (extension, encoded bytes)."""
        self.decoder: Decoder = "auto"
        """What opens the sample's videos."""
        self._decoded: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.members

    @property
    def meta(self) -> Mapping[str, Any]:
        """The decoded field ``meta``; empty where the sample has none. Raises as ``sample["meta"]``."""
        return self["meta"] if "meta" in self else {}  # noqa: SIM401 (a sample has no ``get``)

    def __getitem__(self, name: str) -> Any:
        """The decoded field.

        Raises:
            Unreadable: the field is absent or does not decode.
        """
        if name not in self._decoded:
            if name not in self.members:
                raise Unreadable(name, f"absent; the sample has {', '.join(self.members)}")
            extension, data = self.members[name]
            try:
                value = decode(name, extension, data)
            except Exception as error:  # decoders raise whatever they like; the sample is bad all the same
                raise Unreadable(name, f"{type(error).__name__}: {error}") from error
            if isinstance(value, EncodedVideo):
                value = replace(value, decoder=self.decoder)
            self._decoded[name] = value
        return self._decoded[name]


@dataclass(frozen=True)
class Fault:
    """A sample that could not be used, for the quarantine log."""

    shard: str
    key: str
    field: str
    reason: str
