"""The settings of one workspace: every owner's configuration, composed into one frozen noun.

Knows no file: `sommelier.settings_file` reads and writes them. Importing this loads no model
library, so that any command can look at its settings in a moment.
"""

from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Literal

from embedders.columns import Columns
from embedders.graph_config import GraphConfig
from embedders.items import Modality
from embedders.registry import EncoderConfig
from embedders.summaries.config import PreferenceConfig, SummaryConfig
from embedders.tuning.config import TuningConfig
from evaluation.order import SplitName
from evaluation.protocol import EvaluationConfig
from ranker.config import RankerConfig
from ranker.limits import ServerConfig, ServiceLimits
from retrieval.build import IndexConfig
from retrieval.pooled import PoolingConfig
from retrieval.sequence_config import SequenceConfig

ENCODERS = (
    EncoderConfig(modality=Modality.TEXT, encoder="minilm"),
    EncoderConfig(modality=Modality.IMAGE, encoder="hog"),
    EncoderConfig(modality=Modality.AUDIO, encoder="fbank"),
    EncoderConfig(modality=Modality.GRAPH, encoder="lightgcn"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings:
    """Where the items and interactions are."""

    path: Path = Path("catalog")
    """The catalog's folder, relative to this file."""
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSettings:
    """How the catalog is embedded."""

    engine: Literal["local", "ray"] = "local"
    """Where encoders run: in this process, or on a Ray cluster."""
    ray_address: str | None = None
    """A running cluster's, as `ray.init` takes it; without it, a cluster of this machine alone."""
    num_workers: int = 4
    """Threads that read and decode ahead of the encoder; on Ray, processes that each hold one."""
    ray_cpus: float = 1.0
    """What each of these processes takes of the cluster's CPUs; its encoder has as many threads."""
    ray_gpus: float = 0.0
    """What each takes of the cluster's GPUs; 0.5 puts two on one."""
    batch_rows: int | None = None
    """Rows that are encoded and become durable together; a killed run does at most one batch of
    each worker again. Without it, each encoder's own number."""
    max_deleted_share: float = 0.2
    """If more than this share of the stored items, and at least 20, is gone from the catalog,
    nothing is done without --allow-deletions: half a catalog is more often a broken export."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {self.num_workers}")
        if self.ray_cpus <= 0 or self.ray_gpus < 0:
            raise ValueError(
                f"ray_cpus must be above 0 and ray_gpus at least 0, got {self.ray_cpus} and "
                f"{self.ray_gpus}"
            )
        if self.batch_rows is not None and self.batch_rows < 1:
            raise ValueError(f"batch_rows must be at least 1, got {self.batch_rows}")
        if not 0 <= self.max_deleted_share <= 1:
            raise ValueError(
                f"max_deleted_share lies between 0 and 1, got {self.max_deleted_share}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarySettings(SummaryConfig):
    """What `sommelier summarize` writes of each item: its words, picture and sound in one text."""

    enabled: bool = False
    """Let it. An encoder of the modality "summary" embeds what was written."""

    @property
    def config(self) -> SummaryConfig:
        """What writing itself takes."""
        names = [one.name for one in fields(SummaryConfig)]
        return SummaryConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSettings(PreferenceConfig):
    """What `sommelier summarize` writes of each user: what they seem to like, by their events."""

    enabled: bool = False
    """Let it, after the items' summaries, which it reads where they are enabled."""

    @property
    def config(self) -> PreferenceConfig:
        """What writing itself takes."""
        names = [one.name for one in fields(PreferenceConfig)]
        return PreferenceConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where features are kept."""

    root: Path = Path("store")
    """The store's folder, relative to the workspace."""
    profile: Path | None = None
    """A feature_store.yaml of Feast, relative to this file; without it the embedded one: DuckDB,
    SQLite, no server."""
    parts_url: str | None = None
    """A bucket for the parts, which root then mirrors, such as
    "s3://bucket/folder?region=eu-central-1"; credentials come from the environment."""
    history_limit: int = 50
    """A user's history is their last so many events; earlier ones are not served."""

    def __post_init__(self) -> None:
        if self.history_limit < 1:
            raise ValueError(f"history_limit must be at least 1, got {self.history_limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSettings:
    """What may be learned from when: graph | graph_until | ranker | cut | what is judged."""

    split: SplitName = "time"
    """"time" is one cut for everybody. "user" judges each user's last choice and learns the ranker
    from the one before; "given" follows the catalog's column split (train, valid, test). Both let
    in what a live system could not know, and reports say so; shares and moments are then unused."""
    graph_share: float = 0.70
    """The graph is trained on this share of the events, in time order."""
    cut_share: float = 0.85
    """The ranker is trained on the events between the graph's and this share; evaluation judges
    what came later."""
    graph_until: datetime | None = None
    """A moment such as "2024-05-31T00:00:00Z", in place of graph_share."""
    cut: datetime | Literal["end"] | None = None
    """A moment, in place of cut_share; "end" trains on everything, for production, and leaves
    nothing to be judged."""

    def __post_init__(self) -> None:
        for name in ("graph_share", "cut_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} lies between 0 and 1, got {getattr(self, name)}")
        for name in ("graph_until", "cut"):
            moment = getattr(self, name)
            if isinstance(moment, datetime) and moment.tzinfo is None:
                raise ValueError(f"{name} {moment.isoformat()} needs a time zone: append Z for UTC")
            if isinstance(moment, datetime) and self.split != "time":
                raise ValueError(
                    f'{name} is a moment, and the split "{self.split}" has a clock of its own: '
                    f'leave {name} out, or set split = "time"'
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """Which events are choices: what the ranker learns to foresee, and is judged by."""

    behaviors: tuple[str, ...] | None = None
    """Without it, every behavior is one."""
    min_weight: float | None = None
    """The least weight (a rating) of a choice; an event without a weight is then none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSettings(SequenceConfig):
    """The network that reads a history as a sequence, and how it is trained."""

    enabled: bool = True
    """Train it before the ranker, and search its block with those of the modalities."""

    @property
    def config(self) -> SequenceConfig:
        """What training itself takes."""
        names = [one.name for one in fields(SequenceConfig)]
        return SequenceConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSettings:
    """How candidates are found."""

    fusion: Literal["weighted", "rank", "learned"] = "weighted"
    """weighted: by the weighted sum of the cosines in all blocks. rank: one list for each block,
    merged by the sum of reciprocal ranks. learned: such lists, scored by a small model that is
    fitted on moments before the cut."""
    tune: bool = True
    """Fit the weights of [pooling] on moments before the cut."""
    tune_users: int = 500
    """At most so many users' moments are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings(EvaluationConfig):
    """Who is judged, and how a route is measured."""

    max_users: int | None = None
    """At most so many users are judged, drawn evenly; without it, everybody."""
    min_history: int = 1
    """Judged users have at least so many events before they are asked."""
    warm_up: int | None = None
    """A user with less history before the cut is asked after their first so many events behind
    it; without it, such users are not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSettings:
    """Where everything that is made lies."""

    workspace: Path = Path(".")
    """Relative to this file; the others are relative to the workspace."""
    models: Path = Path("models")
    """Adapters, the embedded LLM, and what was tuned."""
    index: Path = Path("index")
    generations: Path = Path("generations")
    """What was published; one of them is served."""
    report: Path = Path("report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it. Paths are as written until `settings_file.load` has made them absolute."""

    catalog: CatalogSettings = field(default_factory=CatalogSettings)
    encoders: tuple[EncoderConfig, ...] = ENCODERS
    graph: GraphConfig = field(default_factory=GraphConfig)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    summaries: SummarySettings = field(default_factory=SummarySettings)
    preferences: PreferenceSettings = field(default_factory=PreferenceSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    time: TimeSettings = field(default_factory=TimeSettings)
    target: TargetSettings = field(default_factory=TargetSettings)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    sequence: SequenceSettings = field(default_factory=SequenceSettings)
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    paths: PathSettings = field(default_factory=PathSettings)

    def __post_init__(self) -> None:
        if not self.encoders:
            raise ValueError("encoders: name at least one, or leave the section out")
        modalities = [encoder.modality for encoder in self.encoders]
        for modality in modalities:
            if modalities.count(modality) > 1:
                raise ValueError(f"encoders: {modality} has two encoders; keep one")
        for one in self.encoders:
            if one.reads_summaries and not self.summaries.enabled:
                raise ValueError(
                    f"encoders: {one.encoder!r} reads summaries, which nothing writes: set "
                    "summaries.enabled = true, or leave this encoder out"
                )
