"""A file of those who may call in, whom a token or a certificate belongs to out.

One JSON object a line: `caller`, a name; `sha256`, the hash of a token in hexadecimal digits, left
out where the caller comes with a certificate instead; `requests_per_s` and `burst` where the caller
has a rate of its own. A caller may have several lines, so that an old token and its successor hold
at the same time. Tokens themselves are written nowhere: whoever reads the file can call nobody.

A token has 256 random bits, so that a plain hash hides it; the slow hashes that passwords need
would cost every request their time.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from feature_repo.atomic import exclusively, publish

PREFIX = "sommelier_"  # what scanners for leaked secrets can look for
MOST_LINES = 1000  # all of them are compared for each request
NAME = re.compile(r"[!-~]{1,128}")
SHA256 = re.compile(r"[0-9a-f]{64}")
KEYS = frozenset({"caller", "sha256", "requests_per_s", "burst"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How much one caller may ask.

    Raises:
        ValueError: nothing could ever be asked.
    """

    requests_per_s: float
    """In the long run."""
    burst: int
    """At once, after a pause."""

    def __post_init__(self) -> None:
        if not 0 < self.requests_per_s < float("inf"):
            raise ValueError(f"requests_per_s must be above 0, got {self.requests_per_s}")
        if self.burst < 1:
            raise ValueError(f"burst must be at least 1, got {self.burst}")

    @classmethod
    def of(cls, requests_per_s: float, burst: int | None) -> "Rate":
        """Where no burst is named, a second's requests."""
        if burst is not None:
            return cls(requests_per_s=requests_per_s, burst=burst)
        checked = cls(requests_per_s=requests_per_s, burst=1)
        return replace(checked, burst=max(1, round(requests_per_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One line of the file."""

    name: str
    """Up to 128 characters of ASCII without spaces; where there is a certificate, the one in it."""
    sha256: str | None = None
    rate: Rate | None = None

    @property
    def line(self) -> str:
        """As the file has it."""
        told: dict[str, Any] = {"caller": self.name}
        if self.sha256 is not None:
            told["sha256"] = self.sha256
        if self.rate is not None:
            told |= {"requests_per_s": self.rate.requests_per_s, "burst": self.rate.burst}
        return json.dumps(told)


class Callers:
    """All lines of one file."""

    def __init__(self, lines: Sequence[Caller]) -> None:
        self.lines = tuple(lines)
        self._hashed = tuple(
            (bytes.fromhex(one.sha256), one) for one in self.lines if one.sha256 is not None
        )
        self._certified = {one.name: one for one in self.lines if one.sha256 is None}

    def by_token(self, token: str) -> Caller | None:
        """Whose token it is; takes as long for a wrong one as for a right one."""
        presented = hashlib.sha256(token.encode("utf-8", "backslashreplace")).digest()
        found = None
        for digest, caller in self._hashed:
            if hmac.compare_digest(digest, presented):
                found = caller
        return found

    def by_certificate(self, names: Sequence[str]) -> Caller | None:
        """Who comes with a certificate of one of these names."""
        return next((self._certified[name] for name in names if name in self._certified), None)


def read(path: Path) -> Callers:
    """The callers of a file, in its order.

    Raises:
        ValueError: a line that says no such thing, named by its number; its content is not told.
        OSError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text, so no file of callers") from error
    callers = [
        _parsed(line, f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if len(callers) > MOST_LINES:
        raise ValueError(f"{path} has {len(callers)} lines, at most {MOST_LINES} are allowed")
    rates: dict[str, Rate | None] = {}
    for caller in callers:
        if rates.setdefault(caller.name, caller.rate) != caller.rate:
            raise ValueError(
                f"{path}: the lines of {caller.name} name several rates; make them one"
            )
    return Callers(callers)


def add(path: Path, name: str, *, rate: Rate | None = None, has_token: bool = True) -> str:
    """A new line for this caller, in a file that only its owner may read; the former ones stay.

    Args:
        path: The file; made where there is none.
        name: Who.
        rate: What they may ask; None takes that of their other lines, if any.
        has_token: Whether they come with a token; else with a certificate of that name.

    Returns:
        The token, which is kept nowhere; empty where there is none.

    Raises:
        ValueError: a name that none can have, a rate beside another one, or a broken file.
    """
    token = PREFIX + secrets.token_urlsafe(32) if has_token else ""
    sha256 = hashlib.sha256(token.encode()).hexdigest() if has_token else None
    with exclusively(_lock(path)):
        lines = read(path).lines if path.exists() else ()
        known = next((one for one in lines if one.name == name), None)
        if known is not None and rate is None:
            rate = known.rate
        if known is not None and rate != known.rate:
            raise ValueError(f"{name} has another rate in {path}: change it there, on every line")
        caller = Caller(name=_checked_name(name, "CALLER"), sha256=sha256, rate=rate)
        if has_token or caller not in lines:
            _write(path, [*lines, caller])
    return token


def revoke(path: Path, name: str, *, but_newest: bool = False) -> int:
    """Takes the caller's lines away, or all but the last one; returns how many.

    Raises:
        ValueError: nobody of that name, or a broken file.
        OSError: the file cannot be read.
    """
    with exclusively(_lock(path)):
        lines = read(path).lines
        theirs = [place for place, one in enumerate(lines) if one.name == name]
        if not theirs:
            names = ", ".join(sorted({one.name for one in lines})) or "nobody"
            raise ValueError(f"{path} knows no caller {name!r}; it knows {names}")
        gone = set(theirs[:-1] if but_newest else theirs)
        _write(path, [one for place, one in enumerate(lines) if place not in gone])
    return len(gone)


def _write(path: Path, lines: Sequence[Caller]) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.writelines(f"{one.line}\n" for one in lines)
        file.flush()
        os.fsync(file.fileno())
    publish(temporary, path)


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _parsed(line: str, where: str) -> Caller:
    try:
        told = json.loads(line)
    except ValueError:  # which would quote the line
        raise ValueError(f"{where}: not JSON; expected an object with {_keys()}") from None
    if not isinstance(told, Mapping) or not {"caller"} <= told.keys() <= KEYS:
        raise ValueError(f"{where}: expected a JSON object with {_keys()}")
    sha256 = told.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and SHA256.fullmatch(sha256)):
        raise ValueError(f"{where}: sha256 must be 64 hexadecimal digits in lower case")
    return Caller(
        name=_checked_name(told["caller"], f"{where}: caller"),
        sha256=sha256,
        rate=_checked_rate(told, where),
    )


def _checked_name(name: Any, where: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{where} must be 1 to 128 characters of ASCII without spaces")
    return name


def _checked_rate(told: Mapping[str, Any], where: str) -> Rate | None:
    rate, burst = told.get("requests_per_s"), told.get("burst")
    if rate is None and burst is None:
        return None
    is_known = _is_number(rate, int | float) and (burst is None or _is_number(burst, int))
    if rate is None or not is_known:
        raise ValueError(
            f"{where}: requests_per_s must be a number, and burst a whole one or absent"
        )
    try:
        return Rate.of(float(rate), burst)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from error


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _keys() -> str:
    return "caller and, where they apply, sha256, requests_per_s, burst"
