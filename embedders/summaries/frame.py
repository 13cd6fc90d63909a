"""Untrusted words in, one frame of data that they cannot break out of.

Titles, descriptions and what a model wrote before come from strangers, yet stand in the prompt of
a model that takes orders. So they stand as JSON on one line between two marks,

    <data>
    {"title": "Red (1994)", "category": "Drama"}
    </data>

and every word in it is made plain first: folded as tokenizers may fold it (Unicode NFKC), then
without line breaks, control and invisible characters, angle and square brackets, with which the
special tokens of every chat format begin, and without the words that name a turn (`ASSISTANT:`,
`### Response:`). Hence no token of a chat format, no placeholder of a picture and no end of the
frame can be spelled within. What a stranger *asks* can still be read, and a model may still
follow it: the instruction forbids that, and the answer is bounded, made plain and never run.

Brackets become look-alikes that nothing folds back, so the words stay readable.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence

OPEN, CLOSE = "<data>", "</data>"
LIMIT = 1_000  # characters of one text: more of a description says little more
MOST = 200  # texts of one list, and entries of one mapping
CUT = " ..."
RULES = f"json between marks, plain: NFKC 1; {LIMIT} characters, {MOST} entries"
"""What a prompt's digest says of the frame."""

Data = str | int | float | None | Sequence["Data"] | Mapping[str, "Data"]
"""Words, numbers, and lists and mappings of these."""

ROOM = 20  # times the limit that are looked at: so many invisible characters may be in between
BRACKETS = str.maketrans({"<": "\u2039", ">": "\u203a", "[": "(", "]": ")"})
INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs"})  # controls, formats, private use, surrogates
SELECTORS = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
TURN = re.compile(
    r"\b(user|human|assistant|system|bot|ai|gpt|model|tool|developer|instructions?|input|response"
    r"|output|question|answer)(\s*):",
    re.IGNORECASE,
)
HASHES = re.compile(r"#{2,}")


def plain(text: str, *, limit: int = LIMIT) -> str:
    """Words on one line, in which nothing is left that a model's input could be steered with.

    Args:
        text: From anywhere.
        limit: The most characters; a longer text ends in ` ...`, within the limit.

    Returns:
        The same again for what is plain already; empty where nothing visible is in it.
    """
    shown = unicodedata.normalize("NFKD", text[: ROOM * limit])
    if not (shown.isprintable() and SELECTORS.isdisjoint(shown)):
        shown = "".join(map(_visible, shown))
    shown = " ".join(unicodedata.normalize("NFKC", shown.translate(BRACKETS)).split())
    shown = TURN.sub(r"\1 -", HASHES.sub("#", shown))
    if len(shown) <= limit and len(text) <= ROOM * limit:
        return shown
    return shown[: limit - len(CUT)].rstrip() + CUT if shown else ""


def framed(data: Mapping[str, Data], *, limit: int = LIMIT) -> str:
    """The data as one line of JSON between the frame's marks.

    Args:
        data: The keys may be a stranger's too. What is None or empty is left out.
        limit: The most characters of each text in it; of longer lists and mappings the first
            `MOST` entries count.

    Returns:
        The frame. `json.loads` of its middle line gives the data back, every text of it plain.
    """
    line = json.dumps(_plain(data, limit), ensure_ascii=False, allow_nan=False)
    return f"{OPEN}\n{line}\n{CLOSE}"


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    if character in SELECTORS or unicodedata.category(character) in INVISIBLE:
        return ""
    return character


def _plain(data: Data, limit: int) -> Data:
    match data:
        case str():
            return plain(data, limit=limit)
        case float():
            return data if abs(data) < float("inf") else None  # nor is NaN less than anything
        case int() | None:
            return data
        case Mapping():
            entries = [
                (plain(key, limit=limit), _plain(value, limit))
                for key, value in list(data.items())[:MOST]
            ]
            return {key: value for key, value in entries if value not in (None, "", [], {})}
        case _:
            return [_plain(one, limit) for one in list(data)[:MOST]]
