"""Songs and listeners' opinions in, ATFLRec's claims on them out: AUC after training on few rows.

ATFLRec (arXiv 2409.08543) reports that LoRA modules trained apart for audio and text and then
combined are best, that the maximum over time and 80 Mel bands are, and AUC of 0.60 to 0.67 where
other recommenders stay at 0.50. Its data (MicroLens with sampled negatives), its few-shot sizes and
its LLM are not at hand. Here each claim is put to real likes and dislikes of real sounds, with the
product's ranker around the embedded LLM of two layers, beside logistic regression and boosted trees
on the very same facts.

A draw is a split of the songs by artist, K training rows and fresh weights; all systems share it.
Intervals are Student's t over draws, paired. The songs of two draws overlap, so the draws are not
quite independent, and the intervals somewhat too narrow. Finished trainings are kept and found
again; a run that was cut off goes on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from _emotify import Emotify, Parts, audio, labels, read, shots, split, text, vectors
from _emotify_baselines import TREES, Baseline, C, columns
from _emotify_baselines import scores as baseline_scores
from _emotify_ranker import BOTH, Setting, Variant, make_llm
from _emotify_ranker import scores as ranker_scores
from _figures import Figure, data_folder, parser, publish
from numpy.typing import NDArray
from scipy.stats import t as student

from embedders.items import Modality
from evaluation.scored import auc
from retrieval.concatenated import ItemVectors

CACHE = Path(__file__).parents[1] / "build" / "atflrec_emotify"
FORMAT = 1  # raised when the same settings would give other scores
KS = (16, 64, 256)
TEXT, AUDIO = (Modality.TEXT,), (Modality.AUDIO,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A baseline, and what it reads."""

    kind: Baseline
    reads: tuple[Modality, ...] = BOTH
    with_felt: bool = False


System = Variant | Fitted
SYSTEMS: Mapping[str, System] = {
    "separate": Variant(),
    "shared": Variant(lora="shared"),
    "text_lora": Variant(lora="text"),
    "modal_lora": Variant(lora="modal"),
    "joint": Variant(lora="joint"),
    "mean": Variant(pooling="mean"),
    "attention": Variant(pooling="attention"),
    "mels_40": Variant(num_mels=40),
    "mels_128": Variant(num_mels=128),
    "only_text": Variant(reads=TEXT),
    "only_audio": Variant(reads=AUDIO),
    "felt": Variant(with_felt=True),
    **{
        f"{kind}{name}": Fitted(kind=kind, reads=reads, with_felt=name == "_felt")
        for kind in ("logistic", "boosted")
        for name, reads in (("", BOTH), ("_text", TEXT), ("_audio", AUDIO), ("_felt", BOTH))
    },
}
CLAIMS = (
    *(("separate", other) for other in ("shared", "text_lora", "modal_lora", "joint")),
    *(("separate", other) for other in ("mean", "attention", "mels_40", "mels_128")),
    *(("separate", other) for other in ("only_text", "only_audio", "logistic", "boosted")),
    ("only_text", "logistic_text"),
    ("only_audio", "logistic_audio"),
    ("felt", "logistic_felt"),
    ("felt", "separate"),
    ("logistic", "logistic_text"),
    ("logistic", "logistic_audio"),
)
"""Whose difference is reported: the first less the second."""
GRID = tuple(
    Setting(steps=steps, learning_rate=rate) for rate in (1e-3, 3e-3, 1e-2) for steps in (15, 40)
)
"""What `--tune` tries for the ranker."""
RANKER = Setting(steps=15, learning_rate=1e-2)
CHOSEN: Mapping[tuple[str, bool], float] = {
    ("logistic", False): 0.1,
    ("logistic", True): 1.0,
    ("boosted", False): 20,
    ("boosted", True): 50,
}
"""What was best on the songs that nothing is reported of, for all K: the ranker's at K = 64 by
three draws, for it takes long; the others' by kind, and by whether they know what was felt."""
QUICK = Setting(steps=2, learning_rate=1e-3)


class Bench:
    """Trains systems on draws, and keeps what they reached."""

    def __init__(self, folder: Path, cache_folder: Path) -> None:
        """Read the set, and make what all draws share."""
        self.known: Emotify = read(folder)
        self._cache = cache_folder
        dev = split(self.known, draw=0, is_dev=True)
        # Neither song nor artist of these is judged in any draw that is reported.
        self.llm = make_llm(
            self.known, np.concatenate([dev.learned, dev.judged]), cache_folder / "llm"
        )
        self._text = text(self.known, cache_folder)
        self._audio = cache(lambda num_mels: audio(self.known, cache_folder, num_mels=num_mels))

    def auc(
        self, system: System, setting: Setting | float, *, k: int, draw: int, is_dev: bool
    ) -> float:
        """Of the judged rows of a draw, once trained on K of the others."""
        facts = repr((FORMAT, system, setting, k, draw, is_dev, self.llm.name))
        path = self._cache / "runs" / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.json"
        if path.is_file():
            return float(json.loads(path.read_text())["auc"])
        parts = split(self.known, draw=draw, is_dev=is_dev)
        learned = shots(self.known, parts, k, draw=draw)
        found = self._scores(system, setting, parts=parts, learned=learned, seed=draw)
        value = auc(found, labels(self.known, parts.judged))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps({"auc": value, "made_of": facts}))
        temporary.rename(path)
        return value

    def _scores(
        self,
        system: System,
        setting: Setting | float,
        *,
        parts: Parts,
        learned: NDArray[np.int64],
        seed: int,
    ) -> NDArray[np.float64]:
        items = self._items(getattr(system, "num_mels", 80), parts)
        if isinstance(system, Variant):
            assert isinstance(setting, Setting)
            return ranker_scores(
                system,
                self.known,
                items,
                llm=self.llm,
                learned=learned,
                judged=parts.judged,
                setting=setting,
                seed=seed,
            )
        assert not isinstance(setting, Setting)
        return baseline_scores(
            system.kind,
            columns(self.known, items, reads=system.reads, with_felt=system.with_felt),
            self.known,
            learned=learned,
            judged=parts.judged,
            setting=setting,
        )

    def _items(self, num_mels: int, parts: Parts) -> ItemVectors:
        met = {self.known.opinions[place].song for place in parts.learned}
        return vectors([self._text, self._audio(num_mels)], fitted_on=met)


def tune(bench: Bench, ks: Sequence[int], *, draws: int) -> None:
    """Print how each setting does on the songs that nothing is reported of."""
    for k in ks:
        tried: Sequence[tuple[str, Sequence[Setting | float]]] = (
            ("logistic", C),
            ("boosted", TREES),
            ("separate", GRID),
        )
        for name, settings in tried:
            for setting in settings:
                values = [
                    bench.auc(SYSTEMS[name], setting, k=k, draw=draw, is_dev=True)
                    for draw in range(draws)
                ]
                print(f"K = {k}, {name}, {setting}: {np.mean(values):.4f}", flush=True)


def measure(
    bench: Bench, names: Sequence[str], *, draws: int, is_quick: bool
) -> dict[str, NDArray[np.float64]]:
    """AUC of each system, [draws, K], draw by draw."""
    found = {name: np.zeros((draws, len(KS))) for name in names}
    for draw in range(draws):
        for name in names:
            system = SYSTEMS[name]
            setting: Setting | float = QUICK if is_quick else RANKER
            if isinstance(system, Fitted):
                setting = CHOSEN[system.kind, system.with_felt]
            for place, k in enumerate(KS):
                value = bench.auc(system, setting, k=k, draw=draw, is_dev=False)
                found[name][draw, place] = value
        said = ", ".join(f"{name} {found[name][draw].mean():.3f}" for name in names)
        print(f"draw {draw}: {said}", flush=True)
    return found


def interval(values_D: NDArray[np.float64]) -> Figure:
    """The mean over draws with its 95% interval by Student's t."""
    mean = float(values_D.mean())
    half = float(student.ppf(0.975, len(values_D) - 1) * values_D.std(ddof=1))
    half /= float(np.sqrt(len(values_D)))
    return {"median": mean, "low": mean - half, "high": mean + half}


def figures_of(
    found: Mapping[str, NDArray[np.float64]],
) -> tuple[dict[str, Figure], dict[str, str]]:
    """Every system's AUC and every claim's difference, at each K and over all of them."""
    figures: dict[str, Figure] = {}
    meanings: dict[str, str] = {}
    for name, values_DK in found.items():
        for view, values_D in views(values_DK).items():
            figures[f"{name}_{view}"] = interval(values_D)
            meanings[f"{name}_{view}"] = f"AUC, mean of {len(values_D)} draws, 95% t interval"
    for more, less in CLAIMS:
        if more in found and less in found:
            for view, values_D in views(found[more] - found[less]).items():
                figures[f"{more}_less_{less}_{view}"] = interval(values_D)
                meanings[f"{more}_less_{less}_{view}"] = "difference, paired by draw"
    return figures, meanings


def views(values_DK: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Each K apart, and each draw's mean over all of them."""
    apart = {f"at_{k}": values_DK[:, place] for place, k in enumerate(KS)}
    return {**apart, "over_all": values_DK.mean(axis=1)}


def main() -> None:
    options = parser(__doc__ or "")
    options.set_defaults(rounds=10)
    options.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    options.add_argument(
        "--tune", nargs="+", type=int, choices=KS, help="try settings at these K, report nothing"
    )
    options.add_argument("--quick", action="store_true", help="few steps, to try it out")
    options.add_argument("--cache", type=Path, default=CACHE, help="where trainings are kept")
    given = options.parse_args()
    if given.rounds < 2:
        options.error("an interval needs at least 2 rounds, each of which is a draw")
    folder = data_folder("emotify")
    torch.set_num_threads(1)
    bench = Bench(folder, given.cache)
    if given.tune:
        tune(bench, given.tune, draws=given.rounds)
        return
    found = measure(bench, given.systems, draws=given.rounds, is_quick=given.quick)
    figures, meanings = figures_of(found)
    publish(
        "Few-shot AUC on Emotify",
        figures,
        meanings,
        file=given.json,
        packages=("torch", "transformers", "peft", "scikit-learn", "numpy"),
    )


if __name__ == "__main__":
    main()
