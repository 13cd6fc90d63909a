"""Prompts in, what a Hugging Face model in this process writes out.

Image-text-to-text models (LLaVA, Qwen-VL, SmolVLM and their kin) are shown pictures, audio models
(Qwen2-Audio) sounds; any other causal model reads text alone. Prompts as large as each other run
together, padded on the left, so that up to rounding an answer does not depend on its batch.

The best token is taken each time, or with a temperature above 0 one is drawn (`draws`). Of a
checkpoint's own generation settings only the tokens that end an answer count: penalties and the
like would change texts without the source saying so.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedders import torchaudio_cpu
from embedders.base import BadContent
from embedders.checkpoint import DTYPES, load_encoder, precision, quiet
from embedders.items import Modality
from embedders.media import file_digest
from embedders.picture import read_picture
from embedders.summaries.base import Prompt, Unwritten, Usage, Writer
from embedders.summaries.chat import THOUGHT, Chat
from embedders.summaries.config import WriterConfig
from embedders.summaries.draws import Draws, seed_of
from embedders.summaries.processor import WritingModel, load_processor, modalities
from embedders.waveform import LIMITS_S, read_waveform

torchaudio_cpu.load()

import torch  # noqa: E402
from transformers import GenerationConfig, LogitsProcessorList  # noqa: E402

SIDE_PX = 1024  # of a picture, at most: more costs Qwen-VL thousands of tokens and shows little
SHORTEST_S = 0.1
WINDOW_S = 30.0  # of a sound, where the extractor states no limit of its own

# What processors and models raise on a prompt that they cannot take, such as a picture two
# hundred times as wide as high.
ODD = (ValueError, IndexError, ZeroDivisionError)
MEMORY = (torch.OutOfMemoryError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt with its files read."""

    text: str
    """In the checkpoint's own format."""
    pictures: tuple[Image.Image, ...]
    sounds: tuple[NDArray[np.float32], ...]
    seed: int
    max_tokens: int


class TransformersWriter(Writer):
    """Writes with a model of one's own."""

    def __init__(self, config: WriterConfig) -> None:
        """Load the model and what prepares its inputs, and have it write one token.

        Raises:
            ValueError: the model is not pinned, lacks weights or writes no text, or its chat
                template shows no form of a prompt whole.
            ImportError: the family's processor needs a package that is not installed.
        """
        if config.engine != "transformers" or config.model is None:
            raise ValueError(f"the engine is 'transformers' with a model, got {config.engine!r}")
        self._config = config
        self._loaded = load_encoder(
            config.model,
            WritingModel,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            dtype=config.dtype,
            device=config.device,
        )
        self._processor = load_processor(self._loaded)
        self._tokenizer = getattr(self._processor, "tokenizer", self._processor)
        self.reads = modalities(self._processor)
        self._chat = Chat(self._processor, reads=self.reads)
        model = self._loaded.model
        self._ends = _ends(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        model.generation_config = GenerationConfig()  # else it fills in what ours leaves open
        self._takes_types = "token_type_ids" in signature(model.forward).parameters
        self._window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._batch_size = config.batch_size
        self.name = self._loaded.checkpoint.name
        self.revision = self._stated()
        self.usage = Usage()
        self._try_once()

    def write(
        self, prompts: Sequence[Prompt], *, on_progress: Callable[[int], None] | None = None
    ) -> list[str | Unwritten]:
        """As `Writer.write`: files are read batch by batch, so few pictures wait in memory.

        A batch that does not fit in memory is halved, and so are all that follow.

        Raises:
            ValueError: a prompt shows what the model does not read.
        """
        self._check(prompts)
        answers: dict[int, str | Unwritten] = {}
        for rows in self._batches(prompts):
            asked: dict[int, Asked] = {}
            for row in rows:
                try:
                    asked[row] = self._asked(prompts[row])
                except BadContent as error:
                    answers[row] = Unwritten(str(error))
            answers.update(zip(asked, self._answers(list(asked.values())), strict=True))
            self.usage.num_prompts += len(rows)
            if on_progress is not None:
                on_progress(len(answers))
        return [answers[row] for row in range(len(prompts))]

    def _check(self, prompts: Sequence[Prompt]) -> None:
        for name, modality in (("images", Modality.IMAGE), ("sounds", Modality.AUDIO)):
            if modality not in self.reads and any(getattr(prompt, name) for prompt in prompts):
                raise ValueError(
                    f"{self.name} reads {', '.join(sorted(self.reads)) or 'nothing'} beside text, "
                    f"and a prompt holds {name}; leave them out, or take a model that reads them"
                )

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[list[int]]:
        """Rows of prompts alike in files and length of answer, the longest texts first."""
        groups: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
        for row, prompt in enumerate(prompts):
            groups[prompt.max_tokens, len(prompt.images), len(prompt.sounds)].append(row)
        for rows in groups.values():
            rows.sort(key=lambda row: -len(prompts[row].text))
            while rows:
                size = self._batch_size  # memory may have halved it since the last batch
                batch, rows = rows[:size], rows[size:]
                yield batch

    def _asked(self, prompt: Prompt) -> Asked:
        """Read a prompt's files.

        Raises:
            BadContent: one of them is missing or damaged.
        """
        seed = 0
        if self._config.temperature > 0:
            digests = [file_digest(path) for path in (*prompt.images, *prompt.sounds)]
            seed = seed_of(self._config.seed, prompt.instruction, prompt.text, digests)
        return Asked(
            text=self._chat.text(prompt),
            pictures=tuple(_picture(path) for path in prompt.images),
            sounds=tuple(self._sound(path) for path in prompt.sounds),
            seed=seed,
            max_tokens=prompt.max_tokens,
        )

    def _sound(self, path: Path) -> NDArray[np.float32]:
        extractor = self._processor.feature_extractor
        rate = int(extractor.sampling_rate)
        window = getattr(extractor, "n_samples", None)  # Whisper's, which most families take
        limit_s = WINDOW_S if window is None else min(window / rate, LIMITS_S[1])
        return read_waveform(path, rate=rate, shortest_s=SHORTEST_S, limit_s=limit_s)

    def _answers(self, batch: list[Asked]) -> list[str | Unwritten]:
        """An answer for each; what fails is tried in halves, down to the prompt at fault."""
        if not batch:
            return []
        try:
            return self._run(batch)
        except (*ODD, *MEMORY, RuntimeError) as error:
            is_memory = isinstance(error, MEMORY) or "DefaultCPUAllocator" in str(error)
            if not is_memory and not isinstance(error, ODD):
                raise
            said = f"{type(error).__name__}: {error}"
        # Behind the handler: the error's frames would keep the failed batch in memory.
        middle = len(batch) // 2
        if is_memory:
            torch.cuda.empty_cache()
            # One that fits nowhere says nothing of batches of others.
            self._batch_size = min(self._batch_size, middle) or self._config.batch_size
        if not middle:
            cause = "it does not fit in memory, even alone" if is_memory else "the model refused it"
            return [Unwritten(f"{cause} ({said}); shorten the text or mend the files")]
        answers: list[str | Unwritten] = []
        while batch:
            size = min(middle, self._batch_size)
            answers += self._answers(batch[:size])
            batch = batch[size:]
        return answers

    def _run(self, batch: list[Asked]) -> list[str | Unwritten]:
        """Answers of one batch; prompts that exceed the model's window have none."""
        inputs = self._inputs(batch)
        sizes = inputs["attention_mask"].sum(dim=1).tolist()
        room = (self._window or sys.maxsize) - batch[0].max_tokens
        if max(sizes) > room:
            fitting = [asked for asked, size in zip(batch, sizes, strict=True) if size <= room]
            rest = iter(self._answers(fitting))
            return [next(rest) if size <= room else self._too_long(size, room) for size in sizes]
        written = self._generated(batch, inputs)
        self.usage.input_tokens += sum(sizes)
        return [self._said(tokens, asked) for tokens, asked in zip(written, batch, strict=True)]

    def _too_long(self, size: int, room: int) -> Unwritten:
        return Unwritten(
            f"the prompt has {size} tokens, pictures and sounds included, and {room} of the "
            f"{self._window} that {self.name} holds are left beside the answer; shorten the text "
            "or lower `max_tokens`"
        )

    def _inputs(self, batch: list[Asked]) -> dict[str, Any]:
        """A batch as the model's inputs, on its device."""
        texts = [asked.text for asked in batch]
        files: dict[str, Any] = {}
        if any(asked.pictures for asked in batch):
            files["images"] = [list(asked.pictures) for asked in batch]
        if any(asked.sounds for asked in batch):
            files["audio"] = [sound for asked in batch for sound in asked.sounds]
            files["sampling_rate"] = int(self._processor.feature_extractor.sampling_rate)
        with quiet():
            features = self._processor(
                text=texts,
                add_special_tokens=self._chat.adds_tokens(texts[0]),
                padding=True,
                return_tensors="pt",
                **files,
            )
        floats = {"dtype": DTYPES[self._loaded.dtype]}
        return {
            name: value.to(self._loaded.device, **(floats if value.is_floating_point() else {}))
            for name, value in features.items()
            if name != "token_type_ids" or self._takes_types
        }

    @torch.inference_mode()
    def _generated(self, batch: list[Asked], inputs: dict[str, Any]) -> list[list[int]]:
        """The tokens of each answer, up to and with the one that ends it."""
        draws = LogitsProcessorList()
        if self._config.temperature > 0:
            seeds = [asked.seed for asked in batch]
            draws.append(Draws(seeds, temperature=self._config.temperature))
        tokens_NT = self._loaded.model.generate(
            **inputs,
            logits_processor=draws,
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=batch[0].max_tokens,
                eos_token_id=sorted(self._ends) or None,
                pad_token_id=self._tokenizer.pad_token_id,
            ),
        )
        answers = tokens_NT[:, inputs["input_ids"].shape[1] :].tolist()
        return [_up_to(tokens, self._ends) for tokens in answers]

    def _said(self, tokens: list[int], asked: Asked) -> str | Unwritten:
        self.usage.output_tokens += len(tokens)
        words = [token for token in tokens if token not in self._ends]
        text = self._tokenizer.decode(words, skip_special_tokens=True)
        _, thought, answer = text.rpartition(THOUGHT[1])
        begins = asked.text.rstrip().endswith(THOUGHT[0]) or text.lstrip().startswith(THOUGHT[0])
        if begins and not thought:
            return Unwritten(
                f"all {asked.max_tokens} tokens were spent on thinking aloud; raise `max_tokens`, "
                "or take a model that answers at once"
            )
        return answer.strip() or Unwritten("the model answered nothing; reword the prompt")

    def _stated(self) -> str:
        """All that changes an answer."""
        facts = [self._loaded.checkpoint.revision + precision(self._loaded.dtype)]
        if Modality.IMAGE in self.reads:
            facts.append(f"pictures of at most {SIDE_PX} px")
        if self._config.temperature > 0:
            facts.append(f"temperature {self._config.temperature:g}, seed {self._config.seed}")
        return "; ".join(facts)

    def _try_once(self) -> None:
        """Ask with a file of each kind, so that what can never work fails here, not per prompt."""
        pictures = (Image.new("RGB", (64, 64), "gray"),) * (Modality.IMAGE in self.reads)
        sounds = (np.sin(np.arange(16_000, dtype=np.float32)),) * (Modality.AUDIO in self.reads)
        prompt = Prompt(
            instruction="Answer.",
            text="What is this?",
            images=(Path(),) * len(pictures),
            sounds=(Path(),) * len(sounds),
        )
        text = self._chat.text(prompt)
        asked = Asked(text=text, pictures=pictures, sounds=sounds, seed=0, max_tokens=1)
        self._generated([asked], self._inputs([asked]))


def _picture(path: Path) -> Image.Image:
    picture = read_picture(path, wanted_px=SIDE_PX)
    picture.thumbnail((SIDE_PX, SIDE_PX))
    return picture


def _ends(*ids: int | list[int] | None) -> frozenset[int]:
    """The tokens that end an answer, by the checkpoint's settings and by its tokenizer."""
    lists = [found if isinstance(found, list) else [found] for found in ids]
    return frozenset(token for found in lists for token in found if token is not None)


def _up_to(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """An answer's tokens up to and with the first that ends it; behind it stands padding."""
    length = next((place for place, token in enumerate(tokens, 1) if token in ends), len(tokens))
    return tokens[:length]
