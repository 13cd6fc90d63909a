"""A decoder in, a decoder out whose last layer computes only what is wanted of it.

Of a prefix that is its keys and values; of packed branches, beyond those, what becomes of their
last tokens. Done by a hook before the layer, which runs it up to its keys and values, and then lets
it go on with the tokens that matter, so that no architecture is rewritten. It acts only where a
pass is told a `Reading` or a `Packing`, and keeps nothing: several threads may share the model.
"""

import threading
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from embedders import torchaudio_cpu

torchaudio_cpu.load()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from ranker.attention import Answers, Packing, Reading, Stop  # noqa: E402

Given = tuple[Any, ...]
Options = dict[str, Any]

_lock = threading.Lock()
_hooked: WeakSet[torch.nn.Module] = WeakSet()


def spare(decoder: torch.nn.Module) -> None:
    """Put the hook before the decoder's last layer, once; a decoder whose layers have another
    name, or are given more than hidden states and rotations, computes all."""
    layers = getattr(decoder, "layers", None)
    if not layers:
        return
    with _lock:
        if layers[-1] not in _hooked:
            layers[-1].register_forward_pre_hook(_select, with_kwargs=True)
            _hooked.add(layers[-1])


def _select(layer: torch.nn.Module, given: Given, options: Options) -> tuple[Given, Options] | None:
    packing = options.get("packing")
    if not isinstance(packing, Reading | Packing) or not _can_select(given, options):
        return None
    kept = packing.kept if isinstance(packing, Reading) else {}
    try:
        layer.forward(*given, **{**options, "packing": Reading(kept=kept, stops=True)})
    except Stop:
        pass  # keys and values are all that was wanted
    else:
        raise AssertionError("the last layer ended without attending")
    if isinstance(packing, Reading):  # one token goes on, since something must
        first = torch.zeros(1, dtype=torch.long, device=given[0].device)
        return _selected(given, options, first, packing=None)
    ((key, value),) = kept.values()
    answers = Answers(packing=packing, key=key, value=value)
    return _selected(given, options, packing.places_BS[:, -1], packing=answers)


def _can_select(given: Given, options: Mapping[str, Any]) -> bool:
    """Whether tokens can be taken out of what the layer is given: nothing else is told of them."""
    known = {"position_embeddings", "position_ids"}
    others = (value for name, value in options.items() if name not in known)
    rotations = options.get("position_embeddings")
    return (
        len(given) == 1
        and not any(isinstance(value, Tensor) for value in others)
        and isinstance(rotations, tuple)
        and all(isinstance(one, Tensor) and one.ndim == 3 for one in rotations)
    )


def _selected(
    given: Given, options: Mapping[str, Any], places: Tensor, *, packing: Answers | None
) -> tuple[Given, Options]:
    """The layer's inputs for these tokens alone."""
    changed = {
        **options,
        "packing": packing,
        "position_embeddings": tuple(one[:, places] for one in options["position_embeddings"]),
    }
    if options.get("position_ids") is not None:
        changed["position_ids"] = options["position_ids"][:, places]
    return (given[0][:, places],), changed
