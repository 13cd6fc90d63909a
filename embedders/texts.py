"""Texts that a model wrote of items or users, and the source that they come from.

The sibling of `embedders.vectors`: texts of two sources never meet, as vectors of two spaces do
not.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

MAX_CHARACTERS = 8_192  # of one text: a paragraph is meant, and every prompt pays for it
# Of a writer's name in an id. A PostgreSQL table is named by project, view and suffix of its
# index, and cuts off what goes beyond 63 bytes: the digest, which tells two sources apart.
SLUG_CHARACTERS = 20


class TextKind(StrEnum):
    """What is written, and of whom."""

    PREFERENCE = "preference"
    """What a user seems to like, by their history."""
    SUMMARY = "summary"
    """What an item shows in its words, its picture and its sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """What makes two texts comparable: the same writer, asked in the same words.

    The id hashes every fact, and is part of the view's name.
    """

    kind: TextKind
    writer: str
    """The model's name, or `template`."""
    revision: str
    """Of the writer: a commit, a digest of its files, or of an endpoint's model what it states."""
    prompt: str
    """A digest of the prompts' words and of every setting that changes a text."""

    @property
    def source_id(self) -> str:
        """`<kind>_<writer>_<8 hex digits>`: fit for a file, view or column name."""
        facts = json.dumps(asdict(self), sort_keys=True)
        digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
        slug = re.sub(r"[^a-z0-9]+", "_", self.writer.lower()).strip("_")[:SLUG_CHARACTERS]
        return f"{self.kind}_{slug}_{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Texts of distinct items (or of users, each at distinct moments) of one source, checked here.

    Raises:
        ValueError: lists of different lengths, an item that occurs twice, a position that cannot
            be, or a text that is empty, too long, or no text that every store can hold; the
            message names the first id at fault.
    """

    source: TextSource
    row_ids: Sequence[str]
    texts: Sequence[str]
    positions: Sequence[int]
    """How many of the user's events each preference has read; of summaries 0."""

    def __post_init__(self) -> None:
        name = self.source.source_id
        if not len(self.row_ids) == len(self.texts) == len(self.positions):
            raise ValueError(
                f"{name}: {len(self.row_ids)} ids, {len(self.texts)} texts and "
                f"{len(self.positions)} positions; there must be as many of each"
            )
        is_summary = self.source.kind is TextKind.SUMMARY
        if is_summary and len(set(self.row_ids)) != len(self.row_ids):
            raise ValueError(f"{name}: an id occurs twice")
        for row_id, position in zip(self.row_ids, self.positions, strict=True):
            if position < 0 or (is_summary and position):
                raise ValueError(f"{name}: {row_id!r} cannot be at position {position}")
        for row_id, text in zip(self.row_ids, self.texts, strict=True):
            if fault := _fault(text):
                raise ValueError(f"{name}: the text of {row_id!r} {fault}")

    def __len__(self) -> int:
        return len(self.row_ids)


def _fault(text: str) -> str:
    """Why a text cannot be kept; empty where it can."""
    if not text.strip():
        return "is empty"
    if len(text) > MAX_CHARACTERS:
        return f"has {len(text):,} characters, at most {MAX_CHARACTERS:,} are kept"
    if (place := text.find("\0")) >= 0:  # PostgreSQL refuses it
        return f"holds the character NUL at {place}; leave it out"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"is not valid Unicode at character {error.start}"
    return ""
