"""Where checkpoints lie: `<place>/<uid>/<attempt>/<number>/part-00000 …` and `manifest.json`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

MANIFEST = "manifest.json"
_PART = re.compile(r"part-\d{5,9}")
_SLOT = re.compile(r"(?P<attempt>[1-9]\d{0,9})/(?P<number>[1-9]\d{0,9})/[^/]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One checkpoint, named by its manifest."""

    uri: str
    #: Of the manifest's bytes.
    sha256: str
    #: Of the saved data.
    size_bytes: int | None = None

    def fields(self) -> dict[str, object]:
        """Return the checkpoint as a report and a termination message name it."""
        return {"uri": self.uri, "sha256": self.sha256, "sizeBytes": self.size_bytes}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slot:
    """A checkpoint's place below its task: later ones compare greater."""

    attempt: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """An attempt's own prefix: `root` belongs to the task, `root/attempt/` to the attempt alone."""

    root: str
    attempt: int

    @property
    def uri(self) -> str:
        """The prefix itself, with its slash."""
        return f"{self.root}{self.attempt}/"

    def folder(self, number: int) -> str:
        """Return the folder of the checkpoint *number*."""
        return f"{self.uri}{number}/"

    def slot_of(self, uri: str) -> Slot | None:
        """Return whose object *uri* is; None if it is no checkpoint's of this task."""
        found = _SLOT.fullmatch(uri[len(self.root) :]) if uri.startswith(self.root) else None
        return Slot(attempt=int(found["attempt"]), number=int(found["number"])) if found else None


def parse_prefix(uri: str, uid: str, attempt: int) -> Prefix:
    """Return the prefix that *uri* names; ValueError unless it is of this attempt: others' data would be at stake."""
    own = uri if uri.endswith("/") else f"{uri}/"
    ending = f"/{uid}/{attempt}/"
    if not own.endswith(ending):
        raise ValueError(f"not this attempt's own prefix (…{ending}): {uri!r}")
    return Prefix(root=own[: -len(f"{attempt}/")], attempt=attempt)


def part_name(index: int) -> str:
    """Return the name of the part *index* within its folder."""
    return f"part-{index:05d}"


def is_part_name(name: str) -> bool:
    """Say whether *name* can be a part: never a path that leads elsewhere."""
    return _PART.fullmatch(name) is not None


def folder_of(manifest_uri: str) -> str:
    """Return the folder that a manifest describes."""
    return manifest_uri.rpartition("/")[0] + "/"
