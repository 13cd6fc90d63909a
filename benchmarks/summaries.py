"""Three catalogs in, what the template's summaries and preferences add to their text's recall out.

The template (`embedders.summaries.template`) is what stands in where no model is at hand: the
catalog's own words, put in order. Here its summary is one more block beside the text's: content
alone, and with the graph. The encoder is all-MiniLM-L6-v2 for both, the graph the spectral one,
which knows no chance.

    movielens  text: title, genres, plot    summary: title, genres, year    cut in time
    lastfm     text: brought, of the tags   summary: name, tags             given split
    games      text: title                  summary: title                  last item

Weights are fitted before the cut, for each set of blocks anew, so that each is as good as it can
be (`modality_recall`; of games, `_summaries_games`). A user's preference by the template, embedded,
is compared with the pooled history as what asks the summaries' block.

`--written` takes, besides, the paragraphs that these sets bring of nearly all artists and some
films, as another LLM wrote them for others, for the summaries: not what this project's prompts
give, and written with hindsight. All vectors are kept under `build/summaries`, part by part.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import modality_recall
import numpy as np
import torch
from _figures import Figure, data_folder, figure, parser, publish
from _summaries_games import games
from modality_recall import KS, World
from numpy.typing import NDArray

from embedders.catalog import Catalog, read
from embedders.columns import Columns
from embedders.graph_config import GraphConfig
from embedders.imputed import impute
from embedders.items import Interaction, Item, Modality
from embedders.registry import EncoderConfig, create, fit_graph
from embedders.summaries.config import PreferenceConfig, SummaryConfig
from embedders.summaries.item_summary import ItemSummarizer
from embedders.summaries.preference import Event, PreferenceTeller, steps
from embedders.text_sentence import MINILM, SentenceEmbedder
from embedders.vectors import Embeddings, normalize
from evaluation.judgements import Judgement
from evaluation.metrics import per_user, recall
from evaluation.significance import paired_bootstrap
from retrieval import tensor_file
from retrieval.candidates import Query
from retrieval.concatenated import ItemVectors, concatenate

CACHE = Path(__file__).parents[1] / "build" / "summaries"
PART = 512  # texts that are encoded and kept together
COLUMNS: Mapping[str, Columns] = {
    "lastfm": Columns(category=("text",)),  # its tags
    "movielens": Columns(category=("genres",), description=("plot",)),
}
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {"lastfm": (), "movielens": ("year",)}
WRITTEN = "llm_description"
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "summary": ("summary",),
    "text_and_summary": ("summary", "text"),
    "graph": ("graph",),
    "graph_and_text": ("graph", "text"),
    "graph_text_and_summary": ("graph", "summary", "text"),
}
GAINS = (
    ("text_and_summary", "text", "summary_adds_to_text"),
    ("graph_text_and_summary", "graph_and_text", "summary_adds_to_graph_and_text"),
    ("summary", "text", "summary_less_text"),
    ("asked_by_preference", "summary", "preference_less_history"),
)


def world(name: str, folder: Path) -> World:
    """The set of `modality_recall`, its columns named as they should be."""
    catalog = read(folder / name, columns=COLUMNS[name])
    return replace(modality_recall.world(folder / name), catalog=catalog, has_order=False)


@cache
def encoder(modality: Modality) -> SentenceEmbedder:
    """The one text encoder, of items' texts or of their summaries."""
    return SentenceEmbedder(model=MINILM, device="cpu", modality=modality)


def encoded(texts: Sequence[str]) -> NDArray[np.float32]:
    """Their vectors, [N, D], each part of them computed once and kept."""
    model = encoder(Modality.TEXT)
    CACHE.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(texts), PART):
        part = list(texts[start : start + PART])
        facts = repr((model.space.encoder, model.space.revision, part))
        path = CACHE / f"{hashlib.sha256(facts.encode()).hexdigest()[:20]}.safetensors"
        if not path.is_file():
            ids = [str(n) for n in range(len(part))]
            tensor_file.write(path, item_ids=ids, arrays={"vectors": model.encode(part)})
            print(f"{start + len(part)} of {len(texts)} texts", flush=True)
        parts.append(tensor_file.read(path, names=["vectors"])[1]["vectors"])
    return np.concatenate(parts)


def embedded(items: Sequence[Item], texts: Sequence[str], modality: Modality) -> Embeddings:
    """The vectors of those items that have a text."""
    held = [(item.item_id, text) for item, text in zip(items, texts, strict=True) if text]
    return Embeddings(
        space=encoder(modality).space,
        item_ids=[item_id for item_id, _ in held],
        vectors_ND=encoded([text for _, text in held]),
    )


def content(name: str, catalog: Catalog, *, is_written: bool) -> list[Embeddings]:
    """The text's space as it is, and the summaries'."""
    items = list(catalog.items())
    if name == "lastfm":
        brought = EncoderConfig(modality=Modality.TEXT, encoder="brought", name="minilm")
        text, _ = create(brought, catalog=catalog).embed(items)
    else:
        texts = [encoder(Modality.TEXT).load(item) for item in items]
        text = embedded(items, texts, Modality.TEXT)
    if is_written:
        written = [item.attributes.get(WRITTEN, "") for item in items]
    else:
        config = SummaryConfig(attributes=ATTRIBUTES[name])
        written = [str(one) for one in ItemSummarizer(config, None).summarize(items)]
    return [text, embedded(items, written, Modality.SUMMARY)]


def space(known: World, parts: Sequence[Embeddings]) -> modality_recall.Space:
    """Text, summary and graph, the graph of what came before `graph_until`.

    Items that nobody had touched get a graph vector from what their text resembles, with a block
    of summaries and without it.
    """
    config = GraphConfig()
    graph = fit_graph(config, known.interactions, known.graph_until, encoder="spectral")
    trained = graph.items()
    missing = sorted(set(parts[0].item_ids) - set(trained.item_ids))
    if missing:
        filled = impute(parts[:1], trained, missing, k=config.impute_neighbors)
        trained = Embeddings(
            space=trained.space,
            item_ids=[*trained.item_ids, *filled.item_ids],
            vectors_ND=np.concatenate([trained.vectors_ND, filled.vectors_ND]),
        )
    met = set(known.before(known.graph_until)["item_id"].to_pylist())
    items = concatenate([*parts, trained], fitted_on=met)
    return modality_recall.Space(items=items, users=graph.users(), sequence=None)


def preferences(known: World, asked: Sequence[Query]) -> list[str | None]:
    """What the template tells of each history, block by block; None of fewer than three events."""
    facts = {item.item_id: (item.title, item.category) for item in known.catalog.items()}
    config = PreferenceConfig()
    teller = PreferenceTeller(config, None)

    def told(event: Interaction) -> Event:
        title, category = facts[event.item_id]
        return Event(behavior=event.behavior, weight=event.weight, title=title, category=category)

    texts = []
    for query in asked:
        text: str | None = None
        history = query.history or ()
        for step in steps(history, config):
            events = [told(event) for event in history[step.start : step.stop]]
            text = str(teller.tell([(events, text)])[0])
        texts.append(text)
    return texts


def asked_by_preference(
    known: World, items: ItemVectors, pooled: Sequence[Sequence[str]]
) -> tuple[list[list[str]], int]:
    """The first items of the summaries' block by the preference's vector, the history left out.

    Whoever has no preference keeps the list of the pooled history. Also how many have one.
    """
    asked, _ = modality_recall.queries(known, cut=known.cut, until=None)
    texts = preferences(known, asked)
    held = [row for row, text in enumerate(texts) if text]
    vectors = encoded([text for text in texts if text])
    center_D = items.centers_D[items.columns_of["summary"]]
    vectors_QD = normalize(vectors - center_D)
    block_ND = items.block("summary")
    ids = np.array(items.item_ids)
    rankings = [list(one) for one in pooled]
    for row, vector_D in zip(held, vectors_QD, strict=True):
        scores_N = block_ND @ vector_D
        scores_N[~items.is_present("summary")] = -np.inf
        touched = [items.row_of.get(one.item_id) for one in asked[row].history or ()]
        scores_N[[at for at in touched if at is not None]] = -np.inf
        rankings[row] = ids[np.argsort(-scores_N, kind="stable")[: max(KS)]].tolist()
    return rankings, len(held)


def measure(
    name: str, folder: Path, *, is_written: bool
) -> tuple[dict[str, Figure], dict[str, str]]:
    """All figures of one set, each with what it means."""
    known = world(name, folder)
    whole = space(known, content(name, known.catalog, is_written=is_written))
    _, judged = modality_recall.queries(known, cut=known.cut, until=None)
    rankings: dict[str, Sequence[Sequence[str]]] = {}
    said: dict[str, str] = {}
    for system, blocks in SYSTEMS.items():
        rankings[system], said[system] = modality_recall.ranked(known, whole, blocks)
        print(f"{name} {system}: {said[system]}", flush=True)
    if not is_written:
        by_preference, num_told = asked_by_preference(known, whole.items, rankings["summary"])
        rankings["asked_by_preference"] = by_preference
        said["asked_by_preference"] = f"{num_told} have a preference"
    prefix = f"{name}_written" if is_written else name
    return figures_of(prefix, rankings, judged, said)


def figures_of(
    prefix: str,
    rankings: Mapping[str, Sequence[Sequence[str]]],
    judged: Sequence[Judgement],
    said: Mapping[str, str],
) -> tuple[dict[str, Figure], dict[str, str]]:
    """Recall of each system, and the paired gains."""
    figures: dict[str, Figure] = {}
    meanings: dict[str, str] = {}
    for k in KS:
        values = {name: per_user(lists, judged, recall, k) for name, lists in rankings.items()}
        for name, of in values.items():
            figures[f"{prefix}_{name}_recall_at_{k}"] = figure([float(of.mean())])
            meanings[f"{prefix}_{name}_recall_at_{k}"] = f"{len(judged)} users; {said[name]}"
        for more, less, what in GAINS:
            if more in values:
                gain = paired_bootstrap(values[more], values[less])
                found = {"median": gain.mean, "low": gain.low, "high": gain.high}
                figures[f"{prefix}_{what}_at_{k}"] = found
                meanings[f"{prefix}_{what}_at_{k}"] = f"Recall@{k}; 95% paired bootstrap"
    return figures, meanings


def main() -> None:
    options = parser(__doc__ or "")
    names = [*COLUMNS, "games"]
    options.add_argument("--sets", nargs="+", choices=names, default=names)
    options.add_argument("--written", action="store_true", help="paragraphs that the sets bring")
    given = options.parse_args()
    folder = data_folder()
    torch.set_num_threads(1)
    figures: dict[str, Figure] = {}
    meanings: dict[str, str] = {}
    for name in given.sets:
        if name != "games":
            found, said = measure(name, folder, is_written=given.written)
        elif not given.written:
            found, said = games(folder / name, encoded)
        figures |= found
        meanings |= said
    publish(
        "What the template's summaries add to retrieval",
        figures,
        meanings,
        file=given.json,
        packages=("torch", "numpy"),
    )


if __name__ == "__main__":
    main()
