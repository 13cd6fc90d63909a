"""A history and a candidate in, the LLM's input out: words, behaviors, item tokens, evidence.

    prefix:  [text] "history:"  (<behavior> [title] [item tokens]) ...  computed once for a user
    branch:  "candidate:" [title] [item tokens] [evidence] [behavior] "choose?"      one for each
                                                                                  candidate

The text is the query's own, such as who asks. Of title and item tokens the configuration says
which are written, for the history and for the candidate apart; an item without a title is called
"untitled" where nothing else would stand for it (its id would tell of order and origin, which is no
content). The behavior that is asked about stands in the branch, so that questions of several
behaviors share a prefix.

The answer is read at the branch's last position, as logit("yes") - logit("no"). An item that was
touched several times is written once, at its last event: repeated events say little and cost
tokens. Behaviors are special tokens (TMF) with learned embeddings of their own, so that the LLM's
vocabulary stays as it was; a behavior with few distinct weights, such as stars, has one for each.

The prompt is written as codes: `kind * STRIDE + index`. Whoever embeds it (`ranker.model`) looks
words up in the LLM's embeddings, behaviors in the adapter's, items among the fused tokens.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from ranker.config import PromptConfig, Written

STRIDE = 1 << 40
WORD, BEHAVIOR, ITEM, EVIDENCE = range(4)

HISTORY, CANDIDATE, QUESTION, YES, NO = "history:", "candidate:", "choose?", "yes", "no"
FRAME = (HISTORY, CANDIDATE, QUESTION, YES, NO)
"""The frame's phrases; the embedded LLM's tokenizer holds each as one token."""

UNTITLED = "untitled"
OTHER = "other"  # any behavior that training did not meet
MAX_WEIGHTS = 12  # a behavior with more distinct weights than this is written without them

Tokenize = Callable[[str], Sequence[int]]
Codes = NDArray[np.int64]


def label(behavior: str, weight: float | None) -> str:
    """A behavior's name with its weight: `rate 4.5`."""
    return behavior if weight is None or weight != weight else f"{behavior} {weight:g}"


def vocabulary(events: Iterable[Interaction], *, asked: Iterable[str] = ()) -> tuple[str, ...]:
    """The behavior labels of these events, and those asked about, sorted, `other` first."""
    weights: dict[str, set[float | None]] = {}
    for event in events:
        is_known = event.weight is not None and event.weight == event.weight
        weights.setdefault(event.behavior, set()).add(event.weight if is_known else None)
    names = {
        label(behavior, weight)
        for behavior, found in weights.items()
        for weight in (*(found if len(found) <= MAX_WEIGHTS else ()), None)
    }
    return (OTHER, *sorted((names | set(asked)) - {OTHER}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompter:
    """Writes prompts. Equal input gives equal codes."""

    tokenize: Tokenize
    """Text to token ids, without any special tokens around them."""
    row_of: Mapping[str, int]
    """Each known item's row among the fused tokens."""
    titles: Mapping[str, str]
    behaviors: Sequence[str]
    num_tokens: int
    """Fused tokens for each item."""
    config: PromptConfig

    def prefix(self, history: Sequence[Interaction], *, text: str | None = None) -> Codes:
        """The user's part, [P]. Events with items that are not known are passed over.

        Args:
            history: Oldest first.
            text: The query's own words; they stand first.
        """
        last: dict[str, Interaction] = {}
        for event in history:
            if event.item_id in self.row_of:
                last.pop(event.item_id, None)
                last[event.item_id] = event
        codes = self._words(text or "")[: self.config.text_tokens] + self._words(HISTORY)
        events = list(last.values())
        for event in events[max(0, len(events) - self.config.history_limit) :]:
            codes.append(self._behavior(label(event.behavior, event.weight), event.behavior))
            codes += self._item(event.item_id, self.config.history)
        return np.array(codes, dtype=np.int64)

    def branch(self, item_id: str, *, slot: int | None, behavior: str | None = None) -> Codes:
        """One candidate's part, [S].

        Args:
            item_id: Whose.
            slot: Its row among the evidence tokens; None where no evidence is read.
            behavior: What is asked about, where the configuration asks for one; `other` stands for
                None, and for one that training did not meet.
        """
        codes = self._words(CANDIDATE)
        codes += self._item(item_id, self.config.candidates)
        if slot is not None:
            codes.append(EVIDENCE * STRIDE + slot)
        if self.config.asks_behavior:
            codes.append(self._behavior(behavior or OTHER))
        return np.array(codes + self._words(QUESTION), dtype=np.int64)

    def is_cut(self, item_id: str) -> bool:
        """Whether a candidate's title is longer than what is written of it."""
        if self.config.candidates == "tokens":
            return False
        return len(self._words(self.titles.get(item_id, ""))) > self.config.title_tokens

    def _behavior(self, *names: str) -> int:
        """The code of the first of these that is known, else of `other`."""
        known = next((name for name in names if name in self.behaviors), OTHER)
        return BEHAVIOR * STRIDE + self.behaviors.index(known)

    def _item(self, item_id: str, written: Written) -> list[int]:
        title = [] if written == "tokens" else self._title(item_id)
        if written == "titles":
            return title or self._words(UNTITLED)
        first = ITEM * STRIDE + self.row_of[item_id] * self.num_tokens
        return title + list(range(first, first + self.num_tokens))

    def _title(self, item_id: str) -> list[int]:
        return self._words(self.titles.get(item_id, ""))[: self.config.title_tokens]

    def _words(self, text: str) -> list[int]:
        return [WORD * STRIDE + token for token in self.tokenize(text)]
