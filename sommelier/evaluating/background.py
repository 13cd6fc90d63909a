"""Who is judged and what answers them in, what was known when they were asked out."""

from collections.abc import Mapping
from dataclasses import asdict

from evaluation.findings import Background
from evaluation.history import history
from evaluation.slices import ItemFacts, UserFacts
from evaluation.split import Split
from ranker.loaded import LoadedGeneration
from retrieval.concatenated import ItemVectors
from retrieval.manifest import Manifest
from sommelier.holdings import holdings
from sommelier.workspace import Workspace

INDEX_FACTS = ("kind", "reasons", "effort", "curve", "target_recall", "recall_against_exact")


def background(
    workspace: Workspace,
    serving: LoadedGeneration,
    whole: Split,
    seen: Mapping[str, frozenset[str]],
) -> Background:
    """What every measure, slice and ledger is told; `seen` as `evaluation.history.seen_before`."""
    before = history(workspace.timed_interactions, cut=whole.cut, user_ids=())
    held = holdings(workspace, serving.items)
    # The baseline proposes what there is, as retrieval does.
    popularity = tuple(one for one in before.popularity if one in held.item_ids)
    created = {one.item_id: one.created_at for one in workspace.catalog.items()}
    manifest = asdict(Manifest.read(serving.generation.index))
    newcomers = frozenset(one.user_id for one in whole.judgements if one.as_of > whole.cut)
    return Background(
        popularity=popularity,
        seen=seen,
        num_fans=before.num_fans,
        num_users_before=before.num_users,
        holdings=held,
        items=ItemFacts.of(
            popularity=popularity,
            created_at=created if any(created.values()) else None,
            cut=whole.cut,
            item_ids_by_block=_item_ids_by_block(serving.items),
        ),
        users=UserFacts(
            history_lengths={user_id: len(met) for user_id, met in seen.items()},
            newcomers=newcomers or None,
        ),
        index={name: manifest[name] for name in INDEX_FACTS if name in manifest},
    )


def _item_ids_by_block(items: ItemVectors) -> dict[str, list[str]]:
    """Block -> the items that have a vector in it."""
    return {
        name: [
            item_id
            for item_id, there in zip(items.item_ids, items.is_present(name).tolist(), strict=True)
            if there
        ]
        for name in items.names
    }
