"""A report in, what it says in plain words and in Markdown out.

A difference whose interval includes zero is never called a gain, however large its mean is.
"""

from html import escape

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
    """A share of one as whole percent, with a decimal below ten."""
    return f"{value:.0%}" if abs(value) >= 0.0995 or value == 0 else f"{value:.1%}"


def interval(one: Interval) -> str:
    """`+0.0012 to +0.0034`."""
    return f"{signed(one.low)} to {signed(one.high)}"


def headline(report: Report) -> str:
    """What reranking gained, in one or two sentences."""
    delta = report.delta[report.headline]
    before = report.routes["retrieval_order"][report.headline].mean
    after = report.routes["rerank"][report.headline].mean
    name = measure_name(report.headline)
    level = percent(report.config["level"])
    users = f"{report.num_users:,} user{'s' if report.num_users != 1 else ''}"
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
    deepest, found = max(
        report.candidate_recall.items(), key=lambda item: int(item[0].partition("@")[2])
    )
    k = deepest.partition("@")[2]
    popular = report.routes["popularity"][deepest].mean
    said = [
        f"Retrieval's first {k} candidates hold {percent(found.mean)} of what users went on to "
        f"choose; the {k} most popular items hold {percent(popular)}. "
        "What is not among the candidates no reranking can bring back."
    ]
    best = report.routes["ceiling"][report.headline].mean
    reach = f"The best possible order of these candidates would reach {number(best)}"
    if report.headroom is not None and report.delta[report.headline].low > 0:
        reach += f"; reranking covers {percent(report.headroom)} of the way to it"
    said.append(f"{reach}.")
    calibrated = report.routes["calibrated"][report.headline].mean
    said.append(
        f"The retriever's findings alone, calibrated, reach {number(calibrated)}; what the LLM "
        f"adds to them {_worth(report.llm_delta[report.headline])}."
    )
    if report.ablations:
        said.append(_ablation_remark(report))
    if report.counts.get("num_seen_candidates"):
        said.append(
            f"{report.counts['num_seen_candidates']:,} candidates had been met by the user before "
            "the cut. They can never be right, so a reranker gains by merely moving them down."
        )
    return said


def markdown(report: Report) -> str:
    """The whole report as Markdown, without plots."""
    lines = ["# Evaluation", "", _cell(headline(report)), ""]
    lines += [f"- {_cell(remark)}" for remark in remarks(report)]
    lines += ["", "## Before and after", ""]
    lines += _table(
        ["", *(ROUTE_NAMES[name] for name in report.routes), "Change", "Interval", "p"],
        [
            [
                measure_name(measure),
                *(number(one[measure].mean) for one in report.routes.values()),
                signed(delta.mean),
                interval(delta),
                f"{delta.p_value:.4f}",
            ]
            for measure, delta in report.delta.items()
        ],
    )
    lines += ["", "## Candidates", ""]
    lines += _table(
        ["", "Retrieval", "Popularity"],
        [
            [measure_name(key), number(one.mean), number(report.routes["popularity"][key].mean)]
            for key, one in report.candidate_recall.items()
        ],
    )
    if report.ablations:
        lines += ["", "## Without one modality", "", *_ablation_table(report)]
    lines += ["", "## Slices", "", *_slice_table(report), "", "## Counts", ""]
    lines += _table(["Count", ""], [[key, f"{n:,}"] for key, n in report.counts.items()])
    lines += ["", "## Manifest", ""]
    lines += _table(["Fact", ""], [[key, str(value)] for key, value in facts(report)])
    return "\n".join(lines) + "\n"


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


def _ablation_remark(report: Report) -> str:
    """What leaving each modality out does, the weightiest first."""
    by_worth = sorted(report.ablations, key=lambda one: (-one.delta.mean, one.modality))
    parts = [f"{one.modality} {_worth(one.delta)}" for one in by_worth]
    return f"What each modality is worth in {measure_name(report.headline)}: {'; '.join(parts)}."


def _worth(delta: Interval) -> str:
    if delta.includes_zero:
        return f"cannot be told from zero ({interval(delta)})"
    return f"is {signed(delta.mean)} ({interval(delta)})"


def _ablation_table(report: Report) -> list[str]:
    deepest = list(report.candidate_recall)[-1]
    return _table(
        [
            "Left out",
            measure_name(report.headline),
            "Its worth",
            "Interval",
            "p (Holm)",
            f"Candidate {measure_name(deepest)}",
        ],
        [
            [
                one.modality,
                number(one.rerank[report.headline]),
                signed(one.delta.mean),
                interval(one.delta),
                f"{one.p_value_holm:.4f}",
                number(one.candidate_recall[deepest]),
            ]
            for one in report.ablations
        ],
    )


def _slice_table(report: Report) -> list[str]:
    return _table(
        ["Slice", "Users", "Found", "Retrieval order", "Reranked", "Change", "Interval"],
        [
            [
                f"{one.group}: {one.name}",
                f"{one.num_users:,}",
                percent(one.candidate_recall),
                number(one.retrieval_order[report.slice_measure]),
                number(one.rerank[report.slice_measure]),
                signed(one.delta.mean),
                interval(one.delta),
            ]
            for one in report.slices
        ],
    )


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    escaped = [[_cell(cell) for cell in row] for row in rows]
    numbers = "|".join(["---", *["---:"] * (len(header) - 1)])
    return [
        f"| {' | '.join(header)} |",
        f"|{numbers}|",
        *(f"| {' | '.join(row)} |" for row in escaped),
    ]


def _cell(text: str) -> str:
    """Text that neither ends its table cell nor becomes markup where Markdown is rendered."""
    return escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
