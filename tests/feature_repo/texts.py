"""Two sources of texts, what they wrote, and texts that ask for trouble."""

from collections.abc import Mapping
from datetime import datetime

from embedders.items import EPOCH
from embedders.texts import MAX_CHARACTERS, TextKind, Texts, TextSource
from feature_repo.store import Store

SUMMARY = TextSource(kind=TextKind.SUMMARY, writer="toy/Writer-1", revision="1", prompt="p")
PREFERENCE = TextSource(kind=TextKind.PREFERENCE, writer="toy/Writer-1", revision="1", prompt="p")

HOSTILE = {
    "quotes": """'); DROP TABLE items; -- "x" `y` $z {w} %s ${HOME} \\ \\n""",
    "emoji": "👩‍👩‍👧‍👦 family, 🏴󠁧󠁢󠁥󠁮󠁧󠁿 flag, e\u0301 accent",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd\u202c \u0645\u0631\u062d\u0628\u0627",
    "lines": "one\r\ntwo\n\n\tthree\u2028four\x1b[31m\x07",
    "of every width": "a\u00ff\uffff\U0010ffff",
    "blanks around": "  kept as they are \n",
    "long": "𝄞" * MAX_CHARACTERS,
    "one long word": "w" * MAX_CHARACTERS,
}


def write_texts(
    store: Store,
    source: TextSource,
    texts: Mapping[str, str],
    *,
    at: datetime = EPOCH,
    position: int = 3,
) -> int:
    """Writes texts by id, each hashed as `hash of <text>`; preferences at one position."""
    is_preference = source.kind is TextKind.PREFERENCE
    written = Texts(
        source=source,
        row_ids=list(texts),
        texts=list(texts.values()),
        positions=[position if is_preference else 0] * len(texts),
    )
    return store.write_texts(
        written,
        content_hashes=[f"hash of {text[:20]}" for text in texts.values()],
        event_timestamps=[at] * len(texts),
    )
