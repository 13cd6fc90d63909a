"""The commands that ask for items, of a server or in this process, for the one command line.

Each says what it alone takes; what all questions share stands once, in `Shared`.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sommelier.commands.options import FILE, Debug, Overrides, SettingsPath, terminal, work
from sommelier.failures import told

if TYPE_CHECKING:
    from ranker.client import RankerClient
    from sommelier.ask import Wish
    from sommelier.replies import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The options of every question."""

    user: Annotated[str, typer.Option("--user", help="A user id of the catalog.")]
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="'PRICE<=20'", help="Only such items; may be repeated."),
    ] = None
    deny: Annotated[str, typer.Option("--deny", metavar="A,B", help="None of these.")] = ""
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="TEXT=0.5", help="What a block counts; may be repeated."),
    ] = None
    recent: Annotated[
        list[str] | None,
        typer.Option("--recent", metavar="VIEW=A", help="What came last; may be repeated."),
    ] = None
    text: Annotated[
        str | None, typer.Option("--text", help="Who asks or what for, for the LLM to read.")
    ] = None
    behavior: Annotated[
        str | None,
        typer.Option("--behavior", metavar="NAME", help="Ask for this one, such as purchase."),
    ] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each block of vectors adds to the scores.")
    ] = False
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="HOST:PORT", help="Ask this server; else answer here."),
    ] = None
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for it.")] = 10.0
    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", help="Encrypt, trusting these certificates (PEM).")
    ] = None
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", help="Our own, where it asks for one.")
    ] = None
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key.")] = None
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Holds what `sommelier token` printed.")
    ] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let the token travel without TLS.")
    ] = False
    settings: SettingsPath = FILE
    overrides: Overrides = None
    debug: Debug = False


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order of its help."""
    app.command()(_question(recommend))
    app.command()(_question(rerank))


def recommend(
    wish: "Wish",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many items.")] = 10,
) -> "Wish":
    """The items of the catalog that suit a user best."""
    return replace(wish, top_k=top_k)


def rerank(
    wish: "Wish",
    items: Annotated[str, typer.Option("--items", metavar="A,B,C", help="The items to order.")],
    stream: Annotated[
        bool, typer.Option("--stream", help="Show every order on the way to the last.")
    ] = False,
) -> "Wish":
    """These items in the order that suits a user."""
    item_ids = tuple(_listed(items))
    if not item_ids:
        raise ValueError("--items names none: give the items to order, such as A,B,C")
    return replace(wish, item_ids=item_ids, in_steps=stream)


def _question(wished: Callable[..., "Wish"]) -> Callable[..., None]:
    """A command of a function's own options, which complete a wish, and of those shared."""
    own = list(inspect.signature(wished).parameters.values())[1:]
    shared = inspect.signature(Shared).parameters.values()

    def command(**words: Any) -> None:
        mine = {one.name: words.pop(one.name) for one in own}
        _answer(lambda wish: wished(wish, **mine), Shared(**words))

    named = sorted([*own, *shared], key=lambda one: one.default is not inspect.Parameter.empty)
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in named]
    typed: Any = command  # what typer reads of a function
    typed.__signature__ = inspect.Signature(parameters)
    typed.__annotations__ = {one.name: one.annotation for one in parameters}
    typed.__name__, typed.__doc__ = wished.__name__, wished.__doc__
    return command


def _answer(completed: Callable[["Wish"], "Wish"], shared: Shared) -> None:
    with told(is_debug=shared.debug):
        from sommelier import ask

        query = ask.asked(
            shared.user,
            conditions=shared.filters or (),
            deny=_listed(shared.deny),
            weights=shared.weights or (),
            recent=shared.recent or (),
            text=shared.text,
            behavior=shared.behavior,
        )
        wish = completed(ask.Wish(query=query, explain=shared.explain))
        if shared.server is not None:
            with _client(shared.server, shared) as client:
                _show(ask.there(client, wish))
            return
    with work(shared.settings, shared.overrides, is_debug=shared.debug) as (workspace, watch):
        from sommelier.serve import loaded

        if not wish.item_ids:
            wish = replace(wish, num_candidates=workspace.settings.limits.default_candidates)
        _show(ask.here(loaded(workspace, watch=watch), wish))


def _client(server: str, shared: Shared) -> "RankerClient":
    from ranker.client import ClientTls, RankerClient
    from sommelier.ask import token_in

    files = (shared.tls_ca, shared.tls_certificate, shared.tls_key)
    tls = None
    if any(files):
        tls = ClientTls(ca=files[0], certificate=files[1], key=files[2])
    return RankerClient(
        server,
        timeout_s=shared.timeout,
        tls=tls,
        token=None if shared.token_file is None else token_in(shared.token_file),
        insecure=shared.insecure,
    )


def _listed(words: str) -> list[str]:
    """The ids in a list with commas."""
    return [one.strip() for one in words.split(",") if one.strip()]


def _show(replies: "Iterator[Reply]") -> None:
    from sommelier.console import ConsoleWatch
    from sommelier.replies import reasons, summary

    watch = ConsoleWatch(terminal())
    for reply in replies:
        watch.show(summary(reply))
        if any(line.explanation for line in reply.lines):
            watch.show(reasons(reply))
