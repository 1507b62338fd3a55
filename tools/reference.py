"""The field reference of a kind, as Markdown, from the schema of its CRD: what `kubectl explain` says, on one page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_PREAMBLE = """# {kind}: every field

Generated from the CRD by `python tools/generate.py`; `kubectl explain {short}.spec --recursive` says the same on a
cluster. A field is optional unless it is marked *required*. Defaults live in the operator, so a stored object holds
only what was written. What the API server refuses beyond these bounds, and the words it uses:
[validation](validation.md).
"""


def field_reference(crd: dict[str, Any]) -> str:
    """Return the Markdown page of the CRD's only version."""
    names = crd["spec"]["names"]
    properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    sections = [*_sections(properties["spec"], "spec"), *_sections(properties["status"], "status")]
    return "\n".join([_PREAMBLE.format(kind=names["kind"], short=names["shortNames"][0]), *sections])


def _sections(schema: Schema, path: str) -> Iterator[str]:
    """Yield one section for the object at *path* and one for each object below it."""
    yield f"## {path}\n\n{schema.get('description', '')}\n"
    yield "| field | type | bounds | meaning |\n| --- | --- | --- | --- |"
    for name, field in schema["properties"].items():
        yield _row(name, field, required=name in schema.get("required", []))
    yield ""
    for name, field in schema["properties"].items():
        inner, suffix = (field["items"], "[]") if field.get("type") == "array" else (field, "")
        if "properties" in inner:
            yield from _sections(inner, f"{path}.{name}{suffix}")


def _row(name: str, field: Schema, *, required: bool) -> str:
    mark = " *required*" if required else ""
    meaning = " ".join(field["description"].split()).replace("|", "\\|")
    return f"| `{name}`{mark} | {_type(field)} | {_bounds(field)} | {meaning} |"


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    if field.get("format") == "date-time":
        return "time"
    return str(field.get("type", "any"))


def _bounds(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "minimum" in field or "maximum" in field:
        low, high = field.get("minimum"), field.get("maximum")
        return f"from {low}" if high is None else f"{low} to {high}"
    for word, unit in (("maxLength", "characters"), ("maxItems", "items"), ("maxProperties", "entries")):
        if word in field and not field.get("x-kubernetes-int-or-string"):
            return f"at most {field[word]} {unit}"
    return ""
