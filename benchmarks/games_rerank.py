"""The set `games` in, NDCG@10 of our reranking of seven stored routes and of our own lists out.

The 6,000 users of the stored lists are asked for; the target is a user's last item, and the
items of the history are removed from every list, whoever orders it. Four orders of the same
candidates are compared: the route's own; the score of our retriever (`games_recall`) used alone;
the ranker's prior, which is that score and the cosines in its blocks calibrated on what was
chosen; and the ranker's score, prior and LLM. No order of a list that lacks the target is better
than another, so that only lists that hold it are scored, and the others count as 0.

The ranker is trained and calibrated on the targets of `valid`, with lists of models that were
trained on `train`, and it was configured there (`--choose` measures on users of `valid` whom
nothing was fitted on). The retriever's models are then those of `games_recall`, trained on train
and valid. A round is a seed: of the retriever's models, the LLM, and the ranker's training; the
models behind the training lists are those of the first seed for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from _figures import Figure, data_folder, figure, parser, publish
from _games import ROUTES, Games, load, ndcg_at, text_vectors
from _games_lists import Finder, Lists, joined, training_lists
from _games_ranker import CONFIG, Ranker, adapter, quick, vectors
from games_recall import CACHE, trained
from numpy.typing import NDArray

from evaluation.significance import paired_bootstrap
from ranker.config import RankerConfig
from retrieval.concatenated import ItemVectors, concatenate
from retrieval.tensor_file import read, write

KEPT = Path(__file__).parents[1] / "build" / "games_rerank"
QUICK = 1500  # users of `valid` to train on, to try it out; else all but
HELD, CHECKED = 3000, 9000  # those to calibrate on, and to choose on
OWN, SMALL = "own", "of_20"  # our retriever's first 100, and the published protocol's lists
SYSTEMS = ("order", "retriever", "prior", "reranked")
LESS = {"order": "{}", "retriever": "own_retriever_score", "prior": "prior"}
ABSENT = np.iinfo(np.int64).max
DEPTHS = (1, 5, 10, 20)

Asked = Sequence[NDArray[np.int64] | None]
"""A list of candidates for each user, in its own order; None for those who have none."""
Places = dict[str, dict[str, NDArray[np.int64]]]
"""For each set of candidates and each system, where each user's target stands, from 0."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The data, and where what is trained on it is kept."""

    games: Games
    titles: ItemVectors
    is_quick: bool
    kept: Path
    held: int = HELD
    checked: int = CHECKED

    def finder(self, split: str, seed: int) -> Finder:
        """The retriever that knows what came before the targets of a split."""
        models = trained(self.games, self.titles, split=split, seed=seed, quick=self.is_quick)
        return Finder(self.games, self.titles, models)

    def parts(self) -> tuple[list[int], list[int], list[int]]:
        """Users of `valid` to train on, to calibrate on, and to choose on."""
        # The first of this permutation are those whom the retriever's weights were fitted on.
        users = np.random.default_rng(0).permutation(len(self.games.user_ids)).tolist()
        first, second = len(users) - self.held - self.checked, len(users) - self.checked
        trained = min(first, QUICK if self.is_quick else first)
        return users[:trained], users[first:second], users[second:]

    def lists(self) -> tuple[Lists, Lists]:
        """To train on, and to calibrate on; found once."""
        finder: Finder | None = None
        made: list[Lists] = []
        for name, users in zip(("train", "held"), self.parts(), strict=False):
            file = self.kept / f"lists-{name}-{len(users)}.safetensors"
            if not file.is_file():
                finder = finder or self.finder("valid", 0)
                training_lists(self.games, finder, users, seed=len(made), file=file)
            made.append(Lists.load(self.games, file))
        return made[0], made[1]

    def ranker(self, config: RankerConfig) -> Ranker:
        """Train a ranker, or take what a run before this one trained."""
        lists, held = self.lists()
        known = trained(self.games, self.titles, split="valid", seed=0, quick=self.is_quick)
        items = vectors(self.titles, known)
        folder = adapter(self.games, lists, held, items=items, config=config, into=self.kept)
        return Ranker(folder, items, dict(zip(self.games.item_ids, self.games.titles, strict=True)))


def places_in(lists: Lists, scores_E: NDArray[np.float32], asked: Asked) -> NDArray[np.int64]:
    """From 0, where each list's target stands among the items asked for; equal scores fall by
    item id. A target that is not among them is nowhere."""
    places = []
    for place, rows_A in enumerate(asked):
        if rows_A is None:
            places.append(ABSENT)
            continue
        part = lists.part(place)
        own_A = scores_E[part][np.searchsorted(lists.rows_E[part], rows_A)]
        target = lists.targets_Q[place]
        own = own_A[rows_A == target][0]
        places.append(int(((own_A > own) | ((own_A == own) & (rows_A < target))).sum()))
    return np.array(places, dtype=np.int64)


def ordered(
    finder: Finder,
    ranker: Ranker,
    asked: tuple[Sequence[NDArray[np.int64]], NDArray[np.int64]],
    sets: Mapping[str, Asked],
    *,
    own: Mapping[str, str],
) -> Places:
    """Order every list that holds its target by every system.

    Args:
        finder: The retriever.
        ranker: Trained.
        asked: The users' histories and targets.
        sets: By name, the users' candidates.
        own: More sets: the first 100 of these signals of the retriever.
    """
    histories, targets_Q = asked
    held: dict[str, list[NDArray[np.int64] | None]] = {name: [] for name in (*sets, *own)}
    parts: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for found in finder.blocks(histories):
        best = {name: found.best(signal, 100) for name, signal in own.items()}
        for query in range(len(found.histories)):
            place = len(parts)
            given = {name: of[place] for name, of in sets.items()}
            given |= {name: of[query] for name, of in best.items()}
            union = [np.zeros(0, dtype=np.int64)]
            for name, rows in given.items():
                is_held = rows is not None and targets_Q[place] in rows
                held[name].append(rows if is_held else None)
                union += [rows] if rows is not None and is_held else []
            rows_K = np.unique(np.concatenate(union))
            parts.append((rows_K, found.of(query, rows_K)))
    lists = joined(finder.item_ids, histories, targets_Q, parts)
    scores = ranker.scores(lists)
    places: Places = {}
    for name, of in held.items():
        order = [
            ABSENT if rows is None else int(np.flatnonzero(rows == target)[0])
            for rows, target in zip(of, targets_Q.tolist(), strict=True)
        ]
        places[name] = {"order": np.array(order, dtype=np.int64)}
        places[name] |= {system: places_in(lists, one, of) for system, one in scores.items()}
    return places


def candidate_sets(games: Games) -> tuple[list[int], dict[str, Asked]]:
    """The 6,000 users, and by name their stored lists without the history; of 200 of them the
    published protocol's lists of 20."""
    histories, targets_U = games.histories("test"), games.targets("test")
    stored = {route: games.lists(route) for route in ROUTES}
    users = sorted(stored["sasrec"])
    sets: dict[str, Asked] = {
        route: [of[user][~np.isin(of[user], histories[user])] for user in users]
        for route, of in stored.items()
    }
    random = games.lists("random", folder="candidates_sample200")
    sets[SMALL] = [
        np.append(random[user][random[user] != targets_U[user]][:19], targets_U[user])
        if user in random
        else None
        for user in users
    ]
    return users, sets


def measured(world: World, config: RankerConfig, seed: int) -> Places:
    """Where one seed's systems put the targets; kept for a later run."""
    config = replace(config, training=replace(config.training, seed=seed))
    ranker = world.ranker(config)
    users, sets = candidate_sets(world.games)
    file = world.kept / f"places-{seed}-{ranker.name}.safetensors"
    if not file.is_file():
        histories, targets_U = world.games.histories("test"), world.games.targets("test")
        places = ordered(
            world.finder("test", seed),
            ranker,
            ([histories[user] for user in users], targets_U[users]),
            sets,
            own={OWN: "fused"},
        )
        arrays = {f"{name}.{key}": one for name, of in places.items() for key, one in of.items()}
        write(file, item_ids=[], arrays=arrays)
    names = (*sets, OWN)
    _, arrays = read(file, names=[f"{name}.{system}" for name in names for system in SYSTEMS])
    return {name: {one: arrays[f"{name}.{one}"] for one in SYSTEMS} for name in names}


def choose(world: World, config: RankerConfig) -> None:
    """Say how a ranker does on users of `valid` whom nothing was fitted on."""
    ranker = world.ranker(config)
    users = world.parts()[2]
    histories, targets_U = world.games.histories("valid"), world.games.targets("valid")
    # The sequence encoder's own list stands for another retriever's; none is stored of `valid`.
    places = ordered(
        world.finder("valid", 0),
        ranker,
        ([histories[user] for user in users], targets_U[users]),
        {},
        own={OWN: "fused", "another": "sequence"},
    )
    for name, of in places.items():
        values = {system: ndcg_at(one, 10) for system, one in of.items()}
        for system, one in values.items():
            gain = paired_bootstrap(one, values["retriever"])
            print(
                f"valid, {name}, {system}: NDCG@10 {one.mean():.4f}, over the retriever's score "
                f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
                flush=True,
            )


def figures_of(rounds: Sequence[Places]) -> dict[str, tuple[Figure, str]]:
    """All figures, each with what it means."""
    told: dict[str, tuple[Figure, str]] = {}
    for name in ("sasrec", OWN, *(route for route in ROUTES if route != "sasrec")):
        prefix = "" if name == "sasrec" else f"{name}_"
        by_seed = {
            system: [ndcg_at(places[name][system], 10) for places in rounds] for system in SYSTEMS
        }
        for system, of in by_seed.items():
            key = f"{prefix}ndcg_at_10" if system == "reranked" else f"{prefix}{system}_ndcg_at_10"
            told[key] = (figure([float(one.mean()) for one in of]), f"{name}'s list, {system}")
        for system, word in LESS.items():
            if name == OWN and system == "order":
                continue  # our own lists are in the order of our retriever's score
            gain = paired_bootstrap(
                np.mean(by_seed["reranked"], axis=0), np.mean(by_seed[system], axis=0)
            )
            told[f"{prefix}delta_ndcg_at_10_over_{word.format(name)}"] = (
                {"median": gain.mean, "low": gain.low, "high": gain.high},
                f"{name}'s list, mean over seeds; 95% paired bootstrap, users",
            )
    for system in SYSTEMS[1:]:
        for depth in DEPTHS:
            values = []
            for places in rounds:
                given = places[SMALL][system]
                values.append(100 * float(ndcg_at(given[given < ABSENT], depth).mean()))
            told[f"of_20_{system}_ndcg_at_{depth}"] = (figure(values), "200 users, 20 items, x 100")
    return told


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--seeds", type=int, default=3, help="how many are trained, from 0")
    options.add_argument("--quick", action="store_true", help="small models, to try it out")
    options.add_argument("--choose", action="store_true", help="measure on valid, and stop")
    options.add_argument("--history", type=int, help="events that the ranker reads, as an ablation")
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    folder = data_folder("games")
    torch.set_num_threads(given.threads)
    games = load(folder)
    world = World(
        games=games,
        titles=concatenate([text_vectors(games, cache=CACHE)], item_ids=games.item_ids),
        is_quick=given.quick,
        kept=KEPT,
    )
    config = quick(CONFIG) if given.quick else CONFIG
    if given.history is not None:
        config = replace(config, prompt=replace(config.prompt, history_limit=given.history))
    if given.choose:
        choose(world, config)
        return
    told = figures_of([measured(world, config, seed) for seed in range(given.seeds)])
    publish(
        "Reranking games, seeds as rounds",
        {name: one for name, (one, _) in told.items()},
        {name: meaning for name, (_, meaning) in told.items()},
        file=given.json,
        packages=("torch", "transformers", "peft", "numpy"),
    )


if __name__ == "__main__":
    main()
