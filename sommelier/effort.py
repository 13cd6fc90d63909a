"""How long training may take: the word on the command line, light to import."""

from enum import StrEnum


class Effort(StrEnum):
    """How long training may take."""

    QUICK = "quick"
    """Trains for about a minute: enough to show the effect, not all of it."""
    FULL = "full"
