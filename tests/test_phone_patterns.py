"""What reading a number compiles: patterns by the hundred, each once, and before the first request."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import phonenumbers
import pytest

from service import phone
from service.phone import parse, warm
from tests.test_phone import COUNTRIES, E164, examples


def written(country: str) -> list[tuple[str, str | None]]:
    """Return what `parse` takes for each example of a country: in E.164 and national."""
    return [
        pair
        for _, example in examples(country)
        for pair in (
            (phonenumbers.format_number(example, E164), None),
            (phonenumbers.national_significant_number(example), country),
        )
    ]


def test_the_patterns_of_all_countries_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They outlive the cache of `re`, which is too small for them."""
    compiler = importlib.import_module("re._compiler")  # where every function of `re` ends that has to compile
    compile_pattern = compiler.compile
    compiled: list[object] = []

    def counting(pattern: object, flags: int = 0) -> object:
        compiled.append(pattern)
        return compile_pattern(pattern, flags)

    everywhere = [pair for country in COUNTRIES for pair in written(country)]
    for text, country in everywhere:
        parse(text, country)
    re.purge()
    monkeypatch.setattr(compiler, "compile", counting)

    for text, country in everywhere:
        parse(text, country)

    assert compiled == []


FIRST_NUMBERS = """
import json, re._compiler, sys
from service.phone import parse, warm

warmed, numbers = json.load(sys.stdin)
warm(warmed)
compiled = []
compile_pattern = re._compiler.compile
re._compiler.compile = lambda *args: compiled.append(args) or compile_pattern(*args)
for text, country in numbers:
    parse(text, country)
print(len(compiled))
"""


def patterns_compiled(warmed: list[str] | None, countries: list[str]) -> int:
    """Count what a new process compiles for the first numbers of countries, once warm."""
    numbers = [pair for country in countries for pair in written(country)]
    ran = subprocess.run(
        [sys.executable, "-c", FIRST_NUMBERS],
        input=json.dumps([warmed, numbers]),
        env={"PYTHONPATH": str(Path(phone.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout)


@pytest.mark.parametrize("country", ["DE", "GB", "KZ"])
def test_the_first_numbers_of_a_warmed_country_compile_nothing(country: str) -> None:
    """Also where the country shares its plan, and others are asked first whose number it is."""
    assert patterns_compiled([country], [country]) == 0


def test_the_first_numbers_of_other_countries_do_compile() -> None:
    """Only what was asked for is loaded."""
    assert patterns_compiled(["DE"], ["FR"]) > 0


def test_without_a_choice_all_countries_are_warmed() -> None:
    """As for an application that sends wherever the price list goes."""
    assert patterns_compiled(None, COUNTRIES) == 0


def test_warm_takes_the_countries_that_have_a_plan() -> None:
    """Antarctica has a country code but no numbers of its own; a configuration may still list it."""
    warm(["AQ", "GB"])

    assert parse("+447400123456").country == "GB"
