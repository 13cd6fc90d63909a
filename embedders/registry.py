"""A modality and an encoder's name in, the embedder that they choose out.

The only place that imports the room's heavy leaves, each when it is chosen.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from embedders.base import Embedder
from embedders.items import Modality

if TYPE_CHECKING:
    import pyarrow as pa

    from embedders.graph_lightgcn import GraphConfig, LightGcnEmbedder

INSTALL = "pip install 'sommelier[embed]'"

# Encoder -> the options it takes, for each modality. `model` is required wherever it is taken.
HUB = ("model", "revision", "trust_remote_code", "device", "batch_size")
BROUGHT = ("name", "dim", "center", "scale", "is_normalized", "until")
OPTIONS: Mapping[Modality, Mapping[str, tuple[str, ...]]] = {
    Modality.AUDIO: {
        "fbank": ("num_mels", "poolings"),
        "auto": HUB,
        "brought": BROUGHT,
    },
    Modality.GRAPH: {"lightgcn": (), "brought": BROUGHT},
    Modality.IMAGE: {"hog": (), "auto": HUB, "brought": BROUGHT},
    Modality.TEXT: {
        "minilm": ("prefix", "device", "batch_size"),
        "sentence": (*HUB, "prefix"),
        "auto": (*HUB, "prefix", "pooling", "max_length"),
        "brought": BROUGHT,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Which encoder makes the vectors of one modality. An option of None is the encoder's default.

    Raises:
        ValueError: an unknown encoder, an option that it does not take, or one that it lacks.
    """

    modality: Modality
    encoder: str
    """audio: fbank, auto, brought; graph: lightgcn, brought; image: hog, auto, brought; text:
    minilm, sentence, auto, brought."""
    model: str | None = None
    """A folder or a hub id."""
    revision: str | None = None
    """A hub model's commit."""
    trust_remote_code: bool | None = None
    device: str | None = None
    batch_size: int | None = None
    prefix: str | None = None
    """Put before each text, e.g. `passage: `."""
    pooling: Literal["mean", "cls", "last"] | None = None
    max_length: int | None = None
    """In tokens."""
    num_mels: int | None = None
    poolings: tuple[Literal["max", "mean"], ...] | None = None
    name: str | None = None
    """Of brought vectors: the catalog's file is vectors/<modality>_<name>.parquet."""
    dim: int | None = None
    center: bool | None = None
    scale: bool | None = None
    is_normalized: bool | None = None
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
    if (config.modality, config.encoder) == (Modality.GRAPH, "lightgcn"):
        raise ValueError("the graph encoder 'lightgcn' is trained on interactions: use fit_graph")
    options = config.options
    with _libraries(f"the {config.modality} encoder {config.encoder!r}"):
        match (config.modality, config.encoder):
            case (_, "brought"):
                from embedders.brought import BroughtEmbedder

                path = _brought_file(config.modality, options["name"], catalog)
                return BroughtEmbedder(path, modality=config.modality, **options)
            case (Modality.TEXT, "minilm"):
                from embedders.text_sentence import SentenceEmbedder

                return SentenceEmbedder(model="minilm", **options)
            case (Modality.TEXT, "sentence"):
                from embedders.text_sentence import SentenceEmbedder

                return SentenceEmbedder(**options)
            case (Modality.TEXT, "auto"):
                from embedders.text_auto import AutoTextEmbedder

                return AutoTextEmbedder(**options)
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
    raise AssertionError(f"OPTIONS lists {config.modality} {config.encoder!r}, nothing makes it")


def fit_graph(
    config: "GraphConfig",
    interactions: "pa.Table",
    until: datetime | None,
    *,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> "LightGcnEmbedder":
    """Train the graph encoder on the events before `until`; None takes them all.

    Raises:
        ValueError: nothing is left to train on.
        ImportError: a library is missing; the message says how to install it.
    """

    with _libraries("the graph encoder 'lightgcn'"):
        from embedders import graph_lightgcn

    return graph_lightgcn.fit(interactions, until=until, config=config, on_progress=on_progress)


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
def _libraries(who: str) -> Iterator[None]:
    """Says how to install what an import within the block does not find."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f"{who} needs {error.name}: {INSTALL}", name=error.name) from error
