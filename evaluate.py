#!/usr/bin/env python3
"""Measures one model on one data set. Environment in, one outcome out: docs/environment.md."""

from __future__ import annotations

import os
import sys

from trainer_sdk.aside import leave
from trainer_sdk.stopping import hold_signals


def main() -> int:
    """The whole job; the exit code says who has to act (trainer_sdk/errors.py)."""
    hold_signals()  # the imports take half a second
    from trainer_sdk.arguments import log_level_of
    from trainer_sdk.session import JobSession

    with JobSession.from_env(os.environ, kind="evaluate", log_level=log_level_of(sys.argv)) as session:
        if not session.already_completed:
            from mmtrain.jobs import evaluate  # late: an image with a broken torch must still report

            session.complete(evaluate.run(session.spec, session))
    return session.exit_code


if __name__ == "__main__":
    leave(main())
