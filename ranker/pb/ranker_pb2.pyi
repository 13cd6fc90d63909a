import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    MODALITY_AUDIO: _ClassVar[Modality]
    MODALITY_GRAPH: _ClassVar[Modality]
    MODALITY_IMAGE: _ClassVar[Modality]
    MODALITY_TEXT: _ClassVar[Modality]
    MODALITY_SUMMARY: _ClassVar[Modality]

class ItemStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ITEM_STATUS_UNSPECIFIED: _ClassVar[ItemStatus]
    ITEM_STATUS_OK: _ClassVar[ItemStatus]
    ITEM_STATUS_UNKNOWN_ITEM: _ClassVar[ItemStatus]
    ITEM_STATUS_MISSING_VECTORS: _ClassVar[ItemStatus]
    ITEM_STATUS_TRUNCATED: _ClassVar[ItemStatus]
    ITEM_STATUS_NOT_SCORED: _ClassVar[ItemStatus]
    ITEM_STATUS_FILTERED: _ClassVar[ItemStatus]
MODALITY_UNSPECIFIED: Modality
MODALITY_AUDIO: Modality
MODALITY_GRAPH: Modality
MODALITY_IMAGE: Modality
MODALITY_TEXT: Modality
MODALITY_SUMMARY: Modality
ITEM_STATUS_UNSPECIFIED: ItemStatus
ITEM_STATUS_OK: ItemStatus
ITEM_STATUS_UNKNOWN_ITEM: ItemStatus
ITEM_STATUS_MISSING_VECTORS: ItemStatus
ITEM_STATUS_TRUNCATED: ItemStatus
ITEM_STATUS_NOT_SCORED: ItemStatus
ITEM_STATUS_FILTERED: ItemStatus

class Interaction(_message.Message):
    __slots__ = ("item_id", "behavior", "timestamp", "weight")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOR_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    behavior: str
    timestamp: _timestamp_pb2.Timestamp
    weight: float
    def __init__(self, item_id: _Optional[str] = ..., behavior: _Optional[str] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., weight: _Optional[float] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("interactions",)
    INTERACTIONS_FIELD_NUMBER: _ClassVar[int]
    interactions: _containers.RepeatedCompositeFieldContainer[Interaction]
    def __init__(self, interactions: _Optional[_Iterable[_Union[Interaction, _Mapping]]] = ...) -> None: ...

class User(_message.Message):
    __slots__ = ("user_id", "history")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    history: History
    def __init__(self, user_id: _Optional[str] = ..., history: _Optional[_Union[History, _Mapping]] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("among", "between", "allow_item_ids", "deny_item_ids")
    class Among(_message.Message):
        __slots__ = ("column", "values")
        COLUMN_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        column: str
        values: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, column: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...
    class Between(_message.Message):
        __slots__ = ("column", "low", "high")
        COLUMN_FIELD_NUMBER: _ClassVar[int]
        LOW_FIELD_NUMBER: _ClassVar[int]
        HIGH_FIELD_NUMBER: _ClassVar[int]
        column: str
        low: float
        high: float
        def __init__(self, column: _Optional[str] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...
    AMONG_FIELD_NUMBER: _ClassVar[int]
    BETWEEN_FIELD_NUMBER: _ClassVar[int]
    ALLOW_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    DENY_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    among: _containers.RepeatedCompositeFieldContainer[Filter.Among]
    between: _containers.RepeatedCompositeFieldContainer[Filter.Between]
    allow_item_ids: _containers.RepeatedScalarFieldContainer[str]
    deny_item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, among: _Optional[_Iterable[_Union[Filter.Among, _Mapping]]] = ..., between: _Optional[_Iterable[_Union[Filter.Between, _Mapping]]] = ..., allow_item_ids: _Optional[_Iterable[str]] = ..., deny_item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class InlineVectors(_message.Message):
    __slots__ = ("space_id", "item_ids", "dtype", "shape", "data")
    SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    space_id: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, space_id: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class RerankRequest(_message.Message):
    __slots__ = ("request_id", "user", "item_ids", "top_k", "generation_id", "behavior", "explain", "recent", "filter", "weights", "vectors", "anytime", "text")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOR_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    ANYTIME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user: User
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    top_k: int
    generation_id: str
    behavior: str
    explain: bool
    recent: History
    filter: Filter
    weights: _containers.ScalarMap[str, float]
    vectors: _containers.RepeatedCompositeFieldContainer[InlineVectors]
    anytime: bool
    text: str
    def __init__(self, request_id: _Optional[str] = ..., user: _Optional[_Union[User, _Mapping]] = ..., item_ids: _Optional[_Iterable[str]] = ..., top_k: _Optional[int] = ..., generation_id: _Optional[str] = ..., behavior: _Optional[str] = ..., explain: _Optional[bool] = ..., recent: _Optional[_Union[History, _Mapping]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., weights: _Optional[_Mapping[str, float]] = ..., vectors: _Optional[_Iterable[_Union[InlineVectors, _Mapping]]] = ..., anytime: _Optional[bool] = ..., text: _Optional[str] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("request_id", "user", "top_k", "num_candidates", "exclude_item_ids", "include_seen", "generation_id", "behavior", "explain", "recent", "filter", "weights", "anytime", "text")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    NUM_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOR_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    ANYTIME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user: User
    top_k: int
    num_candidates: int
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    include_seen: bool
    generation_id: str
    behavior: str
    explain: bool
    recent: History
    filter: Filter
    weights: _containers.ScalarMap[str, float]
    anytime: bool
    text: str
    def __init__(self, request_id: _Optional[str] = ..., user: _Optional[_Union[User, _Mapping]] = ..., top_k: _Optional[int] = ..., num_candidates: _Optional[int] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., include_seen: _Optional[bool] = ..., generation_id: _Optional[str] = ..., behavior: _Optional[str] = ..., explain: _Optional[bool] = ..., recent: _Optional[_Union[History, _Mapping]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., weights: _Optional[_Mapping[str, float]] = ..., anytime: _Optional[bool] = ..., text: _Optional[str] = ...) -> None: ...

class StreamRerankRequest(_message.Message):
    __slots__ = ("rerank",)
    RERANK_FIELD_NUMBER: _ClassVar[int]
    rerank: RerankRequest
    def __init__(self, rerank: _Optional[_Union[RerankRequest, _Mapping]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("base", "contributions")
    class Contribution(_message.Message):
        __slots__ = ("block", "value")
        BLOCK_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        block: str
        value: float
        def __init__(self, block: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    BASE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    base: float
    contributions: _containers.RepeatedCompositeFieldContainer[Explanation.Contribution]
    def __init__(self, base: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Explanation.Contribution, _Mapping]]] = ...) -> None: ...

class RankedItem(_message.Message):
    __slots__ = ("item_id", "rank", "score", "logit", "status", "retrieval_rank", "retrieval_score", "present", "title", "probability", "explanation")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_RANK_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    rank: int
    score: float
    logit: float
    status: ItemStatus
    retrieval_rank: int
    retrieval_score: float
    present: _containers.RepeatedScalarFieldContainer[Modality]
    title: str
    probability: float
    explanation: Explanation
    def __init__(self, item_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ..., logit: _Optional[float] = ..., status: _Optional[_Union[ItemStatus, str]] = ..., retrieval_rank: _Optional[int] = ..., retrieval_score: _Optional[float] = ..., present: _Optional[_Iterable[_Union[Modality, str]]] = ..., title: _Optional[str] = ..., probability: _Optional[float] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("retrieve_ms", "rerank_ms", "total_ms", "queue_ms")
    RETRIEVE_MS_FIELD_NUMBER: _ClassVar[int]
    RERANK_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    retrieve_ms: float
    rerank_ms: float
    total_ms: float
    queue_ms: float
    def __init__(self, retrieve_ms: _Optional[float] = ..., rerank_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ...) -> None: ...

class RerankResponse(_message.Message):
    __slots__ = ("request_id", "generation_id", "items", "timings", "judged_by", "logit_weight", "scored_count", "degraded")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    JUDGED_BY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SCORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    generation_id: str
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    timings: Timings
    judged_by: str
    logit_weight: float
    scored_count: int
    degraded: bool
    def __init__(self, request_id: _Optional[str] = ..., generation_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., judged_by: _Optional[str] = ..., logit_weight: _Optional[float] = ..., scored_count: _Optional[int] = ..., degraded: _Optional[bool] = ...) -> None: ...

class StreamRerankResponse(_message.Message):
    __slots__ = ("ranking", "is_final")
    RANKING_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    ranking: RerankResponse
    is_final: bool
    def __init__(self, ranking: _Optional[_Union[RerankResponse, _Mapping]] = ..., is_final: _Optional[bool] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("request_id", "generation_id", "items", "timings", "judged_by", "logit_weight", "scored_count", "degraded")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    JUDGED_BY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SCORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    generation_id: str
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    timings: Timings
    judged_by: str
    logit_weight: float
    scored_count: int
    degraded: bool
    def __init__(self, request_id: _Optional[str] = ..., generation_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., judged_by: _Optional[str] = ..., logit_weight: _Optional[float] = ..., scored_count: _Optional[int] = ..., degraded: _Optional[bool] = ...) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("generation_id", "model", "num_items", "spaces", "limits", "as_of", "behaviors", "calibrator", "blocks", "filterable", "comparable")
    class Limits(_message.Message):
        __slots__ = ("candidates", "history", "message_bytes", "top_k", "id_length", "exclude", "queue", "workers", "default_candidates", "default_top_k", "explained", "text_length", "vector_bytes", "filter_conditions", "filter_values", "filter_item_ids")
        CANDIDATES_FIELD_NUMBER: _ClassVar[int]
        HISTORY_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
        TOP_K_FIELD_NUMBER: _ClassVar[int]
        ID_LENGTH_FIELD_NUMBER: _ClassVar[int]
        EXCLUDE_FIELD_NUMBER: _ClassVar[int]
        QUEUE_FIELD_NUMBER: _ClassVar[int]
        WORKERS_FIELD_NUMBER: _ClassVar[int]
        DEFAULT_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
        DEFAULT_TOP_K_FIELD_NUMBER: _ClassVar[int]
        EXPLAINED_FIELD_NUMBER: _ClassVar[int]
        TEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
        VECTOR_BYTES_FIELD_NUMBER: _ClassVar[int]
        FILTER_CONDITIONS_FIELD_NUMBER: _ClassVar[int]
        FILTER_VALUES_FIELD_NUMBER: _ClassVar[int]
        FILTER_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
        candidates: int
        history: int
        message_bytes: int
        top_k: int
        id_length: int
        exclude: int
        queue: int
        workers: int
        default_candidates: int
        default_top_k: int
        explained: int
        text_length: int
        vector_bytes: int
        filter_conditions: int
        filter_values: int
        filter_item_ids: int
        def __init__(self, candidates: _Optional[int] = ..., history: _Optional[int] = ..., message_bytes: _Optional[int] = ..., top_k: _Optional[int] = ..., id_length: _Optional[int] = ..., exclude: _Optional[int] = ..., queue: _Optional[int] = ..., workers: _Optional[int] = ..., default_candidates: _Optional[int] = ..., default_top_k: _Optional[int] = ..., explained: _Optional[int] = ..., text_length: _Optional[int] = ..., vector_bytes: _Optional[int] = ..., filter_conditions: _Optional[int] = ..., filter_values: _Optional[int] = ..., filter_item_ids: _Optional[int] = ...) -> None: ...
    class Space(_message.Message):
        __slots__ = ("modality", "space_id", "dim", "encoder", "revision", "preprocessing", "is_normalized")
        MODALITY_FIELD_NUMBER: _ClassVar[int]
        SPACE_ID_FIELD_NUMBER: _ClassVar[int]
        DIM_FIELD_NUMBER: _ClassVar[int]
        ENCODER_FIELD_NUMBER: _ClassVar[int]
        REVISION_FIELD_NUMBER: _ClassVar[int]
        PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
        IS_NORMALIZED_FIELD_NUMBER: _ClassVar[int]
        modality: Modality
        space_id: str
        dim: int
        encoder: str
        revision: str
        preprocessing: str
        is_normalized: bool
        def __init__(self, modality: _Optional[_Union[Modality, str]] = ..., space_id: _Optional[str] = ..., dim: _Optional[int] = ..., encoder: _Optional[str] = ..., revision: _Optional[str] = ..., preprocessing: _Optional[str] = ..., is_normalized: _Optional[bool] = ...) -> None: ...
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NUM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    SPACES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    BEHAVIORS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATOR_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    FILTERABLE_FIELD_NUMBER: _ClassVar[int]
    COMPARABLE_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    model: str
    num_items: int
    spaces: _containers.RepeatedCompositeFieldContainer[GetInfoResponse.Space]
    limits: GetInfoResponse.Limits
    as_of: _timestamp_pb2.Timestamp
    behaviors: _containers.RepeatedScalarFieldContainer[str]
    calibrator: str
    blocks: _containers.RepeatedScalarFieldContainer[str]
    filterable: _containers.RepeatedScalarFieldContainer[str]
    comparable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation_id: _Optional[str] = ..., model: _Optional[str] = ..., num_items: _Optional[int] = ..., spaces: _Optional[_Iterable[_Union[GetInfoResponse.Space, _Mapping]]] = ..., limits: _Optional[_Union[GetInfoResponse.Limits, _Mapping]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., behaviors: _Optional[_Iterable[str]] = ..., calibrator: _Optional[str] = ..., blocks: _Optional[_Iterable[str]] = ..., filterable: _Optional[_Iterable[str]] = ..., comparable: _Optional[_Iterable[str]] = ...) -> None: ...
