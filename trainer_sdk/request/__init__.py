"""The environment: which kind of job is asked for, under which id, on which machines, with which values."""
