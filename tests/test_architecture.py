"""How the code is laid out: what may import what, through which doors, and what every file says of itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SERVICE = Path(__file__).parent.parent / "service"
TESTS = Path(__file__).parent

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"__main__"}),
    frozenset({"replay", "server", "trial"}),
    frozenset({"app", "demo"}),
    frozenset({"api", "config"}),
    frozenset({"delivery", "events", "providers", "replies", "verification"}),
    frozenset({"conversion", "receipts"}),
    frozenset({"inbox", "requests", "tally"}),
    frozenset({"application", "circuit", "code", "idempotency", "optout", "schedule", "waits"}),
    frozenset({"guard"}),
    frozenset({"changes", "recent", "record", "stats"}),
    frozenset({"cascade", "door", "phone", "sealing", "store"}),
    frozenset({"provider", "texts", "tracing"}),
    frozenset({"answer", "errors", "ids", "log", "metrics", "segments", "stopwords"}),
)
"""From the top to the ground. A room is a module or a package: it imports from lower floors only, and from itself."""

DOORS = {
    "redis": {
        "store": "speaks to Redis",
        "app": "takes a client in place of the configured one, so it names the type",
    },
    "fakeredis": {"store": "is the Redis of memory://"},
    "httpx": {
        "door": "sends messages",
        "app": "takes a transport in place of the network, so it names the type",
        "trial": "is a client of verifyd, not a part of it",
    },
    "aiohttp": {"door": "holds the connections over which they go"},
    "httpx_aiohttp": {"door": "is httpx's transport over those"},
    "aiosmtplib": {"door": "speaks to mail relays"},
    "smpplib": {
        "door": "writes and reads what goes over SMPP sessions",
        "providers": "writes texts in the alphabet of short messages; nothing of it connects",
    },
    "starlette": {
        "api": "answers HTTP",
        "app": "puts the routes of several listeners together, so it names the type",
    },
    "uvicorn": {"server": "starts the listeners", "api": "bounds what its protocol takes"},
    "opentelemetry": {"tracing": "hands spans to a collector"},
    "socket": {"server": "opens the addresses to listen on"},
}
"""What speaks to the outside, and the rooms that may, each with its reason."""

NO_DOORS = frozenset({"http.client", "http.server", "requests", "smtplib", "urllib.request", "urllib3"})
"""Other ways out, which nothing needs."""

HOMELESS = frozenset({"base", "common", "helpers", "interfaces", "manager", "misc", "shared", "util", "utils"})
"""Names of files that say nothing of what is in them."""

MOST_LINES = 50
"""Of a script without the parts that it needs. Most have half of that; the longest starts a verification."""


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _module(path: Path) -> str:
    """The name of a file of the service: `api.auth`; that of a package is the package's, of `service` empty."""
    return ".".join(path.relative_to(SERVICE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


@cache
def _modules() -> dict[str, ast.Module]:
    return {_module(path): ast.parse(path.read_text()) for path in _files(SERVICE)}


def _room(module: str) -> str:
    return module.partition(".")[0]


def _imported(tree: ast.Module) -> Iterator[str]:
    """The full names of what a file imports, at its top or later; a name from a module comes with the module's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def _own(tree: ast.Module) -> set[str]:
    """The modules of the service that a file imports."""
    found = set()
    for name in _imported(tree):
        if name.startswith("service."):
            inside = name.removeprefix("service.")
            found.add(inside if inside in _modules() else inside.rpartition(".")[0])
    return found


def _strings_given_to(tree: ast.Module, *functions: str) -> Iterator[str]:
    """The string literals among the arguments of calls of functions and methods with these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in functions:
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def test_every_room_has_a_floor() -> None:
    """One, and there is no floor for a room that is gone."""
    rooms = [room for floor in FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
    assert set(rooms) == {_room(module) for module in _modules() if module}


@pytest.mark.parametrize("module", sorted(_modules()))
def test_imports_go_down_the_floors(module: str) -> None:
    """And are written in full, so that a reader sees where they go."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    tree = _modules()[module]
    assert [name for name in _imported(tree) if name.startswith(".")] == []
    rooms = {_room(name) for name in _own(tree)} - {_room(module)}
    assert {room for room in rooms if floor[room] <= floor[_room(module)]} == set()


def test_imports_never_go_in_circles() -> None:
    """Not within a package either."""
    graph = {module: _own(tree) - {module} for module, tree in _modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' > '.join(error.args[1])}")


@pytest.mark.parametrize("package", sorted(DOORS))
def test_the_outside_is_spoken_to_through_its_doors(package: str) -> None:
    """By the rooms that have a reason to, and each of them does."""
    users = {
        _room(module)
        for module, tree in _modules().items()
        if any(name.partition(".")[0] == package for name in _imported(tree))
    }
    assert users == set(DOORS[package])


def test_there_are_no_other_doors() -> None:
    """Whatever else could speak to a network is imported nowhere."""
    found = {
        (module, name)
        for module, tree in _modules().items()
        for name in _imported(tree)
        if any(name == other or name.startswith(f"{other}.") for other in NO_DOORS)
    }
    assert found == set()


@pytest.mark.parametrize("folder", [SERVICE, TESTS], ids=["service", "tests"])
def test_every_file_says_what_is_in_it(folder: Path) -> None:
    """By its name, and in the docstring that it begins with."""
    assert [path.name for path in _files(folder) if path.stem.removeprefix("test_") in HOMELESS] == []
    assert [path.name for path in folder.rglob("*") if path.is_dir() and path.name in HOMELESS] == []
    assert [path.name for path in _files(folder) if not ast.get_docstring(ast.parse(path.read_text()))] == []


SCRIPTS = {path.stem: path.read_text() for path in sorted((SERVICE / "lua").glob("*.lua"))}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_every_script_is_short_and_says_what_it_takes_and_answers(name: str) -> None:
    """Its comment comes first: the act in a sentence, KEYS, ARGV and answers."""
    lines = SCRIPTS[name].splitlines()
    head = []
    for line in lines:
        if not line.startswith("-- "):
            break
        head.append(line.removeprefix("--").strip())
    assert re.fullmatch(r"[A-Z].*[.:,\w]", head[0])
    assert [word for word in ("KEYS", "ARGV", "Answers") if not any(line.startswith(word) for line in head)] == []
    assert len(lines) < MOST_LINES
    assert re.fullmatch("[a-z]+_[a-z]+", name)


def test_every_script_is_called_and_every_call_has_its_script() -> None:
    """The prologue is not called: it begins them all."""
    asking = ("run", "rows", "_act", "Act")
    called = {name for tree in _modules().values() for name in _strings_given_to(tree, *asking)}
    assert {name for name in called if "_" in name} == set(SCRIPTS)


def test_every_part_of_a_script_is_needed_and_every_need_is_a_part() -> None:
    """And each says first what it is."""
    parts = {path.stem: path.read_text() for path in (SERVICE / "lua" / "parts").glob("*.lua")}
    needs = [line for text in SCRIPTS.values() for line in re.findall(r"^-- NEEDS (.*)$", text, re.MULTILINE)]
    needed = {part for line in needs for part in line.split()}
    assert needed == set(parts)
    assert all(text.startswith("-- ") for text in parts.values())
