"""A comparison in, what it says in words, as Markdown and as a page out."""

import json
from dataclasses import dataclass
from pathlib import Path

from evaluation.compare import Compared, Comparison, as_dict
from evaluation.markdown import cell, table
from evaluation.page import environment
from evaluation.plots import slice_name
from evaluation.slices import label
from evaluation.summary import interval, measure_name, number, percent, signed

TEMPLATE = "comparison.html.jinja"
NAME = "comparison"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFiles:
    """Where one comparison lies."""

    json: Path
    markdown: Path
    html: Path


def headline(comparison: Comparison) -> str:
    """Whether B is better, in one sentence; an interval that includes zero is no difference."""
    one, name = comparison.measures[comparison.headline], measure_name(comparison.headline)
    level, difference = percent(comparison.config["level"]), one.difference
    users = f"{comparison.num_users:,} user{'s' if comparison.num_users != 1 else ''}"
    if difference.includes_zero:
        return (
            f"No certain difference in {name}: A has {number(one.a)} and B {number(one.b)}; the "
            f"{level} interval of B minus A ({interval(difference)}) includes zero over {users}."
        )
    return (
        f"B is {'better' if difference.mean > 0 else 'worse'} in {name}: {number(one.b)} instead "
        f"of {number(one.a)}, {signed(difference.mean)} with a {level} interval of "
        f"{interval(difference)}, over {users}."
    )


def remarks(comparison: Comparison) -> list[str]:
    """What a reader should know before quoting it."""
    said = []
    one = comparison.measures[comparison.headline]
    if one.difference.effect:
        effect = one.difference.effect
        said.append(
            f"{percent(effect.share_better)} of the users gain, {percent(effect.share_worse)} "
            f"lose, for {percent(effect.share_same)} nothing changes."
        )
    if comparison.num_only_a or comparison.num_only_b:
        said.append(
            f"Left out: {comparison.num_only_a:,} users of A alone and "
            f"{comparison.num_only_b:,} of B alone."
        )
    if one.over_seeds:
        said.append(
            f"Over {comparison.num_seeds[0]} seeds and the users together the interval is "
            f"{interval(one.over_seeds)}; the seeds' differences spread by "
            f"{number(one.over_seeds.spread)} (one standard deviation)."
        )
    elif comparison.num_seeds == (1, 1):
        said.append(
            "One trained model of each side is compared: another seed may shift either. Compare "
            "several seeds to know by how much."
        )
    else:
        said.append(
            f"A has {comparison.num_seeds[0]} seeds and B {comparison.num_seeds[1]}: the interval "
            "is over users alone, of values averaged over seeds."
        )
    if comparison.depths[0] != comparison.depths[1]:
        said.append(
            f"The lists are of different lengths (at most {comparison.depths[0]} and "
            f"{comparison.depths[1]} items): beyond its end a list finds nothing."
        )
    return said


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    lines = ["# Comparison", "", cell(f"A: {comparison.a}, B: {comparison.b}"), ""]
    lines += [cell(headline(comparison)), "", *(f"- {cell(one)}" for one in remarks(comparison))]
    header = ["", "A", "B", "B minus A", "Interval", "p", "p (Holm)", "d"]
    rows = [[measure_name(name), *_row(one)] for name, one in comparison.measures.items()]
    lines += ["", "## Every measure", "", *table(header, rows)]
    if comparison.parts:
        rows = [
            [label(part.group, part.name), f"{part.num_users:,}", *_row(part.compared)]
            for part in comparison.parts
        ]
        title = f"## By slice, {measure_name(comparison.headline)}"
        lines += ["", title, "", *table(["Slice", "Users", *header[1:]], rows)]
    return "\n".join(lines) + "\n"


def page(comparison: Comparison) -> str:
    """The comparison as one HTML page that needs nothing else."""
    recalls = [name for name in comparison.measures if name.startswith("recall@")]
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            comparison=comparison,
            headline=headline(comparison),
            remarks=remarks(comparison),
            has_seeds=any(one.over_seeds for one in comparison.measures.values()),
            deepest=max(recalls, key=lambda name: int(name.partition("@")[2])),
            slice_name=slice_name,
        )
    )


def write(comparison: Comparison, folder: Path) -> ComparisonFiles:
    """Write comparison.json, .md and .html into `folder`, over earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"{NAME}.{ending}" for kind, ending in ENDINGS.items()}
    files = ComparisonFiles(**paths)
    plain = json.dumps(as_dict(comparison), indent=2, ensure_ascii=False, allow_nan=False)
    files.json.write_text(plain + "\n", encoding="utf-8")
    files.markdown.write_text(markdown(comparison), encoding="utf-8")
    files.html.write_text(page(comparison), encoding="utf-8")
    return files


ENDINGS = {"json": "json", "markdown": "md", "html": "html"}


def _row(one: Compared) -> list[str]:
    found = one.difference
    return [
        number(one.a),
        number(one.b),
        signed(found.mean),
        interval(found),
        f"{found.p_value:.4f}",
        f"{found.p_value_holm:.4f}" if found.p_value_holm is not None else "",
        f"{found.effect.d_z:.3f}" if found.effect and found.effect.d_z is not None else "",
    ]
