"""Planted bugs."""


def plant(name: str) -> None:
    raise SystemExit(name)
