"""The wire: every noun that crosses comes back equal, and the generated code is fresh."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedders.items import Interaction, Modality
from ranker import wire
from ranker.limits import ServiceLimits
from ranker.pb import ranker_pb2 as pb
from ranker.ranking import Status
from retrieval.filters import Among, Between, Filter
from tests.ranker.serving_world import BORN, TableServing

REPOSITORY = Path(__file__).resolve().parents[2]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


def test_every_modality_and_status_has_its_value_on_the_wire() -> None:
    assert set(wire.TO_MODALITY) == set(Modality)
    assert set(wire.TO_STATUS) == set(Status)
    assert {*wire.FROM_MODALITY, pb.MODALITY_UNSPECIFIED} == set(pb.Modality.values())
    assert {*wire.FROM_STATUS, pb.ITEM_STATUS_UNSPECIFIED} == set(pb.ItemStatus.values())


def test_every_limit_is_published() -> None:
    published = [field.name for field in pb.GetInfoResponse.Limits.DESCRIPTOR.fields]
    assert sorted(published) == sorted(wire.LIMIT_NAMES)


def test_a_history_crosses_with_its_times_and_its_order() -> None:
    history = (
        Interaction(item_id="a", behavior="view", timestamp=BORN),
        Interaction(item_id="b", behavior="cart", position=1),
        Interaction(item_id="c", behavior="rate", weight=4.5, position=2),
        Interaction(item_id="c", behavior="rate", weight=0.0, position=3),
    )
    message = wire.to_user(user_id=None, history=history)
    arrived = pb.User.FromString(message.SerializeToString())
    assert wire.from_history(arrived.history) == history


def test_an_empty_history_is_a_user_too() -> None:
    message = wire.to_user(user_id=None, history=())
    assert pb.User.FromString(message.SerializeToString()).WhichOneof("identity") == "history"


@given(
    among=st.dictionaries(TEXTS, st.frozensets(TEXTS, min_size=1, max_size=3), max_size=3),
    between=st.dictionaries(TEXTS, st.floats(-9, 9), max_size=3),
    allow=st.none() | st.frozensets(TEXTS, min_size=1, max_size=3),
    deny=st.frozensets(TEXTS, max_size=3),
)
def test_a_filter_crosses_unchanged(
    among: dict[str, frozenset[str]],
    between: dict[str, float],
    allow: frozenset[str] | None,
    deny: frozenset[str],
) -> None:
    filter = Filter(
        among=tuple(Among(column=name, values=values) for name, values in among.items()),
        between=tuple(Between(column=name, low=low) for name, low in between.items()),
        allow=allow,
        deny=deny,
    )
    message = pb.Filter.FromString(wire.to_filter(filter).SerializeToString())
    assert wire.from_filter(message) == (None if filter.is_empty else filter)


def test_a_filter_that_allows_nothing_never_leaves() -> None:
    with pytest.raises(ValueError, match="no item could be answered"):
        wire.to_filter(Filter(allow=frozenset()))


def test_a_server_that_knows_fewer_limits_is_understood() -> None:
    sent = wire.to_info(TableServing().info, ServiceLimits())
    for name in ("text_length", "vector_bytes", "filter_conditions", "filter_values"):
        sent.limits.ClearField(name)
    sent.limits.ClearField("filter_item_ids")
    limits = wire.from_info(sent).limits
    assert (limits.text_length, limits.vector_bytes, limits.filter_item_ids) == (0, 0, 0)


def test_spaces_cross_with_their_ids() -> None:
    info = TableServing().info
    sent = wire.to_info(info, ServiceLimits())
    assert [space.space_id for space in sent.spaces] == [space.space_id for space in info.spaces]
    assert wire.from_info(sent).spaces == info.spaces


@pytest.mark.parametrize("name", ["ranker_pb2.py", "ranker_pb2.pyi", "ranker_pb2_grpc.py"])
def test_the_generated_code_is_what_the_proto_gives(name: str, generated: Path) -> None:
    fresh = (generated / "ranker" / "pb" / name).read_text()
    assert fresh == (REPOSITORY / "ranker" / "pb" / name).read_text(), (
        "proto/ and ranker/pb/ differ: python -m grpc_tools.protoc -I proto --python_out=. "
        "--pyi_out=. --grpc_python_out=. proto/ranker/pb/*.proto"
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """protoc's output of this checkout's .proto."""
    out = tmp_path_factory.mktemp("generated")
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", f"--python_out={out}",
         f"--pyi_out={out}", f"--grpc_python_out={out}", "proto/ranker/pb/ranker.proto"],
        cwd=REPOSITORY,
        check=True,
    )  # fmt: skip
    return out
