"""How long training may take: the word on the command line, light to import."""

from enum import StrEnum


class Effort(StrEnum):
    """How long training may take."""

    QUICK = "quick"
    """Shows that everything works; the numbers are nothing to quote."""
    FULL = "full"
