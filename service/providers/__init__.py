"""One file for each provider, the table of their kinds, and a file for each thing that several of them know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from pydantic import BaseModel

_CLASSES = {
    "africastalking": "AfricasTalking",
    "aws": "Aws",
    "azure": "Azure",
    "console": "Console",
    "dexatel": "Dexatel",
    "infobip": "Infobip",
    "messagebird": "MessageBird",
    "meta": "Meta",
    "msg91": "Msg91",
    "plivo": "Plivo",
    "prelude": "Prelude",
    "simulator": "Simulator",
    "sinch": "Sinch",
    "smpp": "Smpp",
    "smtp": "Smtp",
    "sns": "Sns",
    "telegram": "Telegram",
    "telnyx": "Telnyx",
    "twilio": "Twilio",
    "twofactor": "TwoFactor",
    "vonage": "Vonage",
    "vonage_sms": "VonageSms",
    "webhook": "Webhook",
}


class _Kinds(Mapping[str, type[BaseModel]]):
    """The classes by their kinds. Each is loaded when it is asked for: only what is configured costs memory."""

    def __getitem__(self, kind: str) -> type[BaseModel]:
        name = _CLASSES[kind]
        found: type[BaseModel] = getattr(import_module(f"service.providers.{kind}"), name)
        return found

    def __contains__(self, kind: object) -> bool:
        return kind in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


KINDS: Mapping[str, type[BaseModel]] = _Kinds()
