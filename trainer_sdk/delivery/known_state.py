"""What may still be told of a job in the state that the backend has for it.

The backend writes whatever status a call brings, so a late one revives a job that is over (contract 2.10).
"""

from __future__ import annotations

CANCELLED = frozenset({"cancelled", "stopped"})
OVER = CANCELLED | {"completed", "failed"}
OUTCOMES = frozenset({"completed", "failed"})
CHANGES_STATUS = OUTCOMES | {"started", "progress"}


def may_be_told(kind: str, state: str | None, *, late: bool) -> bool:
    """Whether an event of this kind respects the state.

    Args:
        state: None, when the backend does not say.
        late: it is told long after it happened, when another run may have ended the job.
    """
    if kind not in CHANGES_STATUS or state not in OVER:
        return True
    if state in CANCELLED or kind == "progress":
        return False
    if state == "failed":  # a pod that is started again goes on, and whoever failed may yet have completed
        return True
    return not late  # completed: another run under this id is somebody's wish, an old event is not
