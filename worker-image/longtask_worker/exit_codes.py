"""What each exit code of a worker means: the whole table, and nothing else.

The operator's causes follow from these codes and the termination message, so a
code is never given a second meaning.
"""

from __future__ import annotations

#: The function returned; its result stands in the termination message.
OK = 0
#: The function raised: cause Application, retried within its budget.
APPLICATION = 1
#: The command line is wrong, or names no function.
USAGE = 2
#: PermanentError (EX_DATAERR): trying again cannot help; the termination message says `permanent`.
PERMANENT = 65
#: A newer attempt of this task exists; this one stopped itself.
SUPERSEDED = 79
#: The task was cancelled, or Ctrl-C was pressed, and the function stopped.
CANCELLED = 130
#: SIGTERM came and the function stopped within the grace period.
TERMINATED = 143
