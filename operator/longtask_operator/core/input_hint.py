"""What the size of a task's inputs says of the memory that it needs.

How a program's memory follows from its data only its people know, so the installation says it,
by image: so much to begin with, and so many percent of all inputs together. Without a rule for the
image, or where one input's size is not known, there is no hint, and the next source decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from longtask_operator.api.data import Input
from longtask_operator.api.quantity import format_memory, parse_memory
from longtask_operator.api.reasons import SizeSource
from longtask_operator.core.attempt_size import Suggestion
from longtask_operator.core.history import in_mebibytes, repository_of

#: Where objects lie whose size may be asked: a bucket, or a folder in it; `{tenant}` stands for the task's tenant.
_PLACE = re.compile(r"s3://[^/,\s]+/(?:[^,\s]+/)?")
TENANT = "{tenant}"
#: Bounds of a rule; a program that needs more than a hundred times its input is not helped by a percentage.
MAX_PERCENT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRule:
    """How much memory the programs of *image* need for their inputs."""

    image: str  #: without tag and digest; one `*` at the end stands for any rest
    base: int  #: bytes
    percent: int  #: of the bytes of all inputs together, on top

    def is_for(self, image: str) -> bool:
        """Whether the rule holds for *image*, in any version of it."""
        repository = repository_of(image)
        return repository.startswith(self.image[:-1]) if self.image.endswith("*") else repository == self.image

    def memory(self, inputs: int) -> int:
        """Return the bytes of memory for so many bytes of inputs, rounded up: more is never less."""
        return self.base - (-inputs * self.percent // 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSize:
    """The size of one input in bytes, or None and why it is not known."""

    name: str
    size: int | None
    why: str = ""


def parse_input_rules(text: str) -> tuple[InputRule, ...]:
    """Return the rules of `image=base+percent%;image=base+percent%`, in their order; the empty text has none.

    Raises:
        ValueError: if a rule is malformed or out of its bounds.
    """
    return tuple(_parse_rule(part) for part in (piece.strip() for piece in text.split(";")) if part)


def _parse_rule(text: str) -> InputRule:
    image, _, amounts = text.partition("=")
    base, _, percent = amounts.removesuffix("%").partition("+")
    if not image or "*" in image[:-1] or not amounts.endswith("%") or not (percent.isascii() and percent.isdigit()):
        raise ValueError(
            f"input rules: {text!r} is not of the form image=memory+percent%, with * at the image's end only"
        )
    if int(percent) > MAX_PERCENT:
        raise ValueError(f"input rules: {text!r} has more than {MAX_PERCENT} %")
    return InputRule(image=image, base=parse_memory(base), percent=int(percent))


def rule_for(image: str | None, rules: Sequence[InputRule]) -> InputRule | None:
    """Return the first rule for *image*, or None."""
    return next((rule for rule in rules if image and rule.is_for(image)), None)


def parse_places(text: str) -> tuple[str, ...]:
    """Return the prefixes of `s3://bucket/,s3://bucket/folder/`. Raises ValueError if one does not end with a slash."""
    places = tuple(place for place in (piece.strip() for piece in text.split(",")) if place)
    for place in places:
        if not _PLACE.fullmatch(place) or "{" in place.replace(TENANT, ""):
            raise ValueError(
                f"input places: {place!r} is not of the form s3://bucket/folder/, with {TENANT} in it or not"
            )
    return places


def why_not_asked(uri: str, tenant: str, places: Sequence[str]) -> str:
    """Return why nobody is asked for the size of *uri*, or nothing where the store may be asked."""
    if not uri.startswith("s3://"):
        return "its sizeBytes is not given, and the operator sees objects of S3 only"
    if not any(uri.startswith(place.replace(TENANT, tenant)) for place in places):
        return "its sizeBytes is not given, and sizing.inputs.uris of the chart names no place that it is in"
    if uri.endswith("/") or {".", "..", ""} & set(uri.removeprefix("s3://").split("/")):
        return "its sizeBytes is not given, and its URI does not name one object"
    return ""


def stated_sizes(inputs: Sequence[Input]) -> list[InputSize]:
    """Return the sizes that a spec states of its *inputs*."""
    return [InputSize(name=one.name, size=one.size_bytes, why="its sizeBytes is not given") for one in inputs]


def hint_from(inputs: Sequence[InputSize], rule: InputRule, asked: datetime | None = None) -> Suggestion:
    """Return what *inputs*, at least one, suggest; no memory where a size is not known, with the reason.

    *asked*: since when the store owes an answer.
    """
    for one in inputs:
        if one.size is None:
            return Suggestion(
                memory=None,
                source=SizeSource.INPUT_HINT,
                message=f"the size of input {one.name} is not known: {one.why}",
                asked=asked,
            )
    total = sum(one.size or 0 for one in inputs)
    message = (
        f"{_told(inputs)} of {in_mebibytes(total)}; the rule for {rule.image} gives {format_memory(rule.base)} and "
        f"{rule.percent} % of that"
    )
    return Suggestion(memory=rule.memory(total), source=SizeSource.INPUT_HINT, message=message)


def fall_through(hint: Suggestion | None, found: Suggestion | None) -> Suggestion | None:
    """Return *hint* if it suggests anything, else *found*, which then also says why there is no hint."""
    if hint is None or found is None or hint.memory is not None:
        return hint or found
    return replace(found, message=f"{found.message}; {hint.message}", asked=hint.asked)


def _told(inputs: Sequence[InputSize]) -> str:
    return "one input" if len(inputs) == 1 else f"{len(inputs)} inputs"
