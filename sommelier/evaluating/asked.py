"""Judged users in, their queries out: read from the store in blocks, when they are asked for.

Each query brings the user's history as of their moment, and all that they had met by then. One
block is held at a time: fifty thousand users with fifty events each would be millions of objects.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import overload

from embedders.items import Interaction
from evaluation.judgements import Judgement
from retrieval.candidates import Query
from sommelier.writing.prompt_texts import Preferences

BLOCK = 2048  # users whose histories are read in one point-in-time join

Histories = Callable[[Sequence[tuple[str, datetime]]], list[tuple[Interaction, ...]]]


class AskedQueries(Sequence[Query]):
    """The queries of judged users, in their order."""

    def __init__(
        self,
        judgements: Sequence[Judgement],
        *,
        histories: Histories,
        seen: Mapping[str, frozenset[str]],
        preferences: Preferences | None = None,
        behavior: str | None = None,
    ) -> None:
        """Join the parts.

        Args:
            judgements: Who is asked for, and as of when.
            histories: Users and moments in, each one's last events strictly before it out.
            seen: All that each user had met by then; a history keeps only the last events.
            preferences: What was written of users as of moments; None where no prompt reads any.
            behavior: What every query asks about; None for any choice.
        """
        self._judgements = judgements
        self._histories = histories
        self._seen = seen
        self._preferences = preferences
        self._behavior = behavior
        self._held: tuple[int, list[Query]] = (-1, [])

    def __len__(self) -> int:
        return len(self._judgements)

    @overload
    def __getitem__(self, place: int) -> Query: ...
    @overload
    def __getitem__(self, place: slice) -> list[Query]: ...
    def __getitem__(self, place: int | slice) -> Query | list[Query]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        row = range(len(self))[place]  # a negative one counts from the end
        if self._held[0] != row // BLOCK:
            self._held = (row // BLOCK, self._read(row // BLOCK))
        return self._held[1][row % BLOCK]

    def _read(self, block: int) -> list[Query]:
        asked = self._judgements[block * BLOCK : (block + 1) * BLOCK]
        pairs = [(one.user_id, one.as_of) for one in asked]
        histories = self._histories(pairs)
        told = [None] * len(asked) if self._preferences is None else self._preferences(pairs)
        return [
            Query(
                user_id=one.user_id,
                history=events,
                as_of=one.as_of,
                exclude=self._seen[one.user_id],
                behavior=self._behavior,
                preference=preference,
            )
            for one, events, preference in zip(asked, histories, told, strict=True)
        ]
