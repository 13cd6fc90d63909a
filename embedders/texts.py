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
        slug = re.sub(r"[^a-z0-9]+", "_", self.writer.lower()).strip("_")[:32]
        return f"{self.kind}_{slug}_{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Texts of distinct items (or users at moments) of one source, checked once, here.

    Raises:
        ValueError: lists of different lengths, or a text that is empty, too long, or not valid
            Unicode; the message names the first id at fault.
    """

    source: TextSource
    row_ids: Sequence[str]
    texts: Sequence[str]
    positions: Sequence[int]
    """How many of the user's events each preference has read; of summaries 0."""

    def __post_init__(self) -> None:
        if not len(self.row_ids) == len(self.texts) == len(self.positions):
            raise ValueError(
                f"{self.source.source_id}: {len(self.row_ids)} ids, {len(self.texts)} texts and "
                f"{len(self.positions)} positions; there must be as many of each"
            )
        for row_id, text in zip(self.row_ids, self.texts, strict=True):
            if not text.strip():
                raise ValueError(f"{self.source.source_id}: the text of {row_id!r} is empty")
            if len(text) > MAX_CHARACTERS:
                raise ValueError(
                    f"{self.source.source_id}: the text of {row_id!r} has {len(text):,} "
                    f"characters, at most {MAX_CHARACTERS:,} are kept"
                )
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"{self.source.source_id}: the text of {row_id!r} is not valid Unicode at "
                    f"character {error.start}"
                ) from error

    def __len__(self) -> int:
        return len(self.row_ids)
