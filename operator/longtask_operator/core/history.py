"""What attempts of the same kind needed before: the size that a task without a request of its own begins with.

A kind is what runs, for one tenant. Of each kind the latest ended attempts are remembered, and none
older than the window: what succeeded says how much memory is usual, what ran out of memory
says how much is too little. All of it comes from finished LongTasks, so a restart brings it back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.quantity import MEBIBYTE, format_memory, parse_memory
from longtask_operator.api.reasons import Cause, SizeSource
from longtask_operator.api.status import Attempt
from longtask_operator.api.times import parse_time
from longtask_operator.core.attempt_size import Suggestion
from longtask_operator.core.growth import Ceiling
from longtask_operator.core.quota import Limits
from longtask_operator.core.sizing import SIDECAR, Size

#: Kinds remembered, the latest used ones: 1,000 kinds of 32 attempts are about 8 MB.
MAX_KINDS = 1000
#: Attempts remembered of each kind.
MAX_SAMPLES = 32
#: Words of a command that tell what runs; the ones that follow are what it runs on.
_COMMAND_WORDS = 3
_MAX_WORD = 200

#: A task's uid and the number of its attempt.
SampleKey = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRule:
    """How the past becomes a size."""

    enabled: bool = True
    quantile_percent: int = 90
    headroom_percent: int = 25
    window: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One ended attempt. Exactly one of the amounts is set, in bytes."""

    ended: datetime
    peak: int | None = None  #: of one that completed
    too_small: int | None = None  #: what one had that ran out of memory


@dataclass(slots=True)
class _Kind:
    samples: dict[SampleKey, Sample] = field(default_factory=dict)

    def add(self, key: SampleKey, sample: Sample) -> None:
        self.samples[key] = sample
        while len(self.samples) > MAX_SAMPLES:
            del self.samples[min(self.samples, key=lambda known: self.samples[known].ended)]

    def since(self, moment: datetime) -> list[Sample]:
        return sorted((s for s in self.samples.values() if s.ended >= moment), key=lambda s: s.ended)


class History:
    """The past of all kinds, bounded. A suggestion costs O(samples of one kind)."""

    def __init__(self, rule: HistoryRule, *, max_kinds: int = MAX_KINDS) -> None:
        self._rule, self._max_kinds = rule, max_kinds
        self._kinds: OrderedDict[tuple[str, str], _Kind] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kinds)

    def learn(self, tenant: str, kind: str, uid: str, attempts: Iterable[Attempt]) -> None:
        """Take in what the ended *attempts* of a task tell; told again, it is the same."""
        for attempt in attempts:
            if sample := sample_of(attempt):
                known = self._kinds.setdefault((tenant, kind), _Kind())
                known.add((uid, attempt.number), sample)
                self._kinds.move_to_end((tenant, kind))
        while len(self._kinds) > self._max_kinds:
            self._kinds.popitem(last=False)

    def suggest(self, tenant: str, kind: str, now: datetime) -> Suggestion | None:
        """Return the memory that an attempt of *kind* should begin with, or None where nothing is known."""
        known = self._kinds.get((tenant, kind)) if self._rule.enabled else None
        samples = known.since(now - self._rule.window) if known else []
        if not samples:
            return None
        self._kinds.move_to_end((tenant, kind))
        return suggest_from(samples, self._rule)


def suggest_from(samples: Sequence[Sample], rule: HistoryRule) -> Suggestion:
    """Return what *samples*, the oldest first and at least one, suggest.

    It is the quantile of the peaks with headroom on it, and more than what ran out of memory last.
    """
    peaks = sorted(sample.peak for sample in samples if sample.peak is not None)
    short = [sample.too_small for sample in samples if sample.too_small is not None]
    memory, said = 0, list[str]()
    if peaks:
        usual = peaks[-(-len(peaks) * rule.quantile_percent // 100) - 1]
        memory = usual * (100 + rule.headroom_percent) // 100
        those = (
            "the last attempt" if len(peaks) == 1 else f"{rule.quantile_percent} % of the last {len(peaks)} attempts"
        )
        said.append(
            f"{those} of this kind that succeeded peaked at {in_mebibytes(usual)} or less; "
            f"with {rule.headroom_percent} % headroom {in_mebibytes(memory)}"
        )
    if short:
        memory = max(memory, short[-1] + 1)
        said.append(f"{format_memory(short[-1])} ran out of memory for this kind last")
    return Suggestion(memory=memory, source=SizeSource.HISTORY, message="; ".join(said))


def sample_of(attempt: Attempt) -> Sample | None:
    """Return what an attempt tells about memory, or None: it lives, ended otherwise, or nobody measured it."""
    if attempt.completion_time is None:
        return None
    ended = parse_time(attempt.completion_time)
    if attempt.cause == Cause.COMPLETED and attempt.peak_memory:
        return Sample(ended=ended, peak=parse_memory(attempt.peak_memory))
    if attempt.cause == Cause.OUT_OF_MEMORY and attempt.memory:
        return Sample(ended=ended, too_small=parse_memory(attempt.memory))
    return None


def suggestion_within(suggestion: Suggestion, limits: Limits, *, sidecar: bool) -> Suggestion:
    """Return *suggestion* bounded by what the tenant may use: what nobody asked for must not keep a task waiting."""
    aside = SIDECAR if sidecar else Size(cpu=0, memory=0)
    cpu, memory = _minus(limits.cpu, aside.cpu), _minus(limits.memory, aside.memory)
    most = Ceiling(cpu=_least(limits.max_cpu, cpu), memory=_least(limits.max_memory, memory))
    return replace(suggestion, most=most)


def kind_of(spec: LongTaskSpec) -> str:
    """Return what *spec* runs: its image without tag or digest, and the words of its command that say what it does.

    Of the arguments only a first word counts where there is no command: `wordcount:main`, `import`. What
    looks like data (an option, a path, a URI, a number) is left out: it differs from task to task.
    """
    words = (spec.command or [])[:_COMMAND_WORDS] or [word for word in (spec.args or [])[:1] if _names_a_program(word)]
    return " ".join([repository_of(spec.image or ""), *(word[:_MAX_WORD] for word in words)])


def repository_of(image: str) -> str:
    """Return *image* without tag and digest: a new version needs much the same memory as the one before."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def in_mebibytes(size: int) -> str:
    """Return *size* bytes in whole mebibytes, rounded up."""
    return format_memory(-(-size // MEBIBYTE) * MEBIBYTE)


def _names_a_program(word: str) -> bool:
    return not word.startswith(("-", "/", ".")) and "://" not in word and not word[:1].isdigit() and "=" not in word


def _minus(limit: int | None, amount: int) -> int | None:
    return None if limit is None else limit - amount


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
