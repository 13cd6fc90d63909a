"""What every base keeps to: frozen features, presence, live features, and known answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embedders.items import Modality
from embedders.tuning.choices import Choices, divided
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features
from embedders.tuning.recommender import Live, bpr, squares
from embedders.tuning.stage_one import BASES, create, go_on

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
every_base = pytest.mark.parametrize("base", sorted(BASES))


def config_of(base: str, **changed: object) -> TuningConfig:
    config = TuningConfig(dim=8, base_batch_size=64, base_learning_rate=0.03, epochs=40)
    return replace(config, base=base, **changed)  # type: ignore[arg-type]


def checkerboard(num_users: int = 24, num_items: int = 16) -> Choices:
    """Even users choose even items, but for one each, and odd ones odd."""
    pairs = [
        (user, item)
        for user in range(num_users)
        for item in range(num_items)
        if user % 2 == item % 2 and item // 2 != user // 2 % (num_items // 2)
    ]
    users, items = np.array(pairs).T
    return divided(
        users,
        items,
        user_ids=[f"u{n:02}" for n in range(num_users)],
        item_ids=[f"i{n:02}" for n in range(num_items)],
    )


def features_of(num_items: int, *, absent: tuple[int, ...] = (), seed: int = 0) -> Features:
    vectors = np.random.default_rng(seed).normal(size=(num_items, 5)).astype(np.float32)
    is_present = np.ones(num_items, dtype=bool)
    is_present[list(absent)] = False
    vectors[~is_present] = 0
    return Features(vectors_ID=vectors, is_present_I=is_present)


@every_base
def test_the_checkerboard_is_learned(base: str) -> None:
    choices = checkerboard()
    config = config_of(base)
    recommender = create(choices, {TEXT: features_of(16)}, config)
    fitted = go_on(recommender, replace(choices, users_V=choices.users_V[:0]), config, epochs=40)
    scores = fitted.recommender.scores(torch.arange(24)).numpy()
    is_own = (np.arange(24)[:, None] - np.arange(16)[None]) % 2 == 0
    ranked = np.argsort(-scores, axis=1)[:, :6]  # the one never chosen may be anywhere
    assert np.take_along_axis(is_own, ranked, axis=1).mean() > 0.97


@every_base
def test_training_leaves_the_features_to_the_bit(base: str) -> None:
    choices, config = checkerboard(), config_of(base)
    given = {TEXT: features_of(16), IMAGE: features_of(16, absent=(3,), seed=1)}
    recommender = create(choices, given, config)
    before = {name: one.detach().clone() for name, one in recommender.named_parameters()}
    go_on(recommender, choices, config, epochs=2)
    for modality, features in given.items():
        assert recommender.features(modality).numpy().tobytes() == features.vectors_ID.tobytes()
    assert not any("features" in name for name in before)
    go_on(recommender, replace(choices, users_V=choices.users_V[:0]), config, epochs=1)
    assert all((before[n] != p).any() for n, p in recommender.named_parameters())


@every_base
def test_a_modality_that_an_item_lacks_adds_nothing_and_dampens_nothing(base: str) -> None:
    choices, config = checkerboard(), config_of(base)
    text, image = features_of(16), features_of(16, absent=(2,), seed=1)
    recommender = create(choices, {TEXT: text, IMAGE: image}, config)
    rows = torch.tensor([2, 4])
    shown = recommender.content(rows)
    words, picture = (recommender.projected(one, rows) for one in (TEXT, IMAGE))
    torch.testing.assert_close(shown[0], words[0])
    torch.testing.assert_close(shown[1], (words[1] + picture[1]) / 2)
    assert not picture[0].any()


@every_base
def test_live_features_take_the_place_of_the_stored_and_pass_gradients_on(base: str) -> None:
    choices, config = checkerboard(), config_of(base)
    features = features_of(16)
    recommender = create(choices, {TEXT: features}, config)
    triples = torch.tensor([[0, 1, 2], [2, 5, 4], [3, 6, 7]])
    items = torch.tensor([2, 3, 4, 5, 7])
    same = torch.from_numpy(features.vectors_ID)[items].requires_grad_(True)

    def loss(live: dict[Modality, Live] | None) -> torch.Tensor:
        torch.manual_seed(3)
        return recommender.loss(triples, live=live)

    alike = loss({TEXT: Live(items_K=items, vectors_KD=same)})
    torch.testing.assert_close(alike, loss(None))
    torch.autograd.backward(alike)
    assert same.grad is not None
    assert same.grad[[0, 2, 3]].abs().sum(dim=1).min() > 0
    other = loss({TEXT: Live(items_K=items, vectors_KD=-same.detach())})
    assert float(other.detach()) != pytest.approx(float(alike.detach()))


@every_base
def test_knowledge_is_of_choices_alone_and_out_of_reach(base: str) -> None:
    choices, config = checkerboard(), config_of(base)
    one = create(choices, {TEXT: features_of(16)}, config)
    other = create(choices, {TEXT: features_of(16, seed=9)}, config)
    for mine, yours in zip(one.knowledge(), other.knowledge(), strict=True):
        assert not mine.requires_grad
        torch.testing.assert_close(mine, yours)
    assert [len(known) for known in one.knowledge()] == [24, 16]


@every_base
def test_scores_are_inner_products_of_the_vectors(base: str) -> None:
    recommender = create(checkerboard(), {TEXT: features_of(16)}, config_of(base))
    users = torch.tensor([3, 1])
    expected = recommender.user_vectors()[users] @ recommender.item_vectors().T
    torch.testing.assert_close(recommender.scores(users), expected.detach())


@pytest.mark.parametrize("base", ["lightgcn", "vbpr"])
def test_other_features_move_the_scores(base: str) -> None:
    recommender = create(checkerboard(), {TEXT: features_of(16)}, config_of(base))
    before = recommender.scores(torch.arange(4))
    recommender.refresh(TEXT, torch.tensor([0]), torch.full((1, 5), 3.0))
    after = recommender.scores(torch.arange(4))
    assert (before[:, 0] != after[:, 0]).all()
    assert recommender.features(TEXT)[0].tolist() == [3.0] * 5


def test_bm3_scores_hold_no_feature() -> None:
    recommender = create(checkerboard(), {TEXT: features_of(16)}, config_of("bm3"))
    before = recommender.scores(torch.arange(4))
    recommender.refresh(TEXT, torch.arange(16), torch.zeros(16, 5))
    torch.testing.assert_close(recommender.scores(torch.arange(4)), before)


def test_features_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="features of 3 items, the choices are among 16"):
        create(checkerboard(), {TEXT: features_of(3)}, config_of("vbpr"))
    with pytest.raises(ValueError, match="one modality at least"):
        create(checkerboard(), {}, config_of("vbpr"))


def test_the_losses_are_what_a_hand_computes() -> None:
    users, known = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    unknown = torch.tensor([[0.0, 1.0]])
    assert float(bpr(users, known, unknown)) == pytest.approx(np.log1p(np.exp(-1.0)))
    assert float(squares(users, known)) == pytest.approx((5 + 9) / 2)
