"""A published generation in, a gRPC server that answers until it is told to stop out.

The generation is loaded into this process, or into `server.processes` worker processes; then this
one only listens, and imports no model library. From then on the server follows CURRENT.
"""

import asyncio
import sys
import tomllib
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING

from ranker.adapter_facts import read_facts
from ranker.generation import Generations
from ranker.service import logs
from ranker.service.backends import Backend
from ranker.service.following import Follower, Prepare, in_thread
from ranker.service.processes import Launch, processes
from ranker.service.server import RankerServer, run_until_signal
from ranker.serving import Serving
from sommelier import gpus
from sommelier.commented import commented
from sommelier.settings_file import parse
from sommelier.watch import Unwatched, Watch
from sommelier.workspace import Workspace

if TYPE_CHECKING:
    from feature_repo.reader import OnlineReader
    from ranker.loaded import LoadedGeneration

LOADER = "sommelier.serve:load_worker"


def online_reader(workspace: Workspace) -> "OnlineReader":
    """What reads the online store for a server, whichever generation it serves."""
    from feature_repo.reader import OnlineReader

    config = workspace.settings.server
    return OnlineReader(
        workspace.store,
        cached_bytes=config.feature_cache_bytes,
        history_age_s=config.history_age_s,
        stale_history_s=config.stale_history_s,
    )


def loaded(
    workspace: Workspace,
    *,
    watch: Watch,
    online: bool = True,
    generation_id: str | None = None,
    reader: "OnlineReader | None" = None,
) -> "LoadedGeneration":
    """A generation, ready to answer.

    Args:
        workspace: Where it was published.
        watch: Who looks on.
        online: Whether it reads the online store.
        generation_id: None takes the current one.
        reader: What reads the online store; None makes one.

    Raises:
        ValueError: nothing was published, or it is damaged.
    """
    import torch

    from ranker.loaded import load

    # A request's matrices are small: a second thread costs more than it brings, and two requests
    # at once are better served by a core each.
    torch.set_num_threads(1)
    config = workspace.settings.server
    with watch.task("loading the generation"):
        if online and reader is None:
            reader = online_reader(workspace)
        return load(
            Generations(workspace.settings.paths.generations),
            store=workspace.store,
            generation_id=generation_id,
            online=online,
            reader=reader,
            prefix_cache_bytes=config.prefix_cache_mib * 2**20 if online else 0,
        )


def load_worker(*, settings: str, generation_id: str) -> Serving:
    """What a worker process serves; it loads what the others load, whatever CURRENT says by then.

    Args:
        settings: All of them, as TOML with absolute paths.
        generation_id: What to load.

    Raises:
        ValueError: it is not there, or damaged, or torch does not see the GPU that is meant.
    """
    import torch

    workspace = Workspace(parse(tomllib.loads(settings)))
    logs.write(sys.stderr, form=workspace.settings.server.log_format)
    if workspace.settings.server.devices and not torch.cuda.is_available():
        raise ValueError(
            f"server.devices names GPUs, and torch {torch.__version__} sees none: install a torch "
            "with CUDA that fits the driver, or leave server.devices out"
        )
    return loaded(workspace, watch=Unwatched(), generation_id=generation_id)


async def in_processes(workspace: Workspace, generation_id: str) -> Backend:
    """The generation in as many worker processes as the settings say, on a GPU each if there are.

    Raises:
        ValueError: a worker could not load it, or a GPU is not there; the text says why.
    """
    settings = workspace.settings
    arguments = {"settings": commented(settings), "generation_id": generation_id}
    told = await asyncio.to_thread(_environments, workspace, generation_id)
    launch = Launch(loader=LOADER, arguments=arguments, environments=told)
    return await processes(launch, num=settings.server.processes, limits=settings.limits)


def _environments(workspace: Workspace, generation_id: str) -> Sequence[Mapping[str, str]]:
    adapter = Generations(workspace.settings.paths.generations).read(generation_id).adapter
    return gpus.environments(
        workspace.settings.server.devices,
        device=read_facts(adapter).config.llm.device,
        gpus=gpus.visible(),
    )


def serve(workspace: Workspace, *, watch: Watch) -> None:
    """Answer over gRPC until SIGTERM or SIGINT.

    Raises:
        ValueError: nothing was published, or the port is taken.
    """
    settings = workspace.settings
    # The front of worker processes reads nothing itself.
    reader = None if settings.server.processes else online_reader(workspace)

    def started(server: RankerServer) -> None:
        info = server.info
        watch.say(f"generation {info.generation_id}, {info.num_items:,} items, {info.model}")
        watch.say(f"listening on {server.address}; Ctrl-C stops it")
        if server.metrics_port is not None:
            watch.say(f"metrics on http://{server.host}:{server.metrics_port}/metrics")
        if server.rest_port is not None:
            scheme = "http" if settings.server.tls_certificate is None else "https"
            watch.say(f"HTTP on {scheme}://{settings.server.rest_host}:{server.rest_port}/docs")
        follow(workspace, server, reader=reader)

    with logs.written(sys.stderr, form=settings.server.log_format):
        run_until_signal(
            _served(workspace, watch, reader),
            config=settings.server,
            limits=settings.limits,
            on_start=started,
        )
    watch.say("stopped; no request was cut off before its grace ended")


def follow(workspace: Workspace, server: RankerServer, *, reader: "OnlineReader | None") -> None:
    """From now on have the server serve what CURRENT names; to be called in the server's loop.

    Args:
        workspace: Where generations are published.
        server: What serves them.
        reader: What all generations of this process read by; None where workers read.
    """
    settings = workspace.settings
    if not settings.server.follow_s:
        return

    def load(generation_id: str) -> Serving:
        return loaded(workspace, watch=Unwatched(), generation_id=generation_id, reader=reader)

    def launch(generation_id: str) -> Awaitable[Backend]:
        return in_processes(workspace, generation_id)

    prepare: Prepare = launch if settings.server.processes else in_thread(load)
    follower = Follower(
        Generations(settings.paths.generations),
        server,
        prepare=prepare,
        period_s=settings.server.follow_s,
    )
    server.accompany(follower.run())


def _served(
    workspace: Workspace, watch: Watch, reader: "OnlineReader | None"
) -> Serving | Awaitable[Backend]:
    num = workspace.settings.server.processes
    if not num:
        return loaded(workspace, watch=watch, reader=reader)
    generation_id = Generations(workspace.settings.paths.generations).current_id()

    async def prepared() -> Backend:
        with watch.task(f"loading the generation in {num} worker processes"):
            return await in_processes(workspace, generation_id)

    return prepared()
