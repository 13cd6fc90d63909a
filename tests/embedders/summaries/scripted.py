"""A writer for tests: it answers by rule, and notes what it was asked."""

from collections.abc import Callable, Sequence

from embedders.items import Modality
from embedders.summaries.base import Prompt, Unwritten, Usage, Writer


class ScriptedWriter(Writer):
    """Answers each prompt by a function of it; equal prompts get equal answers."""

    def __init__(
        self,
        answer: Callable[[Prompt], str | Unwritten],
        *,
        reads: Sequence[Modality] = (),
        revision: str = "1",
    ) -> None:
        self.name, self.revision = "Scripted/One", revision
        self.reads = frozenset(reads)
        self.usage = Usage()
        self.asked: list[Prompt] = []
        self._answer = answer

    def write(
        self, prompts: Sequence[Prompt], *, on_progress: Callable[[int], None] | None = None
    ) -> list[str | Unwritten]:
        """The answers, one by one."""
        answers = []
        for done, prompt in enumerate(prompts, start=1):
            self.asked.append(prompt)
            answers.append(self._answer(prompt))
            if on_progress:
                on_progress(done)
        self.usage.num_prompts += len(prompts)
        return answers
