"""One item's vectors of several modalities in, k soft tokens of the LLM's width out.

The triple-modality fusion of TMF (arXiv 2410.12228), for any configured set of modalities:

    x_m = A_m v_m + FFN_m(A_m v_m)            adapter; a learned vector where v_m is absent
    c_t = Attn(q=x_text, kv=x_others),  c_m = Attn(q=x_m, kv=x_text)        CMA, both directions
    z   = AMSA([x_1 + c_1; ...; x_M + c_M] + type embeddings)               self-attention block
    tokens = LayerNorm(W [z_1; ...; z_M]) * scale

What is known of the paper names CMA, AMSA and feed-forward adapters; which modality asks which,
widths, residuals, attention within an item alone and the projection to k tokens are this project's
own resolution. Where there is no text, CMA is skipped. Of a modality that comes as frames, such as
spectra over time, the branch of ATFLRec is the adapter (`ranker.frames`).

The projection starts so that each token holds mostly one modality, in directions that keep its
cosines: what a small amount of training cannot find, it need not find.

Shape legend: N items, M modalities, D a modality's dimensions, W width, K tokens, H the LLM's
width.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from embedders.items import Modality
from ranker.config import FusionConfig
from ranker.frames import FrameAdapter

ADAPTER_GAIN = 4.0  # brings components of a unit vector to the order of one


class Fusion(nn.Module):
    """Fuses vectors into tokens. An item's tokens depend on that item alone."""

    def __init__(
        self, dims: Mapping[Modality, int], *, hidden_size: int, config: FusionConfig
    ) -> None:
        """A fresh fusion for these modalities, taken by name.

        Raises:
            ValueError: frames of a modality that is not among them, or whose dimension they do not
                divide.
        """
        super().__init__()
        self.modalities = tuple(sorted(dims))
        self.config = config
        self.hidden_size = hidden_size
        width, count = config.width, len(self.modalities)
        self.adapters = nn.ModuleList(_adapters({m: dims[m] for m in self.modalities}, config))
        self.feed_forwards = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in self.modalities
        )
        self.absent_MW = nn.Parameter(torch.randn(count, width) * 0.02)
        self.types_MW = nn.Parameter(torch.randn(count, width) * 0.02)
        attend = {"num_heads": config.heads, "batch_first": True}
        self.text_asks = nn.MultiheadAttention(width, **attend)
        self.text_answers = nn.MultiheadAttention(width, **attend)
        self.self_attention = nn.TransformerEncoderLayer(
            width,
            config.heads,
            2 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.project = nn.Linear(count * width, config.num_tokens * hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self._start_near_identity()

    def forward(self, vectors: Sequence[Tensor], is_present_NM: Tensor) -> Tensor:
        """Fuse.

        Args:
            vectors: For each modality, by name, [N, D]; the rows of absent items are not looked at.
            is_present_NM: Which are there.

        Returns:
            [N, K, H], of about the size of the LLM's own word embeddings once scaled by the caller.
        """
        states = []
        for place, vectors_ND in enumerate(vectors):
            is_there_N1 = is_present_NM[:, place : place + 1]
            # Also here: a gradient of zero times a vector that is not a number is no number.
            adapted_NW = self.adapters[place](torch.where(is_there_N1, vectors_ND, 0.0))
            adapted_NW = adapted_NW + self.feed_forwards[place](adapted_NW)
            states.append(torch.where(is_there_N1, adapted_NW, self.absent_MW[place]))
        states_NMW = torch.stack(states, dim=1) + self.types_MW
        if self._crosses:
            states_NMW = self._cross(states_NMW)
        if self.config.has_self_attention:
            states_NMW = self.self_attention(states_NMW)
        tokens_NKH = self.project(states_NMW.flatten(1)).view(
            len(states_NMW), self.config.num_tokens, self.hidden_size
        )
        normed_NKH: Tensor = self.norm(tokens_NKH)
        return normed_NKH

    @property
    def unused(self) -> tuple[nn.Module, ...]:
        """The parts that the configuration leaves out: no gradient ever reaches them."""
        attentions = () if self.config.has_self_attention else (self.self_attention,)
        return attentions if self._crosses else (*attentions, self.text_asks, self.text_answers)

    @property
    def _crosses(self) -> bool:
        has_partners = Modality.TEXT in self.modalities and len(self.modalities) > 1
        return self.config.has_cross_attention and has_partners

    def _cross(self, states_NMW: Tensor) -> Tensor:
        """CMA: text asks the other modalities, and each of them asks text; residual."""
        text = self.modalities.index(Modality.TEXT)
        others = [place for place in range(len(self.modalities)) if place != text]
        text_N1W, others_NOW = states_NMW[:, text : text + 1], states_NMW[:, others]
        asked_N1W, _ = self.text_asks(text_N1W, others_NOW, others_NOW, need_weights=False)
        answered_NOW, _ = self.text_answers(others_NOW, text_N1W, text_N1W, need_weights=False)
        crossed = list((others_NOW + answered_NOW).unbind(1))
        crossed.insert(text, (text_N1W + asked_N1W).squeeze(1))
        return torch.stack(crossed, dim=1)

    @torch.no_grad()
    def _start_near_identity(self) -> None:
        width, hidden = self.config.width, self.hidden_size
        for adapter in self.adapters:
            if isinstance(adapter, nn.Linear):  # that of frames sees to its own start
                nn.init.orthogonal_(adapter.weight, gain=ADAPTER_GAIN)
        small = [feed_forward.get_submodule("2") for feed_forward in self.feed_forwards]
        small += [self.text_asks.out_proj, self.text_answers.out_proj]
        small += [self.self_attention.linear2, self.self_attention.self_attn.out_proj]
        for layer in small:
            layer.get_parameter("weight").mul_(0.1)
        self.project.weight.mul_(0.3)
        count, num_tokens = len(self.modalities), self.config.num_tokens
        for token in range(num_tokens):
            held = [place for place in range(count) if place % num_tokens == token % count]
            edges = [token * hidden + part * hidden // len(held) for part in range(len(held) + 1)]
            for place, start, end in zip(held, edges[:-1], edges[1:], strict=True):
                block = nn.init.orthogonal_(torch.empty(end - start, width))
                columns = slice(place * width, (place + 1) * width)
                self.project.weight[start:end, columns] += block


def _adapters(dims: Mapping[Modality, int], config: FusionConfig) -> Iterator[nn.Module]:
    """For each modality, what brings its vectors to the width."""
    if unknown := sorted(set(config.frames) - set(dims)):
        raise ValueError(
            f"fusion.frames names {', '.join(unknown)}, but there are {', '.join(dims)}: leave it "
            f"out, or embed it"
        )
    for modality, dim in dims.items():
        if modality not in config.frames:
            yield nn.Linear(dim, config.width)
            continue
        try:
            yield FrameAdapter(dim, config.frames[modality], config.width, config.frame_pooling)
        except ValueError as error:
            raise ValueError(f"fusion.frames.{modality}: {error}") from error
