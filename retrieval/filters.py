"""Conditions as text in, one checked filter out: which items a query may be answered with.

All conditions must hold. An item without a value matches no condition on its column. `allow` and
`deny` name items themselves; one that is unknown does no harm.

What a filter may hold is limited, for filters come from outside: see the constants.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

MAX_CONDITIONS = 32
MAX_VALUES = 1_000  # in all conditions of one filter together
MAX_IDS = 100_000  # in `allow` and `deny` together
MAX_LENGTH = 1_000  # characters of a column's name, a value or an id

SEPARATOR = "|"  # between the values of one condition, as text
FORMS = "'column=value', 'column=one|another', 'column<=number' or 'column>=number'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Among:
    """The item's text in `column` is one of `values`, letter by letter."""

    column: str
    values: frozenset[str]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"the filter on {self.column!r} names no value: no item could match")


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The item's number in `column` lies in [low, high]; None leaves an end open."""

    column: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        given = [bound for bound in (self.low, self.high) if bound is not None]
        if not given or not all(math.isfinite(bound) for bound in given):
            raise ValueError(
                f"the filter on {self.column!r} needs a finite low or high end, got "
                f"{self.low} and {self.high}"
            )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(
                f"the filter on {self.column!r} asks for at least {self.low} and at most "
                f"{self.high}: no item could match"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which items may be found; without any condition, all. Hashable, so that masks are cached."""

    among: tuple[Among, ...] = ()
    between: tuple[Between, ...] = ()
    allow: frozenset[str] | None = None
    """Only these items; None allows all."""
    deny: frozenset[str] = frozenset()
    """None of these items."""

    def __post_init__(self) -> None:
        num_values = sum(len(one.values) for one in self.among)
        num_ids = len(self.allow or ()) + len(self.deny)
        for what, seen, most in (
            ("conditions", len(self.among) + len(self.between), MAX_CONDITIONS),
            ("values", num_values, MAX_VALUES),
            ("item ids", num_ids, MAX_IDS),
        ):
            if seen > most:
                raise ValueError(f"a filter holds at most {most} {what}, got {seen}")
        texts = [*self.columns, *(self.allow or ()), *self.deny]
        texts += [value for one in self.among for value in one.values]
        if any(len(text) > MAX_LENGTH for text in texts):
            raise ValueError(
                f"a filter's columns, values and ids have at most {MAX_LENGTH} characters"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that conditions name, sorted, each once."""
        return tuple(sorted({one.column for one in self.conditions}))

    @property
    def conditions(self) -> tuple[Among | Between, ...]:
        """What columns must meet."""
        both: list[Among | Between] = [*self.among, *self.between]
        return tuple(both)

    @property
    def is_empty(self) -> bool:
        """Whether every item passes."""
        return not (self.among or self.between or self.deny) and self.allow is None

    def allows_bare(self, item_id: str) -> bool:
        """Whether an item may be answered with of which no attribute is known."""
        is_named = self.allow is None or item_id in self.allow
        return is_named and item_id not in self.deny and not self.conditions

    @classmethod
    def parse(
        cls,
        conditions: Iterable[str],
        *,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] = (),
    ) -> "Filter":
        """The filter that conditions describe, such as `category=Games|Puzzles` and `price<=20`.

        Spaces around names and values do not count. Bounds of one column become one interval, the
        narrowest; a value that holds `|`, `<=`, `>=` or `=` in a name must be given as `Among`.

        Raises:
            ValueError: a condition of another form, a bound that is no finite number, no value,
                an empty interval, or more than a filter may hold.
        """
        among: list[Among] = []
        bounds: dict[str, tuple[list[float], list[float]]] = {}
        texts = list(conditions)
        if len(texts) > MAX_CONDITIONS:
            raise ValueError(
                f"a filter holds at most {MAX_CONDITIONS} conditions, got {len(texts)}"
            )
        for text in texts:
            column, operator, value = _split(text)
            if operator == "=":
                values = (part.strip() for part in value.split(SEPARATOR))
                among.append(Among(column=column, values=frozenset(filter(None, values))))
            else:
                bounds.setdefault(column, ([], []))[operator == "<="].append(_number(text, value))
        return cls(
            among=tuple(among),
            between=tuple(
                Between(column=column, low=max(lows, default=None), high=min(highs, default=None))
                for column, (lows, highs) in bounds.items()
            ),
            allow=None if allow is None else frozenset(allow),
            deny=frozenset(deny),
        )


def number(text: str) -> float | None:
    """The finite number that a text states; None where it states none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _split(text: str) -> tuple[str, str, str]:
    """Column, operator and value of one condition."""
    places = [(text.find(one), -len(one), one) for one in ("<=", ">=", "=") if one in text]
    if places:
        _, _, operator = min(places)
        column, _, value = text.partition(operator)
        if column.strip() and not column.strip().endswith(("<", ">", "!")):
            return column.strip(), operator, value.strip()
    raise ValueError(f"the filter {text!r} is not understood; write {FORMS}")


def _number(text: str, value: str) -> float:
    bound = number(value)
    if bound is None:
        raise ValueError(f"the filter {text!r} compares with {value!r}, which is no finite number")
    return bound
