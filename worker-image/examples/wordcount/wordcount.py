"""Counts words and n-grams of a corpus, as a stream, and checks the counts.

The corpus is a file given as input `corpus`, or one that is generated: blocks of lines made of word
numbers, so that what must come out is known from the numbers, without reading a line of the text.
"""

from __future__ import annotations

import hashlib
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from longtask_worker import PermanentError, Task, run

VOCABULARY = 2000
LINES_PER_BLOCK = 2000
WORDS_PER_LINE = 12
MEGABYTE = 1_000_000
# Lines between two reports and looks at the clock.
STRIDE = 500

Line = list[int]
WORD = re.compile(r"[a-z]+")
# No digit takes part in a word: each number has one spelling of its own.
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu")


@dataclass
class Counts:
    """What is counted. The n-grams do not cross the end of a line."""

    n: int
    lines: int = 0
    words: Counter[str] = field(default_factory=Counter)
    ngrams: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def add_line(self, words: list[str]) -> None:
        """Count the words of one line in."""
        self.lines += 1
        self.words.update(words)
        self.ngrams.update(zip(*(words[start:] for start in range(self.n)), strict=False))

    def times(self, factor: int) -> Counts:
        """Return the counts of a corpus that repeats this one."""
        words = Counter({key: value * factor for key, value in self.words.items()})
        ngrams = Counter({key: value * factor for key, value in self.ngrams.items()})
        return Counts(self.n, self.lines * factor, words, ngrams)


def main(task: Task) -> dict[str, Any]:
    """Count the corpus and return totals, the most frequent and the corpus' hash."""
    n, pace = int(task.payload.get("n", 2)), Pace(float(task.payload.get("seconds", 0)))
    if "corpus" in task.inputs:
        corpus, expected = path_of(task.inputs["corpus"]), None
    else:
        size = int(float(task.payload.get("megabytes", 50)) * MEGABYTE)
        corpus = Path(tempfile.gettempdir()) / "corpus.txt"
        expected = generate(task, corpus, size, n)
    counts, digest = count(task, corpus, n, pace, generated=expected is not None)
    if expected is not None:
        verify(counts, expected)
    return summary(counts, corpus.stat().st_size, digest, int(task.payload.get("top", 10)), expected is not None)


def generate(task: Task, corpus: Path, size: int, n: int) -> Counts:
    """Write at least *size* bytes of text and return the counts that it must have."""
    block = make_block()
    text = [spell_line(line) for line in block]
    block_size = sum(map(len, text))
    blocks = -(-size // block_size)
    with corpus.open("w", encoding="ascii") as file:
        for number in range(blocks):
            task.raise_if_cancelled()
            task.report(number * block_size, 2 * blocks * block_size, unit="bytes", stage="generating")
            # Turned by some lines each time, so that no two blocks are the same text.
            turn = number * 37 % LINES_PER_BLOCK
            file.writelines(text[turn:] + text[:turn])
    once = Counts(n)
    for line in block:
        once.add_line([spell(number) for number in line])
    return once.times(blocks)


def count(task: Task, corpus: Path, n: int, pace: Pace, *, generated: bool) -> tuple[Counts, str]:
    """Count the file line by line and return the counts and its SHA-256."""
    counts, digest = Counts(n), hashlib.sha256()
    size = corpus.stat().st_size
    before, total = (size, 2 * size) if generated else (0, size)
    done = 0
    with corpus.open("rb") as file:
        for number, line in enumerate(file, 1):
            digest.update(line)
            counts.add_line(WORD.findall(line.decode("utf-8", "replace").lower()))
            done += len(line)
            if number % STRIDE == 0:
                task.raise_if_cancelled()
                task.report(before + done, total, unit="bytes", stage="counting", message=f"line {number}")
                pace.keep(done / size)
    task.report(total, total, unit="bytes", stage="counting")
    return counts, digest.hexdigest()


class Pace:
    """Spreads the work over a time, for demonstrations: a fast machine then sleeps."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started = time.monotonic()

    def keep(self, share: float) -> None:
        """Sleep until *share* of the time is over."""
        time.sleep(max(self._started + share * self._seconds - time.monotonic(), 0))


def verify(counts: Counts, expected: Counts) -> None:
    """Raise PermanentError unless every single count is right."""
    if counts != expected:
        wrong = [word for word in expected.words if counts.words[word] != expected.words[word]]
        raise PermanentError(f"the counts are wrong: {counts.lines} of {expected.lines} lines, words {wrong[:5]}")


def summary(counts: Counts, size: int, digest: str, top: int, verified: bool) -> dict[str, Any]:
    """Return the result; ties go by the alphabet."""
    return {
        "bytes": size,
        "lines": counts.lines,
        "words": counts.words.total(),
        "distinctWords": len(counts.words),
        "ngrams": counts.ngrams.total(),
        "distinctNgrams": len(counts.ngrams),
        "topWords": dict(sorted(counts.words.items(), key=lambda entry: (-entry[1], entry[0]))[:top]),
        "topNgrams": {" ".join(key): value for key, value in sorted(counts.ngrams.items(), key=rank)[:top]},
        "sha256": digest,
        "verified": verified,
    }


def rank(entry: tuple[tuple[str, ...], int]) -> tuple[int, tuple[str, ...]]:
    """Return the sort key of an n-gram: the frequent first."""
    return -entry[1], entry[0]


def make_block() -> list[Line]:
    """Return the lines of a block as word numbers; small numbers are frequent, as words are in a language."""
    source = random.Random(20240229)
    return [list(line_of(source)) for _ in range(LINES_PER_BLOCK)]


def line_of(source: random.Random) -> Iterator[int]:
    """Yield the numbers of one line. `random()` alone is the same in every version of Python."""
    for _ in range(WORDS_PER_LINE):
        yield int(VOCABULARY ** source.random()) - 1


def spell_line(line: Line) -> str:
    """Return a line as text, with the capitals and marks that the counting must see through."""
    words = [spell(number) for number in line]
    return f"{words[0].capitalize()} {' '.join(words[1:6])}, {' '.join(words[6:])}.\n"


def spell(number: int) -> str:
    """Return the word of a number, one syllable for each digit."""
    return "".join(SYLLABLES[int(digit)] for digit in str(number))


def path_of(uri: str) -> Path:
    """Return the path of a file:// URI; PermanentError for any other."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise PermanentError(f"only file:// inputs can be read here, not {uri}")
    return Path(unquote(parts.path))


if __name__ == "__main__":
    run(main)
