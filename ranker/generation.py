"""A finished index and adapter in, one immutable generation out, at which CURRENT points.

    <root>/<generation id>/generation.json    the manifest: spaces, model, times, hashes of files
                           index/  adapter/  copies, so that nobody can change them beneath a server
                           llm/              an LLM of the workspace's own: hard links where it can
                           probes.json       questions with their answers (`ranker.probes`)
    <root>/CURRENT                            the id of the generation that is served

Publishing writes beside everything else and then swaps CURRENT by one rename: a reader sees the
old generation or the new one, whole. Rolling back is pointing again. Of several publishers at once
each makes a generation, and the one that ends last is served.

No path within a generation is absolute: it is the same in another folder or on another machine.
Only an LLM that is not the workspace's own is named, by its hub id or folder.

Manifests of format 1, which name no calibrator, of format 2, which hold neither LLM nor probes, and
of format 3, which read no texts, are read as well: their scores are as they were.
"""

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from embedders.texts import TextSource
from embedders.vectors import Space
from feature_repo.atomic import replace_text
from ranker.calibration import CALIBRATOR, Calibrator, CalibratorError
from ranker.generation_files import digests, link, sha256, sync
from ranker.probes import PROBES, Probes

FORMAT = 4
READABLE = (1, 2, 3, FORMAT)
TAKEN = (errno.EEXIST, errno.ENOTEMPTY)  # what renaming to a folder that is there may say
MANIFEST, CURRENT = "generation.json", "CURRENT"
UNFINISHED = ".publishing-"
FORGOTTEN_S = 24 * 3600.0  # nobody publishes for so long: what is older was left by a killed one


class GenerationError(ValueError):
    """No usable generation; the message says what to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What answers requests, pinned."""

    generation_id: str
    created_at: datetime
    as_of: datetime
    """Nothing that happened later was looked at."""
    spaces: tuple[Space, ...]
    """The items' vectors, by block."""
    fused_space: Space
    llm: str
    """A folder, or a hub id that the adapter pins to a revision; empty where the generation itself
    holds the LLM."""
    files: Mapping[str, str]
    """Path below the generation's folder -> sha256."""
    calibrator: str = ""
    """The id of the adapter's calibrator; empty where scores are as the model leaves them."""
    texts: tuple[TextSource, ...] = ()
    """Who wrote what prompts hold of items and users."""
    folder: Path = Path()

    @property
    def stored(self) -> tuple[Space | TextSource, ...]:
        """All that is read from the feature store."""
        return (*self.stored_spaces, *self.texts)

    @property
    def stored_spaces(self) -> tuple[Space, ...]:
        """Whose vectors are in the feature store; a network's over histories are in the index."""
        named = tuple(space for space in self.spaces if space.modality is not None)
        return (*named, self.fused_space)

    @property
    def index(self) -> Path:
        """The retrieval index's folder."""
        return self.folder / "index"

    @property
    def adapter(self) -> Path:
        """The ranker's adapter."""
        return self.folder / "adapter"

    @property
    def llm_source(self) -> str:
        """What the LLM is loaded from."""
        return self.llm or str(self.folder / "llm")

    @property
    def probes(self) -> Path | None:
        """The questions that were answered when it was published; None where none were asked."""
        return self.folder / PROBES if PROBES in self.files else None

    def check(self) -> None:
        """Compare every file, and the calibrator, with the manifest.

        Raises:
            GenerationError: a file is missing or changed; the first is named.
        """
        for name, digest in self.files.items():
            path = self.folder / name
            if not path.is_file():
                raise GenerationError(
                    f"generation {self.generation_id}: {path} is missing: run `sommelier index` "
                    f"and `sommelier publish`, or point to another generation"
                )
            if sha256(path) != digest:
                raise GenerationError(
                    f"generation {self.generation_id}: {path} is not what was published: run "
                    f"`sommelier publish`, or point to another generation"
                )
        if (found := _calibrator(self.adapter)) != self.calibrator:
            raise GenerationError(
                f"generation {self.generation_id} names the calibrator {self.calibrator!r}, but "
                f"its adapter holds {found!r}: run `sommelier publish`, or point to another "
                f"generation"
            )


class Generations:
    """All generations below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(
        self,
        *,
        index: Path,
        adapter: Path,
        llm: str,
        spaces: tuple[Space, ...],
        fused_space: Space,
        as_of: datetime,
        texts: tuple[TextSource, ...] = (),
        holds_llm: bool = False,
        prove: Callable[[Generation], Probes] | None = None,
    ) -> Generation:
        """Pin these parts as the next generation and serve it.

        Args:
            index: The index's folder.
            adapter: The adapter's.
            llm: The LLM's folder or hub id.
            spaces: Of the items' vectors.
            fused_space: Of their tokens.
            as_of: Nothing later was looked at.
            texts: Who wrote what its prompts hold of items and users.
            holds_llm: Take the LLM's folder into the generation. Its files are linked, which costs
                no room, or copied where they cannot be.
            prove: Asks the finished parts some questions, before anything of them is served; what
                it raises leaves everything as it was. None asks none.

        Returns:
            The new generation, or the current one where it has this very content.

        Raises:
            GenerationError: the index, the adapter or the LLM is not there, or the calibrator is
                damaged.
        """
        parts = {"index": index, "adapter": adapter} | ({"llm": Path(llm)} if holds_llm else {})
        for name, part in parts.items():
            if not part.is_dir():
                command = "index" if name == "index" else "train"
                raise GenerationError(f"{part} is missing: run `sommelier {command}`")
        calibrator = _calibrator(adapter)
        self.root.mkdir(parents=True, exist_ok=True)
        self._sweep()
        temporary = Path(tempfile.mkdtemp(dir=self.root, prefix=UNFINISHED))
        temporary.chmod(0o755)  # a server may run as another user
        try:
            for name, part in parts.items():
                copy = link if name == "llm" else shutil.copy2
                shutil.copytree(part, temporary / name, copy_function=copy)
            generation = Generation(
                generation_id=self._next_id(),
                created_at=datetime.now(UTC),
                as_of=as_of,
                spaces=spaces,
                fused_space=fused_space,
                llm="" if holds_llm else llm,
                files=digests(temporary),
                texts=texts,
                calibrator=calibrator,
                folder=temporary,
            )
            current = self._intact_current()
            if current is not None and _content(current) == _content(generation):
                return current
            if prove is not None:
                prove(generation).save(temporary / PROBES)
                generation = replace(generation, files=digests(temporary))
            return self.point(self._settle(temporary, generation))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def current(self) -> Generation:
        """The generation that is served.

        Raises:
            GenerationError: nothing was published, or CURRENT points at nothing.
        """
        return self.read(self.current_id())

    def current_id(self) -> str:
        """What CURRENT says, be it a generation or not: one small file is read.

        Raises:
            GenerationError: nothing was published, or the file cannot be read.
        """
        try:
            return (self.root / CURRENT).read_text().strip()
        except FileNotFoundError:
            raise GenerationError(
                f"nothing is published in {self.root}: run `sommelier publish`"
            ) from None
        except (OSError, ValueError) as error:
            raise GenerationError(f"{self.root / CURRENT} cannot be read ({error})") from error

    def read(self, generation_id: str) -> Generation:
        """One generation.

        Raises:
            GenerationError: it is not there, or its manifest is damaged.
        """
        known = self.ids()
        if generation_id not in known:
            raise GenerationError(
                f"no generation {generation_id!r} in {self.root}; there are: "
                f"{', '.join(known) or 'none'}"
            )
        path = self.root / generation_id / MANIFEST
        try:
            facts = json.loads(path.read_text())
            number = facts.pop("format")
            generation = (
                TypeAdapter(Generation).validate_python(facts) if number in READABLE else None
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise GenerationError(
                f"{path} is damaged ({reason}): run `sommelier publish`"
            ) from error
        if generation is None:
            raise GenerationError(f"{path} is of another format: run `sommelier publish`")
        return replace(generation, folder=path.parent)

    def point(self, generation_id: str) -> Generation:
        """Serve this generation from now on; how a roll-back is done.

        Raises:
            GenerationError: it is not there.
        """
        generation = self.read(generation_id)
        replace_text(self.root / CURRENT, generation_id + "\n")
        return generation

    def ids(self) -> list[str]:
        """All generations, oldest first."""
        return sorted(path.parent.name for path in self.root.glob(f"g-*/{MANIFEST}"))

    def _settle(self, temporary: Path, generation: Generation) -> str:
        """Give finished parts an id of their own; where another publisher has it, the next."""
        sync(temporary)
        while True:
            replace_text(temporary / MANIFEST, _to_json(generation))
            try:
                temporary.rename(self.root / generation.generation_id)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
                generation = replace(generation, generation_id=self._next_id())
            else:
                return generation.generation_id

    def _sweep(self) -> None:
        """Take away what publishers left that were killed midway."""
        for left in self.root.glob(f"{UNFINISHED}*"):
            if time.time() - left.stat().st_mtime > FORGOTTEN_S:
                shutil.rmtree(left, ignore_errors=True)

    def _next_id(self) -> str:
        """After every folder, be it a generation or the rest of one."""
        names = [path.name.removeprefix("g-") for path in self.root.glob("g-*")]
        numbers = [int(name) for name in names if name.isdecimal()]
        return f"g-{max(numbers, default=0) + 1:06d}"

    def _intact_current(self) -> Generation | None:
        """None where nothing usable is served: whatever is damaged is to be published again."""
        try:
            current = self.current()
            current.check()
        except GenerationError:
            return None
        return current


def _calibrator(adapter: Path) -> str:
    """The id of what the adapter's scores are calibrated by; empty for nothing."""
    path = adapter / CALIBRATOR
    if not path.exists():
        return ""
    try:
        return Calibrator.load(path).calibrator_id
    except CalibratorError as error:
        raise GenerationError(str(error)) from error


def _content(generation: Generation) -> Generation:
    """What makes two generations the same: probes only tell what the rest does."""
    epoch = datetime.fromtimestamp(0, UTC)
    files = {name: digest for name, digest in generation.files.items() if name != PROBES}
    return replace(generation, generation_id="", created_at=epoch, files=files, folder=Path())


def _to_json(generation: Generation) -> str:
    facts = {key: value for key, value in asdict(generation).items() if key != "folder"}
    return json.dumps({"format": FORMAT, **facts}, indent=1, sort_keys=True, default=str)
