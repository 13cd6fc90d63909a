"""The set `emotify` in, listeners' opinions of songs, the songs' vectors and splits by artist out.

The set has no users: a row is one participant's answer to one song. So nobody has a history; what
is known of whom is asked is their age, gender, mother tongue and mood. The emotions of a row are
those that the song made the participant feel, hence known only after listening; a context tells of
them where it is asked to, and never else.

Shape legend: N songs, D dimensions, O opinions, P facts of a person.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedders.audio_fbank import FbankEmbedder
from embedders.base import Embedder
from embedders.items import Item
from embedders.text_sentence import MINILM, SentenceEmbedder
from embedders.vectors import Embeddings
from retrieval import tensor_file
from retrieval.concatenated import ItemVectors, concatenate

EMOTIONS = (
    "amazement",
    "solemnity",
    "tenderness",
    "nostalgia",
    "calmness",
    "power",
    "joyful_activation",
    "tension",
    "sadness",
)
NUM_FRAMES = 200  # of 100 ms each, in the 20 seconds that a song has
FEW_SPEAKERS = 50  # a tongue with fewer rows is none of the baselines' columns
DEV_SHARE = 0.3  # of the songs: what settings are chosen on, and nothing is reported of


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """One participant's answer to one song."""

    song: str
    is_liked: bool
    age: int
    gender: int
    """0 or 1; the source does not say which is which."""
    tongue: str
    mood: int
    """From 1, the worst, to 5."""
    felt: tuple[str, ...]
    """What the song made them feel: known only afterwards."""

    def sentence(self, *, with_felt: bool) -> str:
        """The participant in words."""
        known = f"{self.tongue}, age {self.age // 10}0s, gender {self.gender}, mood {self.mood}"
        return f"{known}, feels {', '.join(self.felt) or 'nothing'}" if with_felt else known


@dataclass(frozen=True, kw_only=True)
class Emotify:
    """Songs by id, and what was said of them."""

    folder: Path
    songs: Mapping[str, Item]
    artists: Mapping[str, str]
    genres: Mapping[str, str]
    opinions: tuple[Opinion, ...]

    @property
    def titles(self) -> dict[str, str]:
        """Each song in words."""
        return {song: one.title for song, one in self.songs.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Places among the opinions; no song or artist is in two parts."""

    learned: NDArray[np.int64]
    """What training rows are drawn from."""
    judged: NDArray[np.int64]


def read(folder: Path) -> Emotify:
    """The set, without the rows that both like and dislike a song, or neither."""
    items = pq.read_table(folder / "items.parquet").to_pylist()
    opinions = [
        Opinion(
            song=row["item_id"],
            is_liked=bool(row["liked"]),
            age=row["age"],
            gender=row["gender"],
            tongue=row["mother_tongue"],
            mood=row["mood"],
            felt=tuple(name.replace("_", " ") for name in EMOTIONS if row[name]),
        )
        for row in pq.read_table(folder / "annotations.parquet").to_pylist()
        if row["liked"] != row["disliked"]
    ]
    return Emotify(
        folder=folder,
        songs={
            row["item_id"]: Item(
                item_id=row["item_id"],
                title=f"{row['genre']} music: {row['title']} by {row['artist']}",
                audio_path=folder / row["audio_path"],
            )
            for row in items
        },
        artists={row["item_id"]: row["artist"] for row in items},
        genres={row["item_id"]: row["genre"] for row in items},
        opinions=tuple(opinions),
    )


def text(known: Emotify, cache: Path) -> Embeddings:
    """The songs' words (genre, title, artist) by all-MiniLM-L6-v2."""
    return _cached(SentenceEmbedder(model=MINILM, device="cpu"), known, cache)


def audio(known: Emotify, cache: Path, *, num_mels: int) -> Embeddings:
    """The songs' log-Mel spectra as frames in a row."""
    return _cached(FbankEmbedder(num_mels=num_mels, num_frames=NUM_FRAMES), known, cache)


def vectors(parts: Sequence[Embeddings], *, fitted_on: set[str]) -> ItemVectors:
    """The blocks side by side, centered on the songs that may be learned from."""
    return concatenate(parts, fitted_on=fitted_on)


def split(known: Emotify, *, draw: int, is_dev: bool) -> Parts:
    """Opinions that are learned from and those that are judged, by artist within each genre.

    Args:
        known: The set.
        draw: Which of the splits.
        is_dev: Of the songs that settings are chosen on; else of those that are reported, which
            are by other artists.
    """
    apart, reported = _halves(known, set(known.songs), DEV_SHARE, seed=[0])
    learned, judged = _halves(known, apart if is_dev else reported, 0.5, seed=[1, draw])
    songs = [one.song for one in known.opinions]
    return Parts(
        learned=np.flatnonzero([song in learned for song in songs]),
        judged=np.flatnonzero([song in judged for song in songs]),
    )


def shots(known: Emotify, parts: Parts, k: int, *, draw: int) -> NDArray[np.int64]:
    """K opinions to train on, at least two of either kind; equal draws give equal ones."""
    rng = np.random.default_rng([2, k, draw])
    while True:
        chosen = np.sort(rng.choice(parts.learned, size=k, replace=False))
        if 2 <= labels(known, chosen).sum() <= k - 2:
            return np.asarray(chosen, dtype=np.int64)


def labels(known: Emotify, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these opinions like their song."""
    return np.array([known.opinions[place].is_liked for place in places])


def facts(known: Emotify, *, with_felt: bool) -> NDArray[np.float32]:
    """Each opinion's participant as numbers for models that read no words, [O, P]; every column
    has mean 0 and deviation 1."""
    count: defaultdict[str, int] = defaultdict(int)
    for one in known.opinions:
        count[one.tongue] += 1
    tongues = sorted(tongue for tongue, num in count.items() if num >= FEW_SPEAKERS)
    felt = [name.replace("_", " ") for name in EMOTIONS] if with_felt else []
    rows_OP = np.array(
        [
            [
                float(one.age),
                float(one.gender),
                float(one.mood),
                *(float(one.tongue == tongue) for tongue in tongues),
                *(float(name in one.felt) for name in felt),
            ]
            for one in known.opinions
        ]
    )
    scaled_OP = (rows_OP - rows_OP.mean(axis=0)) / rows_OP.std(axis=0)
    return np.asarray(scaled_OP, dtype=np.float32)


def _halves(
    known: Emotify, songs: set[str], share: float, *, seed: list[int]
) -> tuple[set[str], set[str]]:
    """Songs in two, whole artists on either side, the first with the share in each genre."""
    by_artist: defaultdict[str, list[str]] = defaultdict(list)
    for song in sorted(songs, key=int):
        by_artist[known.artists[song]].append(song)
    rng = np.random.default_rng(seed)
    total: defaultdict[str, int] = defaultdict(int)
    taken: defaultdict[str, int] = defaultdict(int)
    first: set[str] = set()
    for song in songs:
        total[known.genres[song]] += 1
    for artist in rng.permutation(sorted(by_artist)):
        own = by_artist[str(artist)]
        genre = known.genres[own[0]]
        if taken[genre] + len(own) / 2 <= share * total[genre]:
            first.update(own)
            taken[genre] += len(own)
    return first, songs - first


def _cached(embedder: Embedder, known: Emotify, cache: Path) -> Embeddings:
    made_of = repr((embedder.space.space_id, sorted(known.titles.items())))
    path = cache / f"songs-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}.safetensors"
    if path.is_file():
        ids, arrays = tensor_file.read(path, names=["vectors"])
        return Embeddings(space=embedder.space, item_ids=ids, vectors_ND=arrays["vectors"])
    found, rejects = embedder.embed(list(known.songs.values()))
    if rejects:
        raise ValueError(f"{len(rejects)} songs cannot be read, the first is {rejects[0]}")
    cache.mkdir(parents=True, exist_ok=True)
    tensor_file.write(path, item_ids=found.item_ids, arrays={"vectors": found.vectors_ND})
    return found
