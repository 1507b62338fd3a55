"""The converter keeps what a CRD can say and refuses the rest, with the path."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from longtask_operator.api.schema import NotStructuralError, Schema, to_structural


def convert(annotation: Any, **field: Any) -> Schema:
    """Return the schema of one field `x` of that type."""
    field = {"description": "X.", **field}
    model = type("M", (BaseModel,), {"__annotations__": {"x": annotation}, "x": Field(**field)})
    schema: Schema = to_structural(model, "spec")["properties"]["x"]
    return schema


class Tier(StrEnum):
    SMALL = "Small"
    LARGE = "Large"


class Inner(BaseModel):
    """What the model says of itself,

    here and
    there.
    """

    model_config = ConfigDict(extra="forbid")
    a: int = Field(ge=0, le=7, description="A.")


class Loop(BaseModel):
    again: Loop | None = Field(None, description="Again.")


Text = Annotated[str, Field(max_length=5)]
ATOMIC = {"x-kubernetes-list-type": "atomic"}


def test_optional_is_the_same_type_that_may_be_absent() -> None:
    class M(BaseModel):
        x: int | None = Field(None, ge=1, le=9, description="X.")

    assert to_structural(M, "spec") == {
        "type": "object",
        "properties": {"x": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9, "description": "X."}},
    }


def test_a_reference_is_expanded_and_the_field_describes_it() -> None:
    schema = convert(Inner, description="Of the field.")

    assert schema["description"] == "Of the field."
    assert schema["properties"]["a"]["maximum"] == 7
    assert schema["required"] == ["a"]
    assert "additionalProperties" not in schema


def test_a_docstring_becomes_paragraphs() -> None:
    assert to_structural(Inner, "spec")["description"] == "What the model says of itself,\n\nhere and there."


@pytest.mark.parametrize(
    ("annotation", "field", "expected"),
    [
        (Tier, {}, {"type": "string", "enum": ["Small", "Large"]}),
        (Literal["One"], {}, {"type": "string", "enum": ["One"]}),
        (int, {"gt": 0, "lt": 5}, {"minimum": 0, "exclusiveMinimum": True, "maximum": 5, "exclusiveMaximum": True}),
        (int, {"ge": 0, "le": 2**31}, {"format": "int64"}),
        (int, {"ge": 0, "json_schema_extra": {"format": "int64"}}, {"format": "int64"}),
        (dt.datetime, {}, {"type": "string", "format": "date-time"}),
        (list[Text], {"max_length": 2, "json_schema_extra": ATOMIC}, {"type": "array", "maxItems": 2, **ATOMIC}),
        (dict[str, Text], {"max_length": 3}, {"maxProperties": 3}),
        (
            dict[str, Any],
            {"json_schema_extra": {"x-kubernetes-preserve-unknown-fields": True}},
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        ),
        (
            int | str,
            {"json_schema_extra": {"x-kubernetes-int-or-string": True, "maxLength": 9}},
            {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}], "maxLength": 9},
        ),
    ],
    ids=str,
)
def test_kept(annotation: Any, field: dict[str, Any], expected: Schema) -> None:
    schema = convert(annotation, **field)

    assert expected.items() <= schema.items()
    assert not schema.keys() & {"title", "default", "const", "$ref", "nullable"}


@pytest.mark.parametrize(
    ("annotation", "field", "says"),
    [
        (float, {}, "type number"),
        (dt.timedelta, {}, "format duration"),
        (tuple[int, str], {}, "prefixItems is not structural"),
        (set[Text], {"max_length": 2}, "uniqueItems is not structural"),
        (int | str, {}, "a union"),
        (Inner | Loop, {}, "a union"),
        (Any, {}, "no type"),
        (str, {}, "a string without maxLength"),
        (list[Text], {"max_length": 2}, "a list without maxItems or x-kubernetes-list-type"),
        (list[Text], {"json_schema_extra": ATOMIC}, "a list without maxItems or x-kubernetes-list-type"),
        (list[Any], {"max_length": 2, "json_schema_extra": ATOMIC}, "no type"),
        (dict[str, Text], {}, "a map without maxProperties"),
        (int, {}, "an integer without a bound"),
        (int, {"description": None, "ge": 0}, "no description"),
        (int | str, {"json_schema_extra": {"x-kubernetes-int-or-string": True}}, "a string without maxLength"),
        (str | int, {"json_schema_extra": {"x-kubernetes-int-or-string": True}}, "in this order"),
    ],
    ids=str,
)
def test_refused(annotation: Any, field: dict[str, Any], says: str) -> None:
    with pytest.raises(NotStructuralError, match=says) as raised:
        convert(annotation, **field)

    assert raised.value.path.startswith("spec.x")


def test_a_model_that_contains_itself_is_refused() -> None:
    with pytest.raises(NotStructuralError, match="model Loop contains itself"):
        to_structural(Loop, "spec")
