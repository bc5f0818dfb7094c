"""WhatsApp's authentication templates, whoever hands them to Meta."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from service.providers.languages import nearest


def _language(value: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(_[A-Z0-9]{2,4})?", value):
        raise ValueError("write the language as Meta does, for example en_US or de")
    return value


Language = Annotated[str, AfterValidator(_language)]
TemplateName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,512}$")]


def components(code: str) -> list[dict[str, Any]]:
    """The code in the text and in the button: copy-code, one-tap and zero-tap all take it so."""
    parameters = [{"type": "text", "text": code}]
    return [
        {"type": "body", "parameters": parameters},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": parameters},
    ]


def template(name: str, language: str, code: str) -> dict[str, Any]:
    """The `template` of a message in Meta's own API, in this language and no other."""
    return {
        "name": name,
        "language": {"policy": "deterministic", "code": language},
        "components": components(code),
    }


def language_for(locale: str, languages: Sequence[str]) -> str:
    """The nearest to a locale of the languages that a template is approved in, else the first; Meta writes `pt_BR`."""
    return nearest(locale, {language.replace("_", "-"): language for language in languages}) or languages[0]
