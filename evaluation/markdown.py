"""A report in, the whole of it as Markdown out, without plots."""

from collections.abc import Sequence
from html import escape

from evaluation.ledger import Cause, Ledger
from evaluation.report import Report
from evaluation.slices import Slice, label
from evaluation.summary import (
    ROUTE_NAMES,
    cause_meaning,
    cause_name,
    facts,
    headline,
    interval,
    measure_name,
    number,
    percent,
    reach,
    remarks,
    signed,
)


def markdown(report: Report) -> str:
    """Sentences first, then tables."""
    lines = ["# Evaluation", "", cell(headline(report)), ""]
    lines += [f"- {cell(remark)}" for remark in remarks(report)]
    lines += _section("Stage 1: candidates", _candidate_table(report))
    if report.index.get("curve"):
        lines += _section("The index", _index_table(report))
    lines += _section(
        "Stage 2: before and after" if report.is_reranked else "In retrieval's order",
        _change_table(report),
    )
    if report.ledger:
        lines += _section("Where choices got lost", _ledger_table(report.ledger))
        lines += _section("Where they got lost, by slice", _ledger_parts(report.ledger))
    if report.ablations:
        lines += _section("Without one modality", _ablation_table(report))
    if report.slices:
        lines += _section("Slices", _part_table(report, report.slices))
    if report.behaviors:
        lines += _section("Behavior by behavior", _part_table(report, report.behaviors))
    if report.whole_lists:
        lines += _section("What the lists show", _whole_list_table(report))
    if report.scores:
        lines += _section("How true the scores are", _score_table(report))
    if any(one.items for one in report.explained):
        lines += _section("What scores are made of", _explained_table(report))
    counts = [[key, f"{count:,}"] for key, count in report.counts.items()]
    lines += _section("Counts", table(["Count", ""], counts))
    known = [[key, str(value)] for key, value in facts(report)]
    lines += _section("Manifest", table(["Fact", ""], known))
    return "\n".join(lines) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, all columns but the first to the right."""
    escaped = [[cell(one) for one in row] for row in rows]
    numbers = "|".join(["---", *["---:"] * (len(header) - 1)])
    return [
        f"| {' | '.join(header)} |",
        f"|{numbers}|",
        *(f"| {' | '.join(row)} |" for row in escaped),
    ]


def cell(text: str) -> str:
    """Text that neither ends its table cell nor becomes markup where Markdown is rendered."""
    return escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


def _change_table(report: Report) -> list[str]:
    header = ["", *(ROUTE_NAMES[name] for name in report.routes)]
    rows = []
    for measure in report.measures:
        row = [
            measure_name(measure),
            *(number(one[measure].mean) for one in report.routes.values()),
        ]
        if report.is_reranked:
            delta = report.delta[measure]
            row += [signed(delta.mean), interval(delta), f"{delta.p_value:.4f}"]
        rows.append(row)
    return table([*header, *(["Change", "Interval", "p"] if report.is_reranked else [])], rows)


def _candidate_table(report: Report) -> list[str]:
    popular = (report.everybody or report.routes)["popularity"]
    rows = [
        [measure_name(key), number(one.mean), reach(one), number(popular[key].mean)]
        for key, one in report.candidate_recall.items()
    ]
    if loss := report.index_loss:
        rows.append([f"exact search, recall@{loss.limit}", number(loss.exact_recall.mean),
                     reach(loss.exact_recall), ""])  # fmt: skip
    if report.curve.infinity is not None:
        rows.append(["exact search, any K", number(report.curve.infinity), "", ""])
    return table(["", "Retrieval", "Interval", "Popularity"], rows)


def _index_table(report: Report) -> list[str]:
    return table(
        ["Effort", "Recall of exact search", "p50 ms", "p99 ms"],
        [
            [str(one["effort"]), f"{one['recall']:.4f}", f"{one['p50_ms']:.3g}",
             f"{one['p99_ms']:.3g}"]
            for one in report.index["curve"]
        ],
    )  # fmt: skip


def _ledger_table(found: Ledger) -> list[str]:
    rows = [
        [
            f"{cause_name(cause)}: {cause_meaning(cause, found)}",
            f"{found.counts[cause]:,}",
            percent(found.share(cause)),
        ]
        for cause in reversed(Cause)
    ]
    rows += [[f"below K, at exact rank {name}", f"{num:,}", percent(num / found.num_positives)]
             for name, num in found.depths]  # fmt: skip
    rows.append(["all choices", f"{found.num_positives:,}", "100%"])
    return table(["What became of a choice", "Choices", "Share"], rows)


def _ledger_parts(found: Ledger) -> list[str]:
    causes = list(reversed(Cause))
    return table(
        ["Slice", "Choices", *(cause_name(cause) for cause in causes)],
        [
            [
                label(part.group, part.name),
                f"{part.num_positives:,}",
                *(percent(part.counts[cause] / part.num_positives) for cause in causes),
            ]
            for part in found.parts
        ],
    )


def _ablation_table(report: Report) -> list[str]:
    deepest = report.deepest
    return table(
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


def _explained_table(report: Report) -> list[str]:
    """Of each explained item what its score is made of."""
    blocks = sorted({block for one in report.explained for item in one.items
                     for block in item.contributions})  # fmt: skip
    return table(
        ["User", "Rank", "Item", "Without vectors", *blocks, "Score"],
        [
            [
                one.user_id,
                str(item.rank),
                item.title + (" (chosen)" if item.is_chosen else ""),
                signed(item.base),
                *(signed(item.contributions.get(block, 0.0)) for block in blocks),
                signed(item.score),
            ]
            for one in report.explained
            for item in one.items
        ],
    )


def _part_table(report: Report, parts: Sequence[Slice]) -> list[str]:
    measure = report.slice_measure
    header = ["Slice", "Users", "Found", "Retrieval order"]
    rows = []
    for one in parts:
        row = [
            label(one.group, one.name),
            f"{one.num_users:,}",
            percent(one.candidate_recall),
            number(one.retrieval_order[measure]),
        ]
        if report.is_reranked:
            row += [number(one.rerank[measure]), signed(one.delta.mean), interval(one.delta)]
        rows.append(row)
    return table([*header, *(["Reranked", "Change", "Interval"] if report.is_reranked else [])],
                 rows)  # fmt: skip


def _whole_list_table(report: Report) -> list[str]:
    return table(
        ["The first k of", "k", "Coverage", "Gini", "Novelty in bits"],
        [
            [
                ROUTE_NAMES[name],
                str(one.k),
                percent(one.coverage),
                f"{one.gini:.3f}",
                f"{one.novelty.mean:.2f}" if one.novelty else "",
            ]
            for name, one in report.whole_lists.items()
        ],
    )


def _score_table(report: Report) -> list[str]:
    rows = []
    for name, one in report.scores.items():
        found = one.calibration
        rows.append(
            [
                ROUTE_NAMES[name],
                "" if one.auc is None else f"{one.auc:.4f}",
                *(["", "", ""] if found is None
                  else [f"{found.ece:.4f}", f"{found.largest:.4f}", f"{found.brier:.4f}"]),
            ]
        )  # fmt: skip
    return table(["", "AUC within users", "ECE", "Largest error", "Brier"], rows)
