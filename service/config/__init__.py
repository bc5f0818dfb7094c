"""The configuration: one TOML file, checked as a whole, every problem told at once with its key.

Any text value may be `env:NAME` or `file:/path`. `tables` is the reference of what can be set; `docker/otp.toml` shows
each setting with its default. `reading` makes the tables of a file, `rules` compare them with one another, and
`worries` tell of what works but should be known. `applications` makes of them what the service works with.
"""

from service.config.applications import application, policy
from service.config.faults import Fault
from service.config.reading import Kinds, check, load
from service.config.tables import (
    ApiKeyTable,
    ApplicationTable,
    CascadeStep,
    Config,
    EventsTable,
    Secrets,
    Server,
    Settings,
    Steps,
    key_bytes,
)
from service.config.worries import worries

__all__ = [
    "ApiKeyTable",
    "ApplicationTable",
    "CascadeStep",
    "Config",
    "EventsTable",
    "Fault",
    "Kinds",
    "Secrets",
    "Server",
    "Settings",
    "Steps",
    "application",
    "check",
    "key_bytes",
    "load",
    "policy",
    "worries",
]
