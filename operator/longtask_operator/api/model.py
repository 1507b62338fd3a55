"""What the models of all kinds share: their base, and the types and patterns of their fields.

Rules of the schemas: durations are integers named `...Seconds`; no floats in spec;
every string, number, list and map is bounded; every field has a description, which
`kubectl explain` shows. Defaults live in `core`, never here: a default added to a
schema later would show up in stored objects.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from longtask_operator.api.quantity import no_quantity

#: What pydantic puts before a message of ours.
OWN_WORDS = "Value error, "
YEAR_SECONDS = 31_536_000
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
URI = r"^[a-z][a-z0-9+.-]*://.+$"

Duration = Annotated[int, Field(ge=1, le=YEAR_SECONDS, json_schema_extra={"format": "int64"})]
#: A duration that 0 switches off.
Timeout = Annotated[int, Field(ge=0, le=YEAR_SECONDS, json_schema_extra={"format": "int64"})]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def _int_or_string(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Validate a quantity: of neither of two types, it is one mistake and not two."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(no_quantity(value)) from None


Quantity = Annotated[
    int | str,
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 20}),
    WrapValidator(_int_or_string),
]

NAMED_MAP: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
ATOMIC: JsonDict = {"x-kubernetes-list-type": "atomic"}
PRESERVE: JsonDict = {"x-kubernetes-preserve-unknown-fields": True}


class Model(BaseModel):
    """Base of all models: camelCase on the wire, unknown fields ignored as the API server prunes them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)
