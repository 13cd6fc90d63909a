"""A modality and an encoder's name in, the embedder that they choose out.

The only place that imports the room's heavy leaves, each when it is chosen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from embedders.base import Embedder
from embedders.items import Modality

if TYPE_CHECKING:
    import pyarrow as pa

    from embedders.graph_config import GraphConfig
    from embedders.graph_embedder import GraphEmbedder
    from embedders.model_file import ModelFile
    from embedders.vectors import Embeddings

INSTALL = "pip install 'sommelier[embed]'"

# Encoder -> the options it takes, for each modality. `model` is required wherever it is taken.
HUB = ("model", "revision", "trust_remote_code", "dtype", "device", "dim", "batch_size", "adapter")
FILE = ("model", "output", "dim", "num_threads", "batch_size")
PICTURES = (*FILE, "layout", "size", "resize", "value_range", "mean", "std")
SOUNDS = (*FILE, "rate", "window", "hop", "limit_s")
TRAINED_GRAPHS = ("lightgcn", "spectral")
"""The graph encoders that `fit_graph` trains."""
BROUGHT = ("name", "revision", "dim", "center", "scale", "is_normalized", "until")
TEXTS: Mapping[str, tuple[str, ...]] = {
    "minilm": ("prefix", "query_prefix", "dtype", "device", "batch_size", "adapter"),
    "sentence": (*HUB, "prefix", "query_prefix"),
    "auto": (*HUB, "prefix", "query_prefix", "pooling", "max_length"),
    "onnx": (*FILE, "prefix", "query_prefix", "pooling", "max_length"),
    "brought": BROUGHT,
}
"""Encoders of texts: the catalog's words, or what was written of an item."""
OPTIONS: Mapping[Modality, Mapping[str, tuple[str, ...]]] = {
    Modality.AUDIO: {
        "fbank": ("num_mels", "poolings", "num_frames", "limit_s"),
        "auto": (*HUB, "limit_s"),
        "onnx": SOUNDS,
        "tflite": SOUNDS,
        "brought": BROUGHT,
    },
    Modality.GRAPH: {"lightgcn": (), "spectral": (), "brought": BROUGHT},
    Modality.IMAGE: {
        "hog": (),
        "auto": HUB,
        "onnx": PICTURES,
        "tflite": PICTURES,
        "brought": BROUGHT,
    },
    Modality.SUMMARY: TEXTS,
    Modality.TEXT: TEXTS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which encoder makes the vectors of one modality. An option of None is the encoder's default.

    Raises:
        ValueError: an unknown encoder, an option that it does not take, or one that it lacks.
    """

    modality: Modality
    encoder: str
    """audio: fbank, auto, onnx, tflite, brought; graph: lightgcn, spectral, brought; image: hog,
    auto, onnx, tflite, brought; text and summary: minilm, sentence, auto, onnx, brought."""
    model: str | None = None
    """A folder or a hub id; of onnx and tflite the file, of texts the folder that holds model.onnx
    and tokenizer.json."""
    adapter: Path | None = None
    """A folder in peft's format, put on top of the model's weights: what `sommelier tune-encoders`
    writes. The vectors are another space's."""
    revision: str | None = None
    """A hub model's commit. Of brought vectors, any word: another one says that another encoder
    made them."""
    trust_remote_code: bool | None = None
    """Run the code that comes with a hub model; without it, never."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """What the model computes in; another precision is another space."""
    device: str | None = None
    """As torch names it, or auto: CUDA where there is any."""
    batch_size: int | None = None
    """How many contents a model computes at once; no matter for the vectors."""
    num_threads: int | None = None
    """On how many cores a model file runs; without it, all."""
    output: str | int | None = None
    """Which tensor of a model file holds the vector, by name or number, where it has several
    outputs; of tflite it may be an inner one."""
    layout: Literal["NHWC", "NCHW"] | None = None
    """Of a model file's pictures: colors last or first, where the file does not tell."""
    size: int | None = None
    """Of a model file's pictures: pixels of a side, where the file takes any number."""
    resize: Literal["stretch", "crop"] | None = None
    """How a picture is brought to the model file's shape: stretch, or crop its middle out."""
    value_range: tuple[float, float] | None = None
    """What black and white are to a model file: 0 and 1; where it takes whole numbers, their own
    levels."""
    mean: tuple[float, float, float] | None = None
    """Of red, green and blue, subtracted then, as the model file was trained."""
    std: tuple[float, float, float] | None = None
    """Of red, green and blue, by which they are divided after that."""
    rate: int | None = None
    """Samples a second that a model file wants to hear: 16000."""
    window: int | None = None
    """Of a model file's sounds: in samples, where the file takes any number."""
    hop: int | None = None
    """Samples from the start of one window to the next's; without it, they stand end to end."""
    prefix: str | None = None
    """Put before each text, e.g. `passage: `."""
    query_prefix: str | None = None
    """Put before each text that is searched with."""
    pooling: Literal["mean", "cls", "last"] | None = None
    """Which of a text's tokens make its vector: all, the first or the last."""
    max_length: int | None = None
    """In tokens."""
    num_mels: int | None = None
    """Bands of fbank."""
    poolings: tuple[Literal["max", "mean", "attention"], ...] | None = None
    """Parts of fbank's vector."""
    num_frames: int | None = None
    """Frames that fbank's vector is instead, for the ranker to pool."""
    limit_s: float | None = None
    """Of a longer sound the middle so many seconds count."""
    name: str | None = None
    """Of brought vectors: the catalog's file is vectors/<modality>_<name>.parquet."""
    dim: int | None = None
    """How long the vectors must be."""
    center: bool | None = None
    """Subtract the mean over a brought file."""
    scale: bool | None = None
    """Bring every dimension of a brought file to one spread, before that."""
    is_normalized: bool | None = None
    """Divide brought vectors by their length; without it, they are."""
    until: datetime | None = None
    """The cut of the events that brought vectors were trained on."""

    def __post_init__(self) -> None:
        encoders = OPTIONS[self.modality]
        if self.encoder not in encoders:
            raise ValueError(
                f"no {self.modality} encoder {self.encoder!r}: choose one of {', '.join(encoders)}"
            )
        taken = encoders[self.encoder]
        for option in self.options:
            if option not in taken:
                raise ValueError(
                    f"the {self.modality} encoder {self.encoder!r} takes no {option!r}, "
                    f"only {', '.join(taken) or 'no options'}"
                )
        for option in ("model", "name"):
            if option in taken and getattr(self, option) is None:
                raise ValueError(f"the {self.modality} encoder {self.encoder!r} needs {option!r}")

    @property
    def reads_summaries(self) -> bool:
        """Whether items need a summary; brought vectors of summaries were made elsewhere."""
        return self.modality is Modality.SUMMARY and self.encoder != "brought"

    @property
    def options(self) -> dict[str, Any]:
        """The options that are set."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: value
            for name, value in named.items()
            if value is not None and name not in ("modality", "encoder")
        }


class Brings(Protocol):
    """What is asked of a catalog here: where it is, and which files of vectors it brings."""

    @property
    def folder(self) -> Path:
        """The catalog's."""

    @property
    def brought(self) -> Mapping[tuple[Modality, str], Path]:
        """(modality, encoder's name) -> the file of vectors."""


def create(config: EncoderConfig, *, catalog: Brings) -> Embedder:
    """The embedder that a configuration names, its model loaded.

    Raises:
        ValueError: the encoder is one that is fitted, the catalog has no such vectors, or the
            model cannot be used.
        ImportError: a library is missing; the message says how to install it.
    """
    if config.modality is Modality.GRAPH and config.encoder in TRAINED_GRAPHS:
        raise ValueError(
            f"the graph encoder {config.encoder!r} is trained on interactions: use fit_graph"
        )
    options = config.options
    with libraries(f"the {config.modality} encoder {config.encoder!r}"):
        match (config.modality, config.encoder):
            case (_, "brought"):
                from embedders.brought import BroughtEmbedder

                path = _brought_file(config.modality, options["name"], catalog)
                return BroughtEmbedder(path, modality=config.modality, **options)
            case (Modality.TEXT | Modality.SUMMARY, "minilm"):
                from embedders.text_sentence import SentenceEmbedder

                return SentenceEmbedder(model="minilm", modality=config.modality, **options)
            case (Modality.TEXT | Modality.SUMMARY, "sentence"):
                from embedders.text_sentence import SentenceEmbedder

                return SentenceEmbedder(modality=config.modality, **options)
            case (Modality.TEXT | Modality.SUMMARY, "auto"):
                from embedders.text_auto import AutoTextEmbedder

                return AutoTextEmbedder(modality=config.modality, **options)
            case (Modality.IMAGE, "hog"):
                from embedders.image_hog import HogEmbedder

                return HogEmbedder()
            case (Modality.IMAGE, "auto"):
                from embedders.image_auto import AutoImageEmbedder

                return AutoImageEmbedder(**options)
            case (Modality.AUDIO, "fbank"):
                from embedders.audio_fbank import FbankEmbedder

                return FbankEmbedder(**options)
            case (Modality.AUDIO, "auto"):
                from embedders.audio_auto import AutoAudioEmbedder

                return AutoAudioEmbedder(**options)
            case (_, "onnx" | "tflite"):
                return _from_file(config)
    raise AssertionError(f"OPTIONS lists {config.modality} {config.encoder!r}, nothing makes it")


def _from_file(config: EncoderConfig) -> Embedder:
    """An encoder whose weights and graph are one file, run by the file's own runtime."""
    options = config.options
    path = Path(options.pop("model"))
    opening = _taken(options, ("output", "num_threads"))
    if "output" in opening:
        opening["output"] = str(opening["output"])
    if config.modality in (Modality.TEXT, Modality.SUMMARY):
        from embedders.text_file import MODEL_FILE, FileTextEmbedder

        opened = _open(config.encoder, path / MODEL_FILE, opening)
        return FileTextEmbedder(opened, modality=config.modality, **options)
    model = _open(config.encoder, path, opening)
    if config.modality is Modality.IMAGE:
        from embedders.image_file import FileImageEmbedder, ImageInput

        takes = ImageInput(**_taken(options, PICTURES[len(FILE) :]))
        return FileImageEmbedder(model, takes=takes, **options)
    from embedders.audio_file import AudioInput, FileAudioEmbedder

    hears = AudioInput(**_taken(options, SOUNDS[len(FILE) :]))
    return FileAudioEmbedder(model, takes=hears, **options)


def _open(runtime: str, path: Path, options: Mapping[str, Any]) -> "ModelFile":
    if runtime == "onnx":
        from embedders.onnx_file import OnnxFile

        return OnnxFile(path, **options)
    from embedders.tflite_file import TfliteFile

    return TfliteFile(path, **options)


def _taken(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Those of the options that have these names, which are no longer among the others."""
    return {name: options.pop(name) for name in names if name in options}


def fit_graph(
    config: "GraphConfig",
    interactions: "pa.Table",
    until: datetime | None,
    *,
    encoder: str = "lightgcn",
    friends: "pa.Table | None" = None,
    item_edges: "pa.Table | None" = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> "GraphEmbedder":
    """Train a graph encoder on the events before `until`; None takes them all.

    Friends and item edges are the catalog's; the configuration says whether they are used. The
    encoder spectral looks at neither, and reports no progress.

    Raises:
        ValueError: nothing is left to train on, or no such encoder is trained.
        ImportError: a library is missing; the message says how to install it.
    """
    if encoder not in TRAINED_GRAPHS:
        raise ValueError(f"no graph encoder {encoder!r}: choose one of {', '.join(TRAINED_GRAPHS)}")
    with libraries(f"the graph encoder {encoder!r}"):
        if encoder == "spectral":
            from embedders import graph_spectral

            return graph_spectral.fit(interactions, until=until, config=config)
        from embedders import graph_lightgcn
    return graph_lightgcn.fit(
        interactions,
        until=until,
        config=config,
        friends=friends,
        item_edges=item_edges,
        on_progress=on_progress,
    )


def trained_graph(
    items: "Embeddings", users: "Embeddings", until: datetime | None
) -> "GraphEmbedder":
    """A graph encoder that was trained before, from all that it holds."""
    from embedders.graph_embedder import GraphEmbedder

    return GraphEmbedder(items=items, users=users, until=until)


def _brought_file(modality: Modality, name: str, catalog: Brings) -> Path:
    path = catalog.brought.get((modality, name))
    if path is None:
        names = sorted(name for of, name in catalog.brought if of is modality)
        raise ValueError(
            f"{catalog.folder} has no vectors/{modality}_{name}.parquet; of this modality it "
            f"brings {', '.join(names) or 'none'}"
        )
    return path


@contextmanager
def libraries(who: str) -> Iterator[None]:
    """Says how to install what an import within the block does not find."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f"{who} needs {error.name}: {INSTALL}", name=error.name) from error
