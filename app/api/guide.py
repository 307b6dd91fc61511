"""`/guide`: how Strata is used and run, from the package; each page also as the Markdown it is written in."""

from __future__ import annotations

from pathlib import PurePosixPath

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import QUERY_DOCS
from strata.app.api.header_docs import OF_ALL, OF_VECTORS
from strata.app.api.plain_route import PlainRoute
from strata.app.api.refusal_docs import WHEN
from strata.app.api.refusals import NOT_FOUND, Refusal
from strata.app.docs import pages, reference
from strata.app.docs.api_page import ApiPage

router = APIRouter(route_class=PlainRoute, include_in_schema=False)


_MADE = {"options": reference.options, "metrics": reference.metrics}


@router.get("/guide")
async def index(request: Request) -> Response:
    """The first page."""
    return _page("index", request)


@router.get("/llms.txt")
async def llms(request: Request) -> Response:
    """What a language model should read first (llmstxt.org)."""
    return Response(pages.file("llms.txt"), media_type=pages.MEDIA[".txt"])


@router.get("/guide/{name}")
async def page(request: Request) -> Response:
    """A page by its name, its Markdown by the name with ``.md``, or a picture of one."""
    name: str = request.path_params["name"]
    try:
        if name.endswith(".md"):
            text = _markdown(name.removesuffix(".md"), request)
            return Response(text, media_type="text/markdown; charset=utf-8")
        if "." in name:
            return Response(pages.file(name), media_type=pages.MEDIA[PurePosixPath(name).suffix])
        return _page(name, request)
    except KeyError:
        raise Refusal(NOT_FOUND, f"no page {name!r}; there are: {', '.join(pages.PAGES)}") from None


def _markdown(slug: str, request: Request) -> str:
    if slug == "api":
        return ApiPage(request.app.openapi(), QUERY_DOCS, OF_VECTORS | OF_ALL, _refusals()).markdown()
    if slug in _MADE:
        return _MADE[slug]()
    return pages.markdown(slug)


def _refusals() -> list[tuple[str, ...]]:
    """By status, as the page has them."""
    return [
        (
            kind.reason,
            kind.error_type,
            str(kind.openai_code),
            ", ".join(dict.fromkeys((str(kind.status), str(kind.openai_status)))),
            when,
        )
        for kind, when in sorted(WHEN.items(), key=lambda row: row[0].status)
    ]


def _page(slug: str, request: Request) -> Response:
    root = str(request.scope.get("root_path", "")) + "/"
    return Response(pages.html(slug, _markdown(slug, request), root), media_type="text/html; charset=utf-8")
