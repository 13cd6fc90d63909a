"""A report in, what it says in plain words out.

A difference whose interval includes zero is never called a gain, however large its mean is.
"""

from evaluation.ledger import Cause, Ledger
from evaluation.report import Report
from evaluation.significance import Interval

NAMES = {
    "ndcg": "NDCG",
    "hr": "hit rate",
    "recall": "recall",
    "mrr": "MRR",
    "precision": "precision",
    "map": "MAP",
}
ROUTE_NAMES = {
    "popularity": "Popularity",
    "retrieval_order": "Retrieval order",
    "calibrated": "Calibrated",
    "rerank": "Reranked",
    "ceiling": "Best possible order",
}
CAUSES = {
    Cause.NOT_IN_CATALOG: ("Not in the catalog", "the catalog does not hold the item"),
    Cause.NO_VECTOR: ("No vector", "no block holds a vector of the item"),
    Cause.STALE: ("Stale vector", "the store has replaced the vector that is indexed"),
    Cause.FILTERED: ("Filtered", "hidden, excluded, or left out by the query's filter"),
    Cause.MISSED_BY_INDEX: ("Missed by the index", "exact search has it among the first {limit}"),
    Cause.BELOW_K: ("Below K", "exact search has it below {limit}"),
    Cause.RANKED_OUT: ("Ranked out", "a candidate, but delivered below {k}"),
    Cause.DELIVERED: ("Delivered", "among the first {k} of the final order"),
}
MINUS = "\N{MINUS SIGN}"


def measure_name(measure: str) -> str:
    """`ndcg@10` -> `NDCG@10`."""
    metric, _, k = measure.partition("@")
    return f"{NAMES.get(metric, metric)}@{k}"


def number(value: float) -> str:
    """Four decimals: finer than any interval here."""
    return f"{value:.4f}".replace("-", MINUS)


def signed(value: float) -> str:
    """With its sign, also where it is a plus."""
    return f"{value:+.4f}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share of one as whole percent, with a decimal below ten and just below all."""
    has_decimal = 0 < abs(value) < 0.0995 or 0.995 <= abs(value) < 1
    return f"{value:.1%}" if has_decimal else f"{value:.0%}"


def interval(one: Interval) -> str:
    """`+0.0012 to +0.0034`."""
    return f"{signed(one.low)} to {signed(one.high)}"


def reach(one: Interval) -> str:
    """An interval of shares, without signs."""
    return f"{percent(one.low)} to {percent(one.high)}"


def cause_name(cause: str) -> str:
    """`below_k` -> `Below K`."""
    return CAUSES[Cause(cause)][0]


def cause_meaning(cause: str, found: Ledger) -> str:
    """What it says of an item, with the ledger's own K and k."""
    return CAUSES[Cause(cause)][1].format(limit=found.limit, k=found.k)


def headline(report: Report) -> str:
    """What reranking gained, in one or two sentences; or what retrieval finds, where it is all."""
    level = percent(report.config["level"])
    if not report.is_reranked:
        found = report.candidate_recall[report.deepest]
        return (
            f"Retrieval's first {_k(report.deepest)} candidates hold {percent(found.mean)} of what "
            f"users went on to choose, with a {level} interval of {reach(found)}, over "
            f"{_users(report.num_users)}. Nothing was reranked."
        )
    delta = report.delta[report.headline]
    before = report.routes["retrieval_order"][report.headline].mean
    after = report.routes["rerank"][report.headline].mean
    name, users = measure_name(report.headline), _users(report.num_reranked)
    if delta.includes_zero:
        return (
            f"Reranking shows no certain effect on {name}: it went from {number(before)} to "
            f"{number(after)}, and the {level} interval of the change ({interval(delta)}) "
            f"includes zero over {users}."
        )
    verb = "raises" if delta.mean > 0 else "lowers"
    share = f" by {percent(abs(delta.mean) / before)}" if before > 0 else ""
    return (
        f"Reranking {verb} {name}{share}, from {number(before)} to {number(after)}: "
        f"{signed(delta.mean)} with a {level} interval of {interval(delta)}, over {users}."
    )


def remarks(report: Report) -> list[str]:
    """What else a reader should know before quoting the headline."""
    said = [_population(report), _candidates(report), _index(report), _losses(report)]
    said.append(_ceiling(report))
    if report.is_reranked:
        calibrated = report.routes["calibrated"][report.headline].mean
        said.append(
            f"The retriever's findings alone, calibrated, reach {number(calibrated)}; what the LLM "
            f"adds to them {worth(report.llm_delta[report.headline])}."
        )
    if report.ablations:
        said.append(_ablation_remark(report))
    if report.counts.get("num_seen_candidates"):
        said.append(
            f"{report.counts['num_seen_candidates']:,} candidates had been met by the user before "
            "the cut. They can never be right, so a reranker gains by merely moving them down."
        )
    if report.manifest.get("split", "time") != "time":
        said.append(str(report.manifest.get("leaks", "")))
    return [one for one in said if one]


def facts(report: Report) -> list[tuple[str, str]]:
    """The manifest and the configuration, flattened: `versions.torch` -> `2.13.0`."""
    flat: list[tuple[str, str]] = []
    for key, value in {**report.manifest, **report.config}.items():
        if isinstance(value, dict):
            flat.extend((f"{key}.{inner}", str(one)) for inner, one in value.items())
        elif isinstance(value, list | tuple):
            flat.append((key, ", ".join(map(str, value))))
        else:
            flat.append((key, str(value)))
    return flat


def worth(delta: Interval) -> str:
    """`is +0.0123 (...)`, or that it cannot be told from zero."""
    if delta.includes_zero:
        return f"cannot be told from zero ({interval(delta)})"
    return f"is {signed(delta.mean)} ({interval(delta)})"


def _k(measure: str) -> str:
    return measure.partition("@")[2]


def _users(count: int) -> str:
    return f"{count:,} user{'s' if count != 1 else ''}"


def _population(report: Report) -> str:
    if report.everybody is None:
        return ""
    return (
        f"Retrieval is measured on {_users(report.num_users)}; the candidates of "
        f"{report.num_reranked:,} of them, drawn evenly, were reranked, and all that is said of "
        "reranking is over these."
    )


def _candidates(report: Report) -> str:
    k, found = _k(report.deepest), report.candidate_recall[report.deepest]
    routes = report.everybody or report.routes
    popular = routes["popularity"][report.deepest].mean
    return (
        f"Retrieval's first {k} candidates hold {percent(found.mean)} of what users went on to "
        f"choose; the {k} most popular items hold {percent(popular)}. "
        "What is not among the candidates no reranking can bring back."
    )


def _index(report: Report) -> str:
    found = report.index_loss
    if found is None:
        return ""
    said = (
        f"The index finds {percent(found.overlap.mean)} of the first {found.limit} of an exact "
        "search"
    )
    if found.loss.mean == 0 and found.loss.low == found.loss.high == 0:
        return f"{said}, and no choice is lost by it."
    return (
        f"{said}; what that costs in recall@{found.limit}, {percent(found.recall.mean)} instead of "
        f"{percent(found.exact_recall.mean)}, {worth(found.loss)}."
    )


def _losses(report: Report) -> str:
    found = report.ledger
    if found is None:
        return ""
    shares = sorted(
        ((found.counts[cause], cause) for cause in Cause if cause is not Cause.DELIVERED),
        key=lambda pair: -pair[0],
    )
    parts = [
        f"{percent(count / found.num_positives)} {cause_name(cause).lower().replace(' k', ' K')}"
        for count, cause in shares
        if count
    ]
    return (
        f"Of {found.num_positives:,} choices {percent(found.share(Cause.DELIVERED))} are delivered "
        f"among the first {found.k}. The rest: {', '.join(parts) or 'nothing'}. No number of "
        f"candidates could find {percent(found.num_unreachable / found.num_positives)}."
    )


def _ceiling(report: Report) -> str:
    best = report.routes["ceiling"][report.headline].mean
    said = (
        f"The best possible order of these candidates would reach {measure_name(report.headline)} "
        f"{number(best)}"
    )
    if report.headroom is not None and report.delta[report.headline].low > 0:
        said += f"; reranking covers {percent(report.headroom)} of the way to it"
    return f"{said}."


def _ablation_remark(report: Report) -> str:
    """What leaving each modality out does, the weightiest first."""
    by_worth = sorted(report.ablations, key=lambda one: (-one.delta.mean, one.modality))
    parts = [f"{one.modality} {worth(one.delta)}" for one in by_worth]
    return f"What each modality is worth in {measure_name(report.headline)}: {'; '.join(parts)}."
