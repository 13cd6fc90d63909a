"""A set, a regime and a seed in, how well every judged user's choices were found out; kept.

`frozen` is stage 1 alone. Every regime ends with a re-fit of as many epochs at most, frozen too, so
that nobody is ahead by having been trained for longer; `joint` trains its recommender for as many
epochs as stage 1 needed. All are told by the same users, and chosen by the same validation.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from _ptmrec_encoders import open_encoder
from _ptmrec_sets import Pairs, TuningSet
from numpy.typing import NDArray

from embedders.items import Modality
from embedders.tuning import stage_one, stage_two
from embedders.tuning.config import TuningConfig
from embedders.tuning.features import Features, aligned
from embedders.tuning.recommender import Recommender
from embedders.tuning.saved import Saved, put
from embedders.tuning.validation import Validation, unknown_scores
from evaluation.hits import hits
from evaluation.judgements import Judgement

DEPTH = 20
WANTED = {"recall": (10, 20), "ndcg": (10, 20)}
REGIMES = ("frozen", "joint", "no_transfer", "dual")
MOMENT = datetime(2020, 1, 1, tzinfo=UTC)  # a judgement wants one; the split is each user's own
LABELS = {"test": "all items", "cold": "items held out, among themselves"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one regime came to with one seed."""

    values: Mapping[str, NDArray[np.float64]]
    """`<test or cold>/<metric>@<k>` -> one value for each user, always the same users."""
    facts: Mapping[str, float]
    """valid: recall@20 by which settings are chosen; trained_share; epochs; seconds."""


@dataclass(kw_only=True)
class Bench:
    """One set and seed: stage 1 once, every regime from it."""

    of: TuningSet
    config: TuningConfig
    folder: Path
    quick: bool = False
    _fitted: tuple[Recommender, int] | None = field(default=None, init=False)

    def run(self, regime: str) -> Run:
        """One regime, measured or found."""
        facts = json.dumps([asdict(self.config), self.of.choices.digest, self.quick, "1"])
        own = f"{self.of.name}-{regime}-{self.config.seed}-{sha256(facts.encode()).hexdigest()[:8]}"
        path = self.folder / f"{own}.safetensors"
        if path.is_file():
            saved = Saved.read(path)
            values = {name: one.numpy() for name, one in saved.groups["values"].items()}
            return Run(values=values, facts=saved.facts)
        made = self._frozen() if regime == "frozen" else self._tuned(regime, self.folder / own)
        groups = {"values": {name: torch.from_numpy(one) for name, one in made.values.items()}}
        Saved(facts=dict(made.facts), groups=groups).write(path)
        print(f"{own}: {told(made)}", flush=True)
        return made

    def _frozen(self) -> Run:
        recommender, epochs = self._stage_one()
        return self._measured(recommender, {"epochs": epochs})

    def _tuned(self, regime: str, folder: Path) -> Run:
        tunable = open_encoder(self.of, folder=self.folder, quick=self.quick)
        modality = tunable.embedder.space.modality
        assert modality is not None
        recommender, epochs = self._stage_one()
        config = replace(self.config, regime=regime)  # type: ignore[arg-type]
        if regime == "joint":
            config = replace(config, joint_epochs=max(1, epochs))
            recommender = stage_one.create(self.of.choices, self._features(), config)
        tunable.adapt(config)
        share = tunable.num_trained / tunable.num_parameters
        tuned = stage_two.tune(
            {modality: tunable},
            self.of.items,
            self.of.choices,
            recommender,
            config=config,
            folder=folder,
            identity=self.of.choices.digest,
            on_progress=_progress(folder.name),
        )
        facts = {
            "trained_share": share,
            "epochs": epochs,
            "seconds": tuned.seconds,
            "first_transfer": float(np.mean(tuned.transfers[:10])),
            "last_transfer": float(np.mean(tuned.transfers[-10:])),
        }
        return self._measured(recommender, facts)

    def _measured(self, recommender: Recommender, facts: Mapping[str, float]) -> Run:
        before = Validation(self.of.choices, seed=self.config.seed).recall(recommender)
        refit = stage_one.go_on(
            recommender, self.of.choices, self.config, epochs=self.config.refit_epochs
        )
        values = {
            f"{name}/{metric}": one
            for name in LABELS
            for metric, one in measured(self.of, recommender, name).items()
        }
        told_of = {"valid_before_refit": before, "valid": refit.recall}
        return Run(values=values, facts={**facts, **told_of})

    def _features(self) -> Mapping[Modality, Features]:
        """By the frozen encoder, computed once for all seeds."""
        path = self.folder / f"{self.of.name}-features{'-quick' * self.quick}.safetensors"
        digest = self.of.choices.digest
        if path.is_file() and (saved := Saved.read(path)).facts["digest"] == digest:
            modality = Modality(saved.facts["modality"])
            own = saved.groups["features"]
            is_present = own["presence"].numpy().astype(bool)
            return {modality: Features(vectors_ID=own["vectors"].numpy(), is_present_I=is_present)}
        embedder = open_encoder(self.of, folder=self.folder, quick=self.quick).embedder
        features = aligned(embedder.embed(self.of.items)[0], self.of.choices.item_ids)
        modality = embedder.space.modality
        assert modality is not None
        tensors = {
            "vectors": torch.from_numpy(features.vectors_ID),
            "presence": torch.from_numpy(features.is_present_I.astype(np.uint8)),
        }
        facts = {"digest": digest, "modality": str(modality)}
        Saved(facts=facts, groups={"features": tensors}).write(path)
        return {modality: features}

    def _stage_one(self) -> tuple[Recommender, int]:
        """A copy of the seed's stage 1 of its own for every regime."""
        if self._fitted is None:
            fitted = stage_one.fit(self.of.choices, self._features(), self.config)
            self._fitted = fitted.recommender, fitted.epochs
        recommender, epochs = self._fitted
        copy = stage_one.create(self.of.choices, self._features(), self.config)
        put(copy.state_dict().items(), recommender.state_dict(), path=self.folder)
        return copy, epochs


def measured(of: TuningSet, recommender: Recommender, name: str) -> dict[str, NDArray[np.float64]]:
    """Every metric for each user who is judged, by full ranking; of `cold` among cold items."""
    users_T, items_T = of.cold if name == "cold" else of.test
    asked = np.unique(users_T)
    rankings = []
    for start in range(0, len(asked), 256):
        scores_QI = unknown_scores(recommender, of.choices, asked[start : start + 256])
        if name == "cold":
            scores_QI[:, torch.from_numpy(~of.is_cold_I)] = -torch.inf
        else:
            scores_QI = _without_validation(of, asked[start : start + 256], scores_QI)
        rankings += torch.sort(scores_QI, dim=1, descending=True, stable=True)[1][
            :, :DEPTH
        ].tolist()
    ids = of.choices.item_ids
    ranked = [[ids[item] for item in row] for row in rankings]
    judgements = [_judgement(of, (users_T, items_T), user) for user in asked.tolist()]
    return hits(ranked, judgements, depth=DEPTH).values(WANTED)


def _without_validation(
    of: TuningSet, users_Q: NDArray[np.int64], scores_QI: torch.Tensor
) -> torch.Tensor:
    """What the user chose before what is judged is out of the race."""
    for row, user in enumerate(users_Q.tolist()):
        known = of.choices.items_V[of.choices.users_V == user]
        scores_QI[row, torch.from_numpy(known)] = -torch.inf
    return scores_QI


def _judgement(of: TuningSet, pairs: Pairs, user: int) -> Judgement:
    users_T, items_T = pairs
    ids = frozenset(of.choices.item_ids[item] for item in items_T[users_T == user].tolist())
    return Judgement(user_id=of.choices.user_ids[user], as_of=MOMENT, item_ids=ids)


def told(run: Run) -> str:
    """What a run says before anybody judges it."""
    return ", ".join(f"{name} {one:.4f}" for name, one in run.facts.items())


def _progress(name: str) -> stage_one.OnProgress:
    def tell(what: str, done: int, of: int, loss: float) -> None:
        if done % 25 == 0 or done == of:
            print(f"{name}: {what} {done} of {of}, loss {loss:.3f}", flush=True)

    return tell
