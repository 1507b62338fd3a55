"""From a pydantic model to the structural OpenAPI v3 schema that a CustomResourceDefinition takes.

The rule: what cannot be said in such a schema, and what says too little (a string, list or
map without a bound, a field without a description), raises `NotStructuralError` with its path.
Nothing is dropped in silence except what the API server does by itself.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE = "x-kubernetes-list-type"
INT32_MAX = 2**31 - 1

#: Words of JSON Schema that mean nothing to the API server and nothing is lost without.
_WITHOUT_MEANING = frozenset({"title", "examples", "default"})
#: The exact pair that x-kubernetes-int-or-string demands.
_INT_OR_STRING_TYPES = [{"type": "integer"}, {"type": "string"}]
#: All words that may stand in the result; anything else is refused.
_KNOWN = frozenset(
    {"type", "format", "description", "properties", "required", "items", "additionalProperties", "anyOf", "enum"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minLength", "maxLength", "pattern", "minItems", "maxItems", "minProperties", "maxProperties"}
    | {PRESERVE, INT_OR_STRING, LIST_TYPE, "x-kubernetes-list-map-keys", "x-kubernetes-map-type"}
)


class NotStructuralError(ValueError):
    """The model at *path* cannot become a structural schema."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


def to_structural(model: type[BaseModel], path: str) -> Schema:
    """Return the structural schema of *model*; *path* is where it stands, for messages.

    Raises:
        NotStructuralError: if a part of the model has no counterpart or no bound.
    """
    root = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(root.pop("$defs", {})).convert(root, path)


class _Converter:
    """Converts one model; holds the definitions that its references point to."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions
        self._open: list[str] = []  # references being expanded now, to notice recursion

    def convert(self, schema: Schema, path: str) -> Schema:
        if "$ref" in schema:
            return self._inline(schema, path)
        schema = {word: value for word, value in schema.items() if word not in _WITHOUT_MEANING}
        if schema.get(INT_OR_STRING):
            return _int_or_string(schema, path)
        if "anyOf" in schema:
            return self._optional(schema, path)
        schema = _numbers(_constant(_unwrapped(schema)))
        _refuse_unknown_words(schema, path)
        schema = self._children(schema, path)
        _refuse_unbounded(schema, path)
        return schema

    def _inline(self, schema: Schema, path: str) -> Schema:
        """A CRD knows no references; words beside the reference (a field's description) win."""
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in self._open:
            raise NotStructuralError(path, f"model {name} contains itself; a CRD cannot say that")
        self._open.append(name)
        beside = {word: value for word, value in schema.items() if word != "$ref"}
        result = self.convert({**self._definitions[name], **beside}, path)
        self._open.pop()
        return result

    def _optional(self, schema: Schema, path: str) -> Schema:
        """`X | None` is X that may be absent, never `nullable`; no other union is structural."""
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise NotStructuralError(path, "a union; use one optional field per member and a policy")
        beside = {word: value for word, value in schema.items() if word != "anyOf"}
        return self.convert({**options[0], **beside}, path)

    def _children(self, schema: Schema, path: str) -> Schema:
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, path)
        if kind == "array":
            if not isinstance(schema.get("items"), dict):
                raise NotStructuralError(path, "a list without one type of item; tuples are not structural")
            return {**schema, "items": self.convert(schema["items"], f"{path}[]")}
        return schema

    def _object(self, schema: Schema, path: str) -> Schema:
        extra = schema.pop("additionalProperties", None)
        if "properties" in schema:
            # Unknown fields are pruned by the API server, so `extra="forbid"` needs no word of its own.
            fields = {name: self.convert(field, f"{path}.{name}") for name, field in schema["properties"].items()}
            return {**schema, "properties": {name: _described(f, f"{path}.{name}") for name, f in fields.items()}}
        if isinstance(extra, dict) and extra:
            return {**schema, "additionalProperties": self.convert(extra, f"{path}.*")}
        return schema


def _described(field: Schema, path: str) -> Schema:
    if not field.get("description"):
        raise NotStructuralError(path, "no description; `kubectl explain` is the documentation")
    return field


def _int_or_string(schema: Schema, path: str) -> Schema:
    if schema.get("anyOf") != _INT_OR_STRING_TYPES:
        raise NotStructuralError(path, "int-or-string takes `int | str` in this order and nothing else")
    if "maxLength" not in schema:
        raise NotStructuralError(path, "a string without maxLength")
    return schema


def _unwrapped(schema: Schema) -> Schema:
    """A docstring breaks its lines for the source; a description breaks only between paragraphs."""
    if "description" in schema:
        schema["description"] = re.sub(r"(?<!\n)\n(?!\n)", " ", schema["description"])
    return schema


def _constant(schema: Schema) -> Schema:
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    return schema


def _numbers(schema: Schema) -> Schema:
    """Exclusive bounds are numbers in JSON Schema and flags in OpenAPI v3.0; integers say their width."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            schema[bound], schema[exclusive] = schema[exclusive], True
    if schema.get("type") == "integer" and "format" not in schema:
        schema["format"] = "int32" if schema.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    return schema


def _refuse_unknown_words(schema: Schema, path: str) -> None:
    unknown = schema.keys() - _KNOWN
    if unknown:
        raise NotStructuralError(path, f"{', '.join(sorted(unknown))} is not structural")
    if "type" not in schema and not schema.get(PRESERVE):
        raise NotStructuralError(path, "no type")
    if schema.get("type") in ("number", "null"):
        raise NotStructuralError(path, f"type {schema['type']}; use an integer in a smaller unit")
    if schema.get("format") in ("duration", "binary"):
        raise NotStructuralError(path, f"format {schema['format']}; use an integer named ...Seconds, or base64")


def _refuse_unbounded(schema: Schema, path: str) -> None:
    kind = schema.get("type")
    if kind == "string" and not schema.keys() & {"maxLength", "enum"} and schema.get("format") != "date-time":
        raise NotStructuralError(path, "a string without maxLength")
    if kind == "integer" and "minimum" not in schema and not path.endswith(".*"):
        raise NotStructuralError(path, "an integer without a bound")
    if kind == "array" and not {"maxItems", LIST_TYPE} <= schema.keys():
        raise NotStructuralError(path, f"a list without maxItems or {LIST_TYPE}")
    if "additionalProperties" in schema and "maxProperties" not in schema:
        raise NotStructuralError(path, "a map without maxProperties")
