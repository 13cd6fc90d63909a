"""A writer for tests: it answers by rule, notes what it was asked, and dies where it is told to."""

from collections.abc import Callable, Sequence

from embedders.items import Modality
from embedders.summaries.base import Prompt, Unanswered, Unwritten, Usage, Writer


class ScriptedWriter(Writer):
    """Answers each prompt by a function of it; equal prompts get equal answers."""

    def __init__(
        self,
        answer: Callable[[Prompt], str | Unwritten],
        *,
        reads: Sequence[Modality] = (),
        revision: str = "1",
        dies_after: int | None = None,
    ) -> None:
        self.name, self.revision = "Scripted/One", revision
        self.reads = frozenset(reads)
        self.usage = Usage()
        self.asked: list[Prompt] = []
        self._answer = answer
        self._dies_after = dies_after

    def write(
        self, prompts: Sequence[Prompt], *, on_progress: Callable[[int], None] | None = None
    ) -> list[str | Unwritten]:
        """The answers, one by one."""
        answers: list[str | Unwritten] = []
        for done, prompt in enumerate(prompts, start=1):
            if len(self.asked) == self._dies_after:
                raise Unanswered("nobody there", answers=answers)
            self.asked.append(prompt)
            answers.append(self._answer(prompt))
            if on_progress:
                on_progress(done)
        self.usage.num_prompts += len(prompts)
        return answers
