"""The one error of this package: its text is a whole sentence that says what to do."""

from __future__ import annotations


class DevclusterError(Exception):
    """Something the caller can act on; printed as it is, without a traceback."""
