"""A history and a candidate in, the LLM's input out: words, behaviors, item tokens, evidence.

    prefix:  [text] ["preference:" preference] "history:"  (<behavior> [words] [item tokens]) ...
                                                                         computed once for a user
    branch:  "candidate:" [words] [item tokens] [evidence] [behavior] "choose?"      one for each
                                                                                  candidate

The text is the query's own, such as who asks; the preference is what was written of the user's
(MLLM-MSR). An item's words are its title and, where summaries are read, its summary on a line of
its own. Of words and item tokens the configuration says which are written, for the history and for
the candidate apart; an item without a title or a summary is called "untitled" where nothing else
would stand for it (its id would tell of order and origin, which is no content). The behavior that
is asked about stands in the branch, so that questions of several behaviors share a prefix.

What others wrote is quoted: whatever it spells, it is words (`ranker.quoting`).

The answer is read at the branch's last position, as logit("yes") - logit("no"). An item that was
touched several times is written once, at its last event: repeated events say little and cost
tokens. Behaviors are special tokens (TMF) with learned embeddings of their own, so that the LLM's
vocabulary stays as it was; a behavior with few distinct weights, such as stars, has one for each.

The prompt is written as codes: `kind * STRIDE + index`. Whoever embeds it (`ranker.model`) looks
words up in the LLM's embeddings, behaviors in the adapter's, items among the fused tokens.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedders.items import Interaction
from ranker.config import PromptConfig, Written

STRIDE = 1 << 40
WORD, BEHAVIOR, ITEM, EVIDENCE = range(4)

HISTORY, CANDIDATE, QUESTION, YES, NO = "history:", "candidate:", "choose?", "yes", "no"
PREFERENCE = "preference:"
FRAME = (HISTORY, CANDIDATE, QUESTION, YES, NO)
"""The phrases of every frame; the embedded LLM's tokenizer holds each as one token."""
PHRASES = (*FRAME, PREFERENCE)
"""Those of any frame."""
LINE = "\n"  # between an item's title and its summary
CHARACTERS = 16  # of a summary or preference that are read for each token that is written

UNTITLED = "untitled"
OTHER = "other"  # any behavior that training did not meet
MAX_WEIGHTS = 12  # a behavior with more distinct weights than this is written without them

Tokenize = Callable[[str], Sequence[int]]
Codes = NDArray[np.int64]


def frame(config: PromptConfig) -> tuple[str, ...]:
    """The phrases of these prompts."""
    return PHRASES if config.preference_tokens else FRAME


def bounded(text: str, num_tokens: int) -> str:
    """As much of a text as can matter where so many of its tokens are written: what a model wrote
    may be long, and is kept and tokenized for every item."""
    return text[: CHARACTERS * num_tokens]


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
    """The frame's text to token ids, without any special tokens around them."""
    quote: Tokenize
    """The same for what others wrote: no spelling in it becomes a token of the frame."""
    row_of: Mapping[str, int]
    """Each known item's row among the fused tokens."""
    titles: Mapping[str, str]
    behaviors: Sequence[str]
    num_tokens: int
    """Fused tokens for each item."""
    config: PromptConfig
    summaries: Mapping[str, str] = field(default_factory=dict)

    def prefix(
        self,
        history: Sequence[Interaction],
        *,
        text: str | None = None,
        preference: str | None = None,
    ) -> Codes:
        """The user's part, [P]. Events with items that are not known are passed over.

        Args:
            history: Oldest first.
            text: The query's own words; they stand first.
            preference: What was written of the user's, where the configuration reads it.
        """
        last: dict[str, Interaction] = {}
        for event in history:
            if event.item_id in self.row_of:
                last.pop(event.item_id, None)
                last[event.item_id] = event
        codes = self._quoted(text or "")[: self.config.text_tokens]
        if told := self._bounded(preference or "", self.config.preference_tokens):
            codes += self._words(PREFERENCE) + told
        codes += self._words(HISTORY)
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
        return len(self._quoted(self.titles.get(item_id, ""))) > self.config.title_tokens

    def _behavior(self, *names: str) -> int:
        """The code of the first of these that is known, else of `other`."""
        known = next((name for name in names if name in self.behaviors), OTHER)
        return BEHAVIOR * STRIDE + self.behaviors.index(known)

    def _item(self, item_id: str, written: Written) -> list[int]:
        words = [] if written == "tokens" else self._told(item_id)
        if written == "titles":
            return words or self._words(UNTITLED)
        first = ITEM * STRIDE + self.row_of[item_id] * self.num_tokens
        return words + list(range(first, first + self.num_tokens))

    def _told(self, item_id: str) -> list[int]:
        """An item's words: its title, and its summary behind it."""
        title = self._quoted(self.titles.get(item_id, ""))[: self.config.title_tokens]
        summary = self._bounded(self.summaries.get(item_id, ""), self.config.summary_tokens)
        if not summary:
            return title
        return title + (self._words(LINE) if title else []) + summary

    def _bounded(self, text: str, limit: int) -> list[int]:
        return self._quoted(bounded(text, limit))[:limit] if limit else []

    def _words(self, phrase: str) -> list[int]:
        return [WORD * STRIDE + token for token in self.tokenize(phrase)]

    def _quoted(self, text: str) -> list[int]:
        return [WORD * STRIDE + token for token in self.quote(text)]
