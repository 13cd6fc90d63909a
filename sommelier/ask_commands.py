"""The commands that ask for items, of a server or in this process, for the one command line."""

from typing import TYPE_CHECKING, Annotated

import typer

from sommelier.failures import told
from sommelier.options import FILE, Debug, Overrides, SettingsPath, terminal, work

if TYPE_CHECKING:
    from sommelier.ask import Reply

User = Annotated[str, typer.Option("--user", help="A user id of the catalog.")]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="HOST:PORT", help="Ask this server; else answer here."),
]
Behavior = Annotated[
    str | None,
    typer.Option("--behavior", metavar="NAME", help="Ask for this one, such as purchase."),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Say what each block of vectors adds to the scores.")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the server.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order of its help."""
    app.command()(recommend)
    app.command()(rerank)


def recommend(
    user: User,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many items.")] = 10,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="'PRICE<=20'", help="Only such items; may be repeated."),
    ] = None,
    deny: Annotated[str, typer.Option("--deny", metavar="A,B", help="None of these.")] = "",
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="TEXT=0.5", help="What a block counts; may be repeated."),
    ] = None,
    behavior: Behavior = None,
    explain: Explain = False,
    server: Server = None,
    timeout: Timeout = 10.0,
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """The items of the catalog that suit a user best."""
    with told(is_debug=debug):
        from sommelier import ask

        query = ask.asked(
            user,
            conditions=filters or (),
            deny=_listed(deny),
            weights=weights or (),
            behavior=behavior,
        )
        if server is not None:
            if filters or deny or weights:
                raise ValueError("--filter, --deny and --weight are answered without --server")
            reply = ask.recommend_from(
                server,
                user_id=user,
                top_k=top_k,
                timeout_s=timeout,
                behavior=behavior,
                explain=explain,
            )
            _show_reply(reply)
            return
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.serve import loaded

        reply = ask.recommend(
            loaded(workspace, watch=watch),
            query,
            top_k=top_k,
            num_candidates=workspace.settings.limits.default_candidates,
            explain=explain,
        )
        _show_reply(reply)


def rerank(
    user: User,
    items: Annotated[str, typer.Option("--items", metavar="A,B,C", help="The items to order.")],
    behavior: Behavior = None,
    explain: Explain = False,
    server: Server = None,
    timeout: Timeout = 10.0,
    settings: SettingsPath = FILE,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """These items in the order that suits a user."""
    item_ids = _listed(items)
    with told(is_debug=debug):
        from sommelier import ask

        if server is not None:
            reply = ask.rerank_from(
                server,
                user_id=user,
                item_ids=item_ids,
                timeout_s=timeout,
                behavior=behavior,
                explain=explain,
            )
            _show_reply(reply)
            return
    with work(settings, overrides, is_debug=debug) as (workspace, watch):
        from sommelier.serve import loaded

        reply = ask.rerank(
            loaded(workspace, watch=watch),
            user_id=user,
            item_ids=item_ids,
            behavior=behavior,
            explain=explain,
        )
        _show_reply(reply)


def _listed(words: str) -> list[str]:
    """The ids in a list with commas."""
    return [one.strip() for one in words.split(",") if one.strip()]


def _show_reply(reply: "Reply") -> None:
    from sommelier.ask import reasons, summary
    from sommelier.console import ConsoleWatch

    watch = ConsoleWatch(terminal())
    watch.show(summary(reply))
    if any(line.explanation for line in reply.lines):
        watch.show(reasons(reply))
