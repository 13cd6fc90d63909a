"""The page tells every path and field, loads nothing from elsewhere, and runs nothing."""

import re
from html.parser import HTMLParser

import pytest

from ranker.limits import ServerConfig, ServiceLimits
from ranker.service.authentication import Gate
from ranker.service.exchange import Exchanges
from ranker.service.rest.app import application
from ranker.service.rest.door import Door
from ranker.service.rest.page import HEADERS, render
from ranker.service.rest.requests import RecommendBody, RerankBody


class Page(HTMLParser):
    """What a browser would load or follow, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"href", "src"}:
                self.links.append(value or "")
            if name == "id":
                self.anchors.add(value or "")

    def handle_data(self, data: str) -> None:
        self.shown += f"{data} "


@pytest.fixture(scope="module")
def page() -> Page:
    config = ServerConfig()
    door = Door(Exchanges([]), Gate(), config=config, limits=ServiceLimits())
    app = application(None, door, watchman=None, config=config)  # type: ignore[arg-type]
    return Page(render(app.openapi()))


def test_it_works_without_a_network_and_without_scripts(page: Page) -> None:
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert all(link.startswith("#") or link == "openapi.json" for link in page.links)
    assert "script" not in HEADERS["content-security-policy"]


def test_every_link_leads_to_a_shape_on_the_page(page: Page) -> None:
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.anchors


def test_every_path_and_every_field_is_told(page: Page) -> None:
    for path in ("/v1/rerank", "/v2/rerank", "/v1/recommend", "/v1/info"):
        assert path in page.shown
    words = set(re.findall(r"\w+", page.shown))
    assert words >= {*RerankBody.model_fields, *RecommendBody.model_fields}


def test_what_a_description_says_is_text_and_no_markup() -> None:
    openapi = {
        "info": {"title": "<b>", "description": "<script>"},
        "paths": {},
        "components": {"schemas": {}},
    }
    assert Page(render(openapi)).tags.isdisjoint({"b", "script"})
