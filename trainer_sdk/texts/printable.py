"""Text of others, so that it cannot pass for ours: no line of its own in a log, no command to a terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Every character that shows nothing, or moves what others show, as its escape: ``\\n``, ``\\x1b``, ``\\u202e``.

    Args:
        keep: such characters that stay, for texts whose lines are ours.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")
