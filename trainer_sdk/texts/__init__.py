"""Text that leaves the process: on one line, without secrets, for a person or for a log collector."""
