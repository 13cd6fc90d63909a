"""A published generation in, a gRPC server that answers until it is told to stop out."""

from feature_repo.reader import OnlineReader
from ranker.loaded import LoadedGeneration, load
from ranker.service.server import RankerServer, run_until_signal
from sommelier.publish import generations
from sommelier.watch import Watch
from sommelier.workspace import Workspace


def loaded(workspace: Workspace, *, watch: Watch, online: bool = True) -> LoadedGeneration:
    """The current generation, ready to answer.

    Raises:
        ValueError: nothing was published, or it is damaged.
    """
    import torch

    # A request's matrices are small: a second thread costs more than it brings, and two requests
    # at once are better served by a core each.
    torch.set_num_threads(1)
    config = workspace.settings.server
    with watch.task("loading the generation"):
        reader = None
        if online:
            reader = OnlineReader(
                workspace.store,
                cached_bytes=config.feature_cache_bytes,
                history_age_s=config.history_age_s,
            )
        return load(
            generations(workspace),
            store=workspace.store,
            online=online,
            reader=reader,
            prefix_cache_bytes=config.prefix_cache_mib * 2**20 if online else 0,
        )


def serve(workspace: Workspace, *, watch: Watch) -> None:
    """Answer over gRPC until SIGTERM or SIGINT.

    Raises:
        ValueError: nothing was published, or the port is taken.
    """
    serving = loaded(workspace, watch=watch)

    def started(server: RankerServer) -> None:
        info = serving.info
        watch.say(f"generation {info.generation_id}, {info.num_items:,} items, {info.model}")
        watch.say(f"listening on {server.address}; Ctrl-C stops it")
        if server.metrics_port is not None:
            watch.say(f"metrics on http://{server.host}:{server.metrics_port}/metrics")

    run_until_signal(
        serving,
        config=workspace.settings.server,
        limits=workspace.settings.limits,
        on_start=started,
    )
    watch.say("stopped; no request was cut off before its grace ended")
