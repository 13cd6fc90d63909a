"""Runs and judgements in, TREC's text files out, and back: what other tools measure and make.

A run has lines `user_id Q0 item_id rank score tag`, judgements (qrels) have `user_id 0 item_id 1`,
in UTF-8; a path that ends in `.gz` is compressed. Equal input gives equal bytes.

Order. trec_eval passes over the ranks: it sorts by score, which it keeps in single precision, and
lets ties fall by id from the largest down; ranx leaves ties as its sort happens to; here ties fall
by id from the smallest up. So scores are written to fall strictly, in single precision too, and
every tool finds our order. A score that already does so is written with all its digits.

Ids. Fields are parted by blanks, so white space, control characters and the percent sign of an id
are written as percent escapes (`a b` as `a%20b`) and read back; all other ids stay as they are.

What a file cannot hold: users for whom nothing was found, the moment at which a user was asked, and
that a run had no scores.
"""

import gzip
import math
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from evaluation.judgements import Judgement
from evaluation.runs import Run

MAX_LINE_BYTES = 4096
MAX_ROWS = 20_000_000  # some three GiB once read
LARGEST = 1e38  # single precision ends at 3.4e38
TO_ESCAPE = re.compile(r"[%\s\x00-\x1f\x7f]")


def write_run(run: Run, path: Path, *, tag: str | None = None) -> None:
    """Write a run, users by id, each ranking in its order with ranks from 1.

    Args:
        run: Where it has no scores, the last of n items is written with 1 and the first with n.
        path: Replaced at once when all is written.
        tag: The run's name in the file; None takes its own.

    Raises:
        ValueError: an empty id or tag.
    """
    name = escaped(run.name if tag is None else tag)
    with _written(path) as file:
        for user_id in sorted(run.rankings):
            ranked = run.rankings[user_id]
            scores = falling(None if run.scores is None else run.scores[user_id], len(ranked))
            user = escaped(user_id)
            lines = (
                f"{user} Q0 {escaped(item_id)} {rank} {score!r} {name}\n"
                for rank, (item_id, score) in enumerate(zip(ranked, scores, strict=True), start=1)
            )
            file.write("".join(lines).encode())


def write_qrels(judgements: Iterable[Judgement], path: Path) -> None:
    """Write what users chose, users and items by id."""
    with _written(path) as file:
        for one in sorted(judgements, key=lambda one: one.user_id):
            user = escaped(one.user_id)
            lines = (f"{user} 0 {escaped(item_id)} 1\n" for item_id in sorted(one.item_ids))
            file.write("".join(lines).encode())


def read_run(
    path: Path,
    *,
    asked: Collection[str] = (),
    is_escaped: bool = True,
    max_rows: int = MAX_ROWS,
) -> Run:
    """Read a run, ours or another system's; users in the order of their first line.

    Rankings go by falling score, equal scores by item id; the file's ranks are not looked at.

    Args:
        path: The file.
        asked: Users who were asked: those without a line get an empty ranking.
        is_escaped: False takes ids as they stand, for files of others with percent signs in ids.
        max_rows: More lines than that are refused.

    Raises:
        ValueError: a line that cannot be read, told by its number, an item ranked twice for one
            user, several tags, no line at all, a damaged file, or one beyond the limits.
    """
    found: dict[str, dict[str, float]] = {}
    ids = _Ids(is_escaped)
    tag: bytes | None = None
    for fail, (user, _, item, _, score, name) in _rows(path, 6, max_rows):
        tag = tag or name
        if name != tag:
            raise fail(f"the tag is {_shown(name)}, before it was {_shown(tag)}: one run to a file")
        of_user = found.setdefault(ids.read(user, fail), {})
        item_id = ids.read(item, fail)
        if item_id in of_user:
            raise fail(f"item {item_id!r} is ranked twice for this user")
        of_user[item_id] = _number(score, fail)
    if tag is None:
        raise ValueError(f"{path} holds no line of a run")
    for user_id in asked:
        found.setdefault(user_id, {})
    rankings = {
        user_id: sorted(of_user, key=lambda item_id: (-of_user[item_id], item_id))
        for user_id, of_user in found.items()
    }
    scores = {
        user_id: [found[user_id][item_id] for item_id in ranked]
        for user_id, ranked in rankings.items()
    }
    return Run(name=_Ids(is_escaped).read(tag, ValueError), rankings=rankings, scores=scores)


def read_qrels(
    path: Path,
    *,
    as_of: datetime,
    is_escaped: bool = True,
    max_rows: int = MAX_ROWS,
) -> tuple[Judgement, ...]:
    """Read judgements, users by id; gains are binary, so a grade above 0 counts as chosen.

    A user without any such item has no judgement, as trec_eval leaves such users out.

    Args:
        path: The file.
        as_of: When the users were asked, which the file does not say.
        is_escaped: As in `read_run`.
        max_rows: As in `read_run`.

    Raises:
        ValueError: as `read_run` does.
    """
    found: dict[str, dict[str, bool]] = {}
    ids = _Ids(is_escaped)
    for fail, (user, _, item, grade) in _rows(path, 4, max_rows):
        of_user = found.setdefault(ids.read(user, fail), {})
        item_id = ids.read(item, fail)
        if item_id in of_user:
            raise fail(f"item {item_id!r} is judged twice for this user")
        of_user[item_id] = _number(grade, fail) > 0
    if not found:
        raise ValueError(f"{path} holds no judgement")
    chosen = {
        user_id: frozenset(item_id for item_id, is_chosen in found[user_id].items() if is_chosen)
        for user_id in sorted(found)
    }
    return tuple(
        Judgement(user_id=user_id, as_of=as_of, item_ids=item_ids)
        for user_id, item_ids in chosen.items()
        if item_ids
    )


def falling(scores: Sequence[float] | None, num_items: int) -> list[float]:
    """Scores that fall strictly along a ranking, as doubles and in single precision.

    A score stays what it is where it lies below the one before in single precision; else it
    becomes the next smaller number of single precision. None counts down to 1.
    """
    if scores is None:
        return [float(number) for number in range(num_items, 0, -1)]
    given: NDArray[np.float64] = np.clip(np.asarray(scores, np.float64), -LARGEST, LARGEST)
    single = given.astype(np.float32)
    exact_scores: list[float] = given.tolist()
    if (single[1:] < single[:-1]).all():
        return exact_scores
    found: list[float] = []
    before = np.float32(np.inf)
    for exact, rounded in zip(exact_scores, single, strict=True):
        keeps = rounded < before
        before = rounded if keeps else np.nextafter(before, np.float32(-np.inf))
        found.append(exact if keeps else float(before))
    return found


def escaped(text: str) -> str:
    """An id or a tag as one field of a line.

    Raises:
        ValueError: it is empty, which no field can be.
    """
    if not text:
        raise ValueError("an empty id or name cannot be a field of a TREC file")
    return TO_ESCAPE.sub(lambda found: quote(found[0], safe=""), text)


Fail = Callable[[str], ValueError]


class _Ids:
    """Ids as read, each held once however often it occurs."""

    def __init__(self, is_escaped: bool) -> None:
        self._is_escaped = is_escaped
        self._known: dict[bytes, str] = {}

    def read(self, field: bytes, fail: Fail) -> str:
        text = self._known.get(field)
        if text is None:
            text = self._known[field] = self._text(field, fail)
        return text

    def _text(self, field: bytes, fail: Fail) -> str:
        try:
            text = field.decode()
            plain = unquote(text, errors="strict") if self._is_escaped else text
        except UnicodeDecodeError as error:
            raise fail(f"{_shown(field)} is not UTF-8") from error
        if self._is_escaped and escaped(plain) != text:
            raise fail(
                f"{text!r} has a percent sign or blank that is not escaped as %25 and the like; "
                "read files of other systems with is_escaped=False"
            )
        return plain


def _rows(path: Path, num_fields: int, max_rows: int) -> Iterator[tuple[Fail, list[bytes]]]:
    """The fields of every line that is not blank, with what makes an error of it."""
    num_rows = 0
    number = 0

    def fail(cause: str) -> ValueError:
        return ValueError(f"{path}, line {number}: {cause}")

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise fail(f"longer than {MAX_LINE_BYTES} bytes")
                fields = line.split()
                if not fields:
                    continue
                if len(fields) != num_fields:
                    raise fail(f"{num_fields} fields are expected, found {len(fields)}")
                num_rows += 1
                if num_rows > max_rows:
                    raise fail(f"more than {max_rows:,} lines; raise max_rows if that is meant")
                yield fail, fields
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged after line {number}: {error}") from error


def _number(field: bytes, fail: Fail) -> float:
    try:
        number = float(field)
    except ValueError as error:
        raise fail(f"{_shown(field)} is not a number") from error
    if not math.isfinite(number):
        raise fail(f"{_shown(field)} is not a finite number")
    return number


def _shown(field: bytes) -> str:
    return repr(field.decode(errors="replace"))


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place when it is whole; without its name and time in a header."""
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb") as plain:
            if path.suffix == ".gz":
                with gzip.GzipFile(
                    filename="", mode="wb", fileobj=plain, mtime=0, compresslevel=6
                ) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield plain
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
