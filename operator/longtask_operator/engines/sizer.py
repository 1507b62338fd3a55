"""Suggests first sizes: from the size of inputs, else from the past, which it learns from the cache of tasks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime

from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import LongTask
from longtask_operator.api.phases import TERMINAL, Phase
from longtask_operator.core.attempt_size import Suggestion
from longtask_operator.core.history import History, HistoryRule, kind_of, suggestion_within
from longtask_operator.core.input_hint import InputRule, fall_through, hint_from, rule_for, stated_sizes
from longtask_operator.engines.context import Context
from longtask_operator.engines.input_sizes import InputSizes
from longtask_operator.engines.quotas import Quotas

_ENDED, _LIVE = frozenset({*TERMINAL, Phase.BACKOFF}), frozenset({Phase.STARTING, Phase.RUNNING, Phase.CANCELLING})
#: Finished tasks that are looked at on taking the lead, at most: some 50 us each.
_MOST_READ = 2_000


class Sizer:
    """Knows what attempts needed that ended since the start, and those of tasks that had finished before."""

    def __init__(
        self,
        context: Context,
        quotas: Quotas,
        rule: HistoryRule,
        input_rules: Sequence[InputRule] = (),
        inputs: InputSizes | None = None,
    ) -> None:
        self._context, self._quotas, self.history = context, quotas, History(rule)
        self._input_rules, self._inputs = input_rules, inputs
        context.caches.tasks.listeners.append(self._task_changed)

    def suggest(self, task: LongTask, tenant: str, now: datetime) -> Suggestion | None:
        """Return what to begin *task* with, or None where it asks for memory itself or nothing is known."""
        resources = task.spec.resources
        if task.status.phase in TERMINAL or (resources and resources.memory is not None):
            return None
        found = self._hint(task, tenant)
        if found is None or found.memory is None:
            found = fall_through(found, self.history.suggest(tenant, kind_of(task.spec), now))
        return found and suggestion_within(found, self._quotas.limits(tenant), sidecar=bool(task.spec.progress_file))

    def _hint(self, task: LongTask, tenant: str) -> Suggestion | None:
        """Return what the inputs of *task* suggest, or None where it has none or no rule is for its image.

        The store is asked before the first attempt of a run; what was known then holds for all of it.
        """
        rule, stated = rule_for(task.spec.image, self._input_rules), stated_sizes(task.spec.inputs or ())
        if rule is None or not stated:
            return None
        if all(one.size is not None for one in stated) or self._inputs is None:
            return hint_from(stated, rule)
        if any(attempt.run == (task.status.run or 1) for attempt in task.status.attempts or ()):
            return None
        sizes, asked = self._inputs.of(task, tenant)
        return hint_from(sizes, rule, asked)

    def read(self, records: Iterable[TaskRecord]) -> None:
        """Learn from the tasks that have finished last, in the order in which they were written last."""
        finished = (record for record in records if record.phase in TERMINAL)
        for record in reversed(heapq.nlargest(_MOST_READ, finished, key=lambda record: record.version)):
            self._learn(record)

    def _task_changed(self, before: TaskRecord | None, after: TaskRecord | None) -> None:
        if before and after and before.uid == after.uid and _may_have_ended(before.phase, after.phase):
            self._learn(after)

    def _learn(self, record: TaskRecord) -> None:
        try:
            task = self._context.parsed.parse(record) if record.phase not in TERMINAL else record.parse()
        except SpecError:
            return
        if task.status.tenant:
            self.history.learn(task.status.tenant, kind_of(task.spec), record.uid, task.status.attempts or ())


def _may_have_ended(before: str, after: str) -> bool:
    """Whether a change of phase can be an attempt's end; in place of Backoff the status may say what comes first."""
    return before != after and (after in _ENDED or (before in _LIVE and after == Phase.QUEUED))
