"""Whom the attempts of a ledger count for: a line for each person, the uids of its tasks and then its name as JSON.

A name is not its task's alone: an attempt may outlive its task, and its task may be unknown to who reads the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping

#: The person of each task that has one, by uid.
Persons = Mapping[str, str]


def format_persons(persons: Persons, room: int, first: Container[str] = ()) -> str:
    """Return *persons* as text of *room* bytes at most, in order of name and uid; those beyond are left out.

    The uids in *first* have their place before others.
    """
    uids: dict[str, list[str]] = {}
    for uid, person in sorted(persons.items(), key=lambda one: (one[0] not in first, one[1], one[0])):
        name = json.dumps(person)
        room -= len(uid) + 1 + (0 if name in uids else len(name) + 1)
        if room < 0:
            break
        uids.setdefault(name, []).append(uid)
    return "".join(f"{' '.join(sorted(named))} {name}\n" for name, named in sorted(uids.items()))


def parse_persons(text: str) -> dict[str, str]:
    """Return the person of each uid in *text*.

    Raises:
        ValueError: if a line is malformed.
    """
    persons = {}
    for line in text.splitlines():
        uids, quote, rest = line.partition('"')
        person = json.loads(quote + rest)
        for uid in uids.split():
            persons[uid] = person
    return persons
