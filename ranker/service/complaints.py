"""Fields in, everything that is wrong with them out, each by its path and with what to mend.

Ids are opaque: any text that is not empty and not longer than the limit. Whether the store or the
catalog knows them is not decided here. What is too many is not looked at one by one: that is what
a limit is there to spare.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ranker import inline
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.service import statuses
from ranker.serving import ServingInfo, unaskable
from retrieval.filters import MAX_LENGTH


@dataclass(slots=True)
class Complaints:
    """Collects (field's path, what to mend) until all fields are looked at."""

    limits: ServiceLimits
    info: ServingInfo
    """Of the generation that is to answer."""
    within: str = ""
    """What stands before every path: `rerank.` of a request inside another one."""
    found: list[tuple[str, str]] = field(default_factory=list)
    wrong_spaces: list[str] = field(default_factory=list)

    def add(self, path: str, mend: str) -> None:
        """One more fault."""
        self.found.append((self.within + path, mend))

    def raise_any(self) -> None:
        """Raises INVALID_ARGUMENT where anything was found, FAILED_PRECONDITION where all that is
        wrong is the space of some vectors."""
        if self.found:
            raise statuses.invalid(self.found)
        if self.wrong_spaces:
            served = [one.space_id for one in self.info.spaces if one.modality is not None]
            raise statuses.wrong_space(self.wrong_spaces, served=served)

    def check_id(self, path: str, value: str) -> None:
        """An id: not empty, not too long."""
        if not value:
            self.add(path, "empty; an id is needed")
        else:
            self.check_length(path, value, self.limits.id_length)

    def check_length(self, path: str, value: str, limit: int) -> None:
        """At most so many characters."""
        if len(value) > limit:
            self.add(path, f"{len(value)} characters, at most {limit} are allowed")

    def check_at_most(self, path: str, value: int, limit: int) -> bool:
        """Whether a count is within its limit."""
        if value > limit:
            self.add(path, f"{value}, at most {limit} is allowed")
        return value <= limit

    def check_behavior(self, behavior: str) -> None:
        """One that may be asked about, or none."""
        if behavior and behavior not in self.info.behaviors:
            self.add("behavior", unaskable(statuses.shortened(behavior), self.info.behaviors))

    def check_explained(self, num_explained: int) -> None:
        """As many items as may be explained at once."""
        if num_explained > self.limits.explained:
            self.add(
                "explain",
                f"of {num_explained} items, at most {self.limits.explained} are allowed; "
                f"ask for a smaller top_k",
            )

    def check_user(self, user: pb.User, recent: pb.History) -> None:
        """A stored user, perhaps with recent events, or a history."""
        match user.WhichOneof("identity"):
            case "user_id":
                self.check_id("user.user_id", user.user_id)
            case "history":
                self.check_events("user.history", user.history)
                if recent.interactions:
                    self.add("recent", "only with user_id; put the events behind user.history")
                    return
            case _:
                self.add("user", "missing; send user_id or history")
        self.check_events("recent", recent)

    def check_events(self, path: str, history: pb.History) -> None:
        """Events, each with an item and a behavior."""
        path = f"{path}.interactions"
        if not self.check_at_most(path, len(history.interactions), self.limits.history):
            return
        for place, event in enumerate(history.interactions):
            self.check_id(f"{path}[{place}].item_id", event.item_id)
            self.check_id(f"{path}[{place}].behavior", event.behavior)
            if event.HasField("weight") and not math.isfinite(event.weight):
                self.add(f"{path}[{place}].weight", f"{event.weight}, a number is needed")
            if event.HasField("timestamp"):
                try:
                    event.timestamp.ToDatetime()
                except ValueError as error:
                    self.add(f"{path}[{place}].timestamp", str(error))

    def check_item_ids(self, path: str, item_ids: Sequence[str], *, limit: int) -> bool:
        """Ids, not too many; whether the latter holds."""
        if not self.check_at_most(path, len(item_ids), limit):
            return False
        longest = max(map(len, item_ids), default=0)
        if longest > self.limits.id_length or not all(item_ids):
            for place, item_id in enumerate(item_ids):
                self.check_id(f"{path}[{place}]", item_id)
        return True

    def check_distinct(self, path: str, names: Sequence[str], *, field: str = "") -> None:
        """Each once; `field` is where they stand in what `path` lists."""
        if len(set(names)) == len(names):
            return  # nearly always
        first_places: dict[str, int] = {}
        for place, name in enumerate(names):
            first = first_places.setdefault(name, place)
            if name and first != place:
                told = f"{statuses.shown(name)} stands at {first} too"
                self.add(f"{path}[{place}]{field}", told)

    def check_weights(self, weights: Mapping[str, float]) -> None:
        """A finite number from 0 for each of some blocks."""
        if not weights:
            return  # as nearly always
        there_are = ", ".join(self.info.blocks) or "none"
        if len(weights) > len(self.info.blocks):
            self.add("weights", f"{len(weights)} blocks; those that can be weighed: {there_are}")
            return
        for name, weight in sorted(weights.items()):
            path = f"weights[{statuses.shown(name)}]"
            if name not in self.info.blocks:
                self.add(path, f"no such block; those that can be weighed: {there_are}")
            if not 0 <= weight < math.inf:
                self.add(path, f"{weight}, a finite number from 0 is needed")

    def check_filter(self, message: pb.Filter) -> None:
        """Conditions on columns that there are, which some item may meet."""
        limits, among, between = self.limits, message.among, message.between
        num_values = sum(len(one.values) for one in among[: limits.filter_conditions])
        num_ids = len(message.allow_item_ids) + len(message.deny_item_ids)
        for what, seen, most in (
            ("conditions", len(among) + len(between), limits.filter_conditions),
            ("values", num_values, limits.filter_values),
            ("item ids", num_ids, limits.filter_item_ids),
        ):
            if seen > most:
                self.add("filter", f"{seen} {what}, at most {most} are allowed")
                return
        for place, one in enumerate(among):
            path = f"filter.among[{place}]"
            self._check_column(f"{path}.column", one.column, self.info.filterable)
            if not one.values:
                self.add(f"{path}.values", "empty; no item could match")
            for number, value in enumerate(one.values):
                self.check_length(f"{path}.values[{number}]", value, MAX_LENGTH)
        for place, interval in enumerate(between):
            path = f"filter.between[{place}]"
            self._check_column(f"{path}.column", interval.column, self.info.comparable)
            self._check_interval(path, interval)
        for name in ("allow_item_ids", "deny_item_ids"):
            self.check_item_ids(f"filter.{name}", getattr(message, name), limit=num_ids)

    def _check_column(self, path: str, column: str, columns: Sequence[str]) -> None:
        if column not in columns:
            there_are = ", ".join(columns) or "none"
            what = "has no number" if column in self.info.filterable else "is no attribute"
            self.add(path, f"{statuses.shown(column)} {what} to filter by; there are: {there_are}")

    def _check_interval(self, path: str, message: pb.Filter.Between) -> None:
        ends = [name for name in ("low", "high") if message.HasField(name)]
        if not ends:
            self.add(path, "neither low nor high; one of them is needed")
        for name in ends:
            if not math.isfinite(getattr(message, name)):
                self.add(f"{path}.{name}", f"{getattr(message, name)}, a number is needed")
        if len(ends) == 2 and message.low > message.high:
            self.add(path, f"low {message.low:g} is above high {message.high:g}: none could match")

    def check_vectors(self, parts: Sequence[pb.InlineVectors], item_ids: Sequence[str]) -> None:
        """Vectors of some of the items, for each space at most one matrix."""
        if not parts:
            return  # as nearly always, and the spaces' ids are hashes
        spaces = {one.space_id: one for one in self.info.spaces if one.modality is not None}
        if len(parts) > len(spaces):
            self.add("vectors", f"{len(parts)} of them for {len(spaces)} spaces; send one for each")
            return
        num_bytes = sum(len(one.data) for one in parts)
        if num_bytes > self.limits.vector_bytes:
            self.add("vectors", f"{num_bytes} bytes, at most {self.limits.vector_bytes} allowed")
            return
        asked = frozenset(item_ids)
        self.check_distinct("vectors", [one.space_id for one in parts], field=".space_id")
        for place, one in enumerate(parts):
            path, space = f"vectors[{place}]", spaces.get(one.space_id)
            if not one.space_id:
                self.add(f"{path}.space_id", "empty; a space's id is needed, as GetInfo has it")
            elif space is None:
                self.wrong_spaces.append(one.space_id)
            self._check_rows(f"{path}.item_ids", one.item_ids, asked)
            for name, mend in inline.faults(one, space):
                self.add(f"{path}.{name}", mend)

    def _check_rows(self, path: str, item_ids: Sequence[str], asked: frozenset[str]) -> None:
        if not item_ids:
            self.add(path, "empty; name the rows")
        if not self.check_at_most(path, len(item_ids), len(asked)):
            return
        self.check_distinct(path, item_ids)
        for place, item_id in enumerate(item_ids):
            if item_id not in asked:
                told = f"{statuses.shown(item_id)} is not among the request's item_ids"
                self.add(f"{path}[{place}]", told)
