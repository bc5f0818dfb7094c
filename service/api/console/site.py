"""What all pages share: how they are reached, what stands in their bar, and how a problem is told on a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service import log
from service.api.console.access import Access, Visitor
from service.api.console.looks import Looks
from service.api.problems import Problem, unavailable
from service.errors import Unavailable

Answer = Callable[[Request], Awaitable[Response]]


class Site:
    """The console as a whole; `pages` are those in its bar, by their titles."""

    def __init__(self, access: Access, pages: Mapping[str, str]) -> None:
        self.access = access
        self.pages = pages
        self.looks = Looks()

    def page(self, template: str, title: str, visitor: Visitor | None, **values: Any) -> Response:
        """A page for a visitor."""
        return self.looks.page(template, title=title, pages=self.pages, visitor=visitor, **values)

    def route(self, path: str, answer: Answer, method: str = "GET") -> Route:
        """A route whose problems are told on a page."""

        async def endpoint(request: Request) -> Response:
            try:
                return await answer(request)
            except Problem as problem:
                return self._told(problem)
            except Unavailable:
                return self._told(unavailable())

        return Route(path, endpoint, methods=[method])

    def _told(self, problem: Problem) -> Response:
        log.note(code=problem.code)
        values = {"title": problem.title, "pages": self.pages, "visitor": None, "problem": problem}
        return self.looks.page("problem.html", problem.status, problem.headers, **values)


def see(path: str) -> Response:
    """Go on to another page."""
    return RedirectResponse(path, 303)
