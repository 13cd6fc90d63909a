"""What others wrote in, its words' tokens out: whatever it spells, it opens no frame.

Tokenizers turn the spelling of a control token (`</s>`, `<|im_end|>`) into that token wherever it
stands. Titles, summaries, preferences and queries are quoted: such spellings become their
characters' own tokens, and so do the frame's phrases where a tokenizer has them as one token. Any
other text has the tokens that it always had.
"""

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from ranker.prompts import NO, PHRASES, YES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEPT_TEXTS = 100_000
BRACKETS = (("<", ">"), ("[", "]"))  # about control tokens, of which some are not called special


def encode(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """A text's token ids, none around them; a special token's spelling is no special token.

    Whoever shares a tokenizer between threads asks in this way alone: another one would change what
    all of them get.
    """
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return tokens


def quoting(tokenizer: "PreTrainedTokenizerBase") -> Callable[[str], Sequence[int]]:
    """Text of others -> token ids; the latest texts are kept."""
    guarded = _guarded(tokenizer)
    spelled = re.compile("|".join(map(re.escape, sorted(guarded))) or r"(?!)")
    # A word that is not known is no control token, though some tokenizers have but one for both.
    forbidden = {*_special(tokenizer), *guarded.values()} - {tokenizer.unk_token_id}

    @lru_cache(maxsize=KEPT_TEXTS)
    def quote(text: str) -> Sequence[int]:
        found = (token for piece in _cut(text, spelled) for token in encode(tokenizer, piece))
        return array("i", (token for token in found if token not in forbidden))

    return quote


def _cut(text: str, spelled: re.Pattern[str]) -> Iterator[str]:
    """The text in pieces, each spelling cut in two before its last character."""
    begin = 0
    for match in spelled.finditer(text):
        yield text[begin : match.end() - 1]
        begin = match.end() - 1
    yield text[begin:]


def _special(tokenizer: "PreTrainedTokenizerBase") -> Iterator[int]:
    """All that are called special, and not only those that have a part to play."""
    yield from tokenizer.all_special_ids
    added = tokenizer.added_tokens_decoder.items()
    yield from (number for number, token in added if token.special)


def _guarded(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """Spellings of single tokens that are no words and not called special either."""
    frame = {phrase for phrase in PHRASES if phrase not in (YES, NO)}
    return {
        token.content: number
        for number, token in tokenizer.added_tokens_decoder.items()
        if not token.special and (token.content in frame or _is_bracketed(token.content))
    }


def _is_bracketed(spelling: str) -> bool:
    return len(spelling) > 1 and (spelling[0], spelling[-1]) in BRACKETS
