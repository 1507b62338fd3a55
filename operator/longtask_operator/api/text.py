"""Text and values of others, as they may reach people's terminals through `kubectl get`."""

from __future__ import annotations

import json
from typing import Any

#: So much of a value tells people which one is meant.
_MOST_SHOWN = 60
_CONTROL = {code: " " for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return *text* with a space for each control character, which a terminal would obey; line breaks and tabs stay."""
    return text.translate(_CONTROL)


def shown(value: Any) -> str:
    """Return a value of a spec as a message names it, in one line; of a long one its beginning."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
