"""A seed in, a catalog folder of a small shop out, with tastes whose answer is known.

The shop sells tasting boxes. Each box has four traits, drawn independently of each other:

* its **picture** trait shows only in the label's colors and pattern,
* its **sound** trait only in the register and timbre of its tune,
* its **words** trait only in the description (titles and categories say nothing),
* its **circle** nowhere: only who bought what tells it.

A user likes some values of every trait, and chooses by the sum. `view` is mostly curiosity;
`cart` and `purchase` follow the taste. So every modality carries taste that no other one shows,
and a ranker has to find out that purchases say more than views. Some boxes miss a modality, and
some appear late, so that nobody has met them yet.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sommelier.demo.media import draw_label, play_tune, write_words

NUM_VALUES = 8  # values of each trait
TRAITS = ("picture", "sound", "words", "circle")
CARE = np.array([1.8, 1.2, 0.6, 0.3])  # how much a user cares for the four traits, in any order
GAIN = np.array([1.3, 1.1, 1.1, 1.3])  # of TRAITS: pictures and circles are harder to read
OPENING = datetime(2025, 1, 1, tzinfo=UTC)
CATEGORIES = ("box", "duo", "trio", "sampler")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopConfig:
    """How large the shop is, and how its users behave."""

    seed: int = 0
    num_items: int = 600
    num_users: int = 800
    num_days: int = 100
    num_sessions: tuple[int, int] = (20, 40)
    """Fewest and most visits of one user."""
    late_share: float = 0.12
    """Share of the boxes that appear during the last half of the time, not on the first day."""
    missing: tuple[float, float, float] = (0.08, 0.12, 0.06)
    """Shares of boxes without a picture, a tune, a description."""
    taste: float = 3.5
    """How strongly carts and purchases follow the taste; 0 would be chance."""
    curiosity: float = 0.3
    """The same for views."""
    has_one_taste: bool = False
    """Every user cares for one trait alone, the one they would care for most, so that it is known
    in which trait, and so in which modality, a liking lies."""


def write(
    folder: Path, *, config: ShopConfig | None = None, on_item: Callable[[], None] | None = None
) -> Path:
    """Write the catalog folder of the shop.

    Args:
        folder: Made if it is not there. Files of an earlier writing are replaced.
        config: Equal configurations give equal files, byte for byte.
        on_item: Called after each item, for a progress bar.

    Returns:
        The folder: items.jsonl, interactions.csv, media/, and truth.json (the traits and the
        tastes, which no part of the system reads).
    """
    config = config or ShopConfig()
    rng = np.random.default_rng(config.seed)
    traits_NT = rng.integers(0, NUM_VALUES, size=(config.num_items, len(TRAITS)))
    created_N = _creation_days(rng, config)
    likes_UTV = _tastes(rng, config)

    for kind in ("pictures", "tunes"):
        (folder / "media" / kind).mkdir(parents=True, exist_ok=True)
    item_ids = [f"box-{number:04d}" for number in range(config.num_items)]
    with (folder / "items.jsonl").open("w") as items:
        for number, item_id in enumerate(item_ids):
            row = _item_row(folder, config, item_id, traits_NT[number], float(created_N[number]))
            items.write(json.dumps(row) + "\n")
            if on_item is not None:
                on_item()
    _write_interactions(folder, rng, config, traits_NT, created_N, likes_UTV)
    truth = {
        "traits": {
            i: dict(zip(TRAITS, map(int, t), strict=True))
            for i, t in zip(item_ids, traits_NT, strict=True)
        },
        "tastes": {
            f"user-{u:04d}": likes_UTV[u].round(3).tolist() for u in range(config.num_users)
        },
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def _creation_days(rng: np.random.Generator, config: ShopConfig) -> NDArray[np.float64]:
    days_N = np.zeros(config.num_items)
    is_late_N = rng.random(config.num_items) < config.late_share
    days_N[is_late_N] = rng.uniform(config.num_days / 2, config.num_days * 0.97, is_late_N.sum())
    return days_N


def _tastes(rng: np.random.Generator, config: ShopConfig) -> NDArray[np.float64]:
    """For each user and trait: how much each value is liked; two values are, the others not.

    Each user cares for the traits to different degrees, so that no one weighting suits all.
    """
    likes_UTV = np.zeros((config.num_users, len(TRAITS), NUM_VALUES))
    for user in range(config.num_users):
        care_T = rng.permutation(CARE)
        if config.has_one_taste:
            care_T = np.where(care_T == CARE.max(), care_T, 0.0)
        care_T = care_T * GAIN
        for trait in range(len(TRAITS)):
            liked = rng.choice(NUM_VALUES, size=2, replace=False)
            likes_UTV[user, trait, liked] = rng.uniform(0.7, 1.3, size=2) * care_T[trait]
    return likes_UTV


def _item_row(
    folder: Path, config: ShopConfig, item_id: str, traits_T: NDArray[np.int64], created_day: float
) -> dict[str, object]:
    number = int(item_id.removeprefix("box-"))
    rng = np.random.default_rng([config.seed, 1, number])
    picture, sound, words, _ = (int(value) for value in traits_T)
    has_picture, has_sound, has_words = rng.random(3) >= np.array(config.missing)
    title, description = write_words(rng, words)
    image_path = f"media/pictures/{item_id}.png" if has_picture else None
    audio_path = f"media/tunes/{item_id}.wav" if has_sound else None
    if image_path:
        draw_label(folder / image_path, rng, picture)
    if audio_path:
        play_tune(folder / audio_path, rng, sound)
    return {
        "item_id": item_id,
        "title": f"{title} no. {number}",
        "description": description if has_words else None,
        "category": str(rng.choice(CATEGORIES)),
        "created_at": (OPENING + timedelta(days=created_day)).isoformat(timespec="seconds"),
        "image_path": image_path,
        "audio_path": audio_path,
        "price": round(float(rng.uniform(9, 60)), 2),
    }


def _write_interactions(
    folder: Path,
    rng: np.random.Generator,
    config: ShopConfig,
    traits_NT: NDArray[np.int64],
    created_N: NDArray[np.float64],
    likes_UTV: NDArray[np.float64],
) -> None:
    num_items, num_traits = traits_NT.shape
    appeal_N = rng.normal(0, 0.5, size=(num_items,))  # what everybody likes a little more or less
    rows: list[tuple[float, str, str, str]] = []
    for user in range(config.num_users):
        liked_TN = likes_UTV[user, np.arange(num_traits)[:, None], traits_NT.T]
        taste_N: NDArray[np.float64] = np.sum(liked_TN, axis=0)
        bought_N = np.zeros(num_items, dtype=bool)
        visits = np.sort(rng.uniform(0, config.num_days, rng.integers(*config.num_sessions)))
        for day in visits:
            is_open_N = (created_N <= day) & ~bought_N
            events = _visit(rng, config, appeal_N, taste_N, is_open_N)
            for step, (behavior, number) in enumerate(events):
                bought_N[number] |= behavior == "purchase"
                moment = day + step * 0.002  # about three minutes between two clicks
                rows.append((moment, f"user-{user:04d}", f"box-{number:04d}", behavior))
    rows.sort()
    with (folder / "interactions.csv").open("w") as out:
        out.write("user_id,item_id,behavior,timestamp\n")
        for moment, user_id, item_id, behavior in rows:
            when = (OPENING + timedelta(days=moment)).isoformat(timespec="seconds")
            out.write(f"{user_id},{item_id},{behavior},{when}\n")


def _visit(
    rng: np.random.Generator,
    config: ShopConfig,
    appeal_N: NDArray[np.float64],
    taste_N: NDArray[np.float64],
    is_open_N: NDArray[np.bool_],
) -> list[tuple[str, int]]:
    """One visit: a few looks out of curiosity, then perhaps a choice by taste."""

    def draw(strength: float) -> int:
        weights_N = np.exp(appeal_N + strength * taste_N) * is_open_N
        # As `rng.choice` draws, which takes three times as long to check what it is given.
        upto_N = np.cumsum(weights_N / weights_N.sum())
        return int(np.searchsorted(upto_N / upto_N[-1], rng.random(), side="right"))

    if not is_open_N.any():
        return []
    events = [("view", draw(config.curiosity)) for _ in range(rng.integers(1, 4))]
    if rng.random() < 0.85:
        choice = draw(config.taste)
        events += [("view", choice), ("cart", choice)]
        if rng.random() < 0.7:
            events.append(("purchase", choice))
    return events
