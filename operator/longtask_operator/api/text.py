"""Text that a worker wrote, as it may reach people's terminals through `kubectl get`."""

from __future__ import annotations

_CONTROL = {code: " " for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return *text* with a space for each control character, which a terminal would obey; line breaks and tabs stay."""
    return text.translate(_CONTROL)
