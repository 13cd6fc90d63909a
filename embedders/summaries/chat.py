"""A prompt in, the text that a checkpoint's own chat template makes of it out.

Templates differ in what they take: some know no system's turn (and raise, or leave it out without
a word), some want a turn's content as one string, others as blocks. So each form is tried once on
probe words, and the first that shows all of them in order, and a placeholder for each file, is
kept. A checkpoint without a template, which was never taught turns, is asked in a plain frame:

    <the instruction>

    <placeholders of files>
    <the text>

    Answer:

Control tokens that the text spells, of turns or of pictures, are broken by a space, so that a
tokenizer reads them as words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from embedders.items import Modality
from embedders.summaries.base import Prompt

PROBES = ("Zebra crossing", "Quagga pasture")
THOUGHT = ("<think>", "</think>")  # as every family that thinks aloud marks it


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a template wants a prompt."""

    has_system: bool
    """The instruction is the system's turn; else it stands before the user's text."""
    has_blocks: bool
    """A turn's content is a list of typed blocks; else one string with the placeholders in it."""


class Chat:
    """Prompts as one checkpoint's text."""

    def __init__(self, processor: Any, *, reads: frozenset[Modality]) -> None:
        """Find the form of a processor's, or tokenizer's, template.

        Raises:
            ValueError: no form of a prompt passes through the template whole.
        """
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._is_processor = processor is not self._tokenizer
        names = {Modality.IMAGE: "image", Modality.AUDIO: "audio"}
        self._placeholders: dict[str, str] = {
            names[modality]: str(token)
            for modality in sorted(reads)
            if (token := getattr(processor, f"{names[modality]}_token", None)) is not None
        }
        self._template = _template(processor, self._tokenizer)
        self._breakable = _control_tokens(self._tokenizer, self._placeholders)
        self._form = self._found_form()

    @property
    def has_template(self) -> bool:
        return self._template is not None

    def text(self, prompt: Prompt) -> str:
        """What the tokenizer is to read, up to where the answer begins.

        A placeholder stands for each file, which the processor replaces.
        """
        files = {"image": len(prompt.images), "audio": len(prompt.sounds)}
        return self._render(self._form, prompt.instruction, self.plain(prompt.text), files)

    def adds_tokens(self, text: str) -> bool:
        """Whether the tokenizer is to frame a text with tokens of its own, such as a first one."""
        if not self.has_template:
            return True
        first = self._tokenizer.bos_token
        return self._is_processor and not (first is not None and text.startswith(first))

    def plain(self, text: str) -> str:
        """A text in which no control token can be read."""
        while (broken := self._breakable.sub(_broken, text)) != text:
            text = broken
        return text

    def _found_form(self) -> Form:
        # A processor's template is written for blocks, a tokenizer's for strings.
        order = (self._is_processor, not self._is_processor)
        for has_system in (True, False):
            for has_blocks in order:
                form = Form(has_system=has_system, has_blocks=has_blocks)
                if self._fits(form):
                    return form
        raise ValueError(
            "the checkpoint's chat template shows neither form of a prompt whole (a system's turn "
            "and a user's, or a user's alone); mend its chat_template.jinja"
        )

    def _fits(self, form: Form) -> bool:
        files = dict.fromkeys(self._placeholders, 1)
        try:
            text = self._render(form, *PROBES, files)
        except (TemplateError, TypeError):  # it raises itself, or adds a string to a list
            return False
        places = [text.find(probe) for probe in PROBES]
        return (
            -1 < places[0] < places[1]
            and not any(mark in text for mark in ("{'type'", '{"type"'))  # a list, written out
            and all(text.count(token) == 1 for token in self._placeholders.values())
        )

    def _render(self, form: Form, instruction: str, text: str, files: Mapping[str, int]) -> str:
        shown = [kind for kind, num_files in files.items() for _ in range(num_files)]
        tokens = "".join(self._placeholders.get(kind, "") for kind in shown)
        if self._template is None:
            return f"{instruction}\n\n{tokens and tokens + chr(10)}{text}\n\nAnswer:"
        if not form.has_system:
            text = f"{instruction}\n\n{text}"
        if form.has_blocks:
            user: Any = [*({"type": kind} for kind in shown), {"type": "text", "text": text}]
            system: Any = [{"type": "text", "text": instruction}]
        else:
            user, system = f"{tokens and tokens + chr(10)}{text}", instruction
        turns = [{"role": "system", "content": system}] if form.has_system else []
        # The tokenizer's own: a few families' processors want videos here.
        rendered: str = self._tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": user}],
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=True,
            # A short answer has no room for thoughts; templates without the switch ignore it.
            enable_thinking=False,
        )
        return rendered


def _template(processor: Any, tokenizer: Any) -> str | None:
    """The processor's template, else the tokenizer's; of several the one named `default`."""
    for owner in (processor, tokenizer):
        template = getattr(owner, "chat_template", None)
        if isinstance(template, Mapping):
            if "default" not in template:
                raise ValueError(
                    f"the checkpoint has chat templates {sorted(template)} and none is 'default'; "
                    "name one so"
                )
            template = template["default"]
        if template is not None:
            return str(template)
    return None


def _control_tokens(tokenizer: Any, placeholders: Mapping[str, str]) -> re.Pattern[str]:
    """Whatever a tokenizer, or the processor before it, would read as more than words."""
    tokens = {*tokenizer.get_added_vocab(), *placeholders.values(), *THOUGHT}
    # Some tokenizers add runs of spaces or single letters, which steer nothing.
    words = sorted({token.strip() for token in tokens if len(token.strip()) > 1}, key=len)
    words.reverse()
    return re.compile("|".join(map(re.escape, words)))


def _broken(found: re.Match[str]) -> str:
    return f"{found[0][0]} {found[0][1:]}"
