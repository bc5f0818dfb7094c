"""`docker/otp.toml`: the example works, and shows every setting with its default."""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from service import config
from service.api.auth import digest
from service.config import Settings
from service.providers import KINDS
from tests.test_config import accepted
from tests.world import SECRET_KEY, WEBHOOK_SECRET

EXAMPLE = Path(__file__).parent.parent / "docker" / "otp.toml"
ENVIRONMENT = dict.fromkeys(re.findall(r'"env:([A-Z0-9_]+)"', EXAMPLE.read_text()), "made-up-and-of-no-form") | {
    "REDIS_URL": "redis://redis:6379/0",
    "VERIFYD_KEY": SECRET_KEY,
    "PUBLIC_URL": "https://otp.example.com",
    "SHOP_API_KEY_HASH": digest("vk_shop"),
    "DASHBOARD_API_KEY_HASH": digest("vk_dashboard"),
    "GATEWAY_URL": "http://gateway:9000/send",
    "GATEWAY_SECRET": WEBHOOK_SECRET,
    "GATEWAY_OLD_SECRET": "whsec_" + base64.b64encode(b"the gateway's secret before").decode(),
    "EVENTS_SECRET": WEBHOOK_SECRET,
    "EVENTS_OLD_SECRET": WEBHOOK_SECRET,
    "AZURE_ACCESS_KEY": base64.b64encode(b"azure").decode(),
    "SINCH_APPLICATION_SECRET": base64.b64encode(b"sinch").decode(),
    "SINCH_OLD_APPLICATION_SECRET": base64.b64encode(b"sinch before").decode(),
    "SMPP_PASSWORD": "pass-wd",
    "TELNYX_PUBLIC_KEY": base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode(),
    "TELNYX_OLD_PUBLIC_KEY": base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode(),
}
"""Every variable that the example names; those that are not written out may be nearly any text."""


ALTERNATIVE = re.compile(r"(?m)^#?[a-z_0-9]+ = .+\n# or (.+)$")
"""A setting with, under it, what may stand in its place."""


def _whole(text: str) -> str:
    """The text of the example with every setting in it switched on."""
    return re.sub(r"(?m)^( *)#(?=[^ \n])", r"\1", text)


def _files(folder: Path) -> None:
    """Write the files that the example names, under a folder in place of the root."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    lasting = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    for place, content in {
        "etc/verifyd/prices.csv": b"country,price,channel\nGB,0.04,sms\nGB,0.06,voice\n*,0.25,sms\n",
        "etc/verifyd/sns.pem": lasting.sign(key, SHA256()).public_bytes(Encoding.PEM),
        "etc/verifyd/prelude.pem": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "etc/verifyd/prelude-old.pem": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "run/secrets/vonage.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)


def _models(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models inside a type, each with the way to it: `*` for any name, `[]` for any place in a list."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
    elif origin is dict:
        yield from ((f".*{way}", model) for way, model in _models(inside[1]))
    elif origin is tuple:
        yield from ((f"[]{way}", model) for way, model in _models(inside[0]))
    elif origin in {Annotated, Union, UnionType}:
        for one in inside:
            yield from _models(one)


def _settings(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """Every setting of a model and of the models in it: its way, its model, its field."""
    for name, field in model.model_fields.items():
        here = f"{path}.{name}" if path else name
        below = list(_models(field.annotation))
        if not below or not isinstance(field.annotation, type):
            yield here, model, field
        for way, inside in below:
            yield from _settings(inside, here + way)


def _every() -> dict[str, tuple[type[BaseModel], FieldInfo]]:
    # A table of tables is no setting of its own, each of its tables is; a step is a step in every cascade.
    found = {
        way: (model, field)
        for way, model, field in _settings(Settings)
        if way != "applications" and "cascade_by_prefix." not in way
    }
    for kind, model in KINDS.items():
        found |= {f"providers.{kind}.{name}": (model, field) for name, field in model.model_fields.items()}
    return found


def _shown() -> dict[str, tuple[str, str]]:
    """What the example shows: by a setting's way, its line and the comment above it."""
    kinds = {name: given["kind"] for name, given in tomllib.loads(_whole(EXAMPLE.read_text()))["providers"].items()}
    found: dict[str, tuple[str, str]] = {}
    header, comment, shared = "", "", ""
    for line in EXAMPLE.read_text().splitlines():
        if heading := re.fullmatch(r"#?\[(.+)\]", line):
            header = heading[1].replace("applications.shop", "applications.*")
            for name, kind in kinds.items():
                header = re.sub(rf"^providers\.{name}$", f"providers.{kind}", header)
            way = next((table for table in ("cascade_by_prefix", "texts", "events") if table in header), None)
            if way is not None:
                found[f"applications.*.{way}"] = (line, comment)
        elif alternative := re.match(r"# or ([a-z_0-9]+) = ", line):
            found[f"{header}.{alternative[1]}"] = (line, shared)
        elif line.startswith("# "):
            comment, shared = comment + line[1:], ""
        elif not line:
            comment = ""
        elif setting := re.match(r"#?([a-z_0-9]+) = ", line):
            found[f"{header}.{setting[1]}".removeprefix(".")] = (line, comment)
            for name, inside in product(re.findall(r"`([a-z_]+)`", comment), ("[]", "[].providers[]")):
                found.setdefault(f"{header}.{setting[1]}{inside}.{name}", (line, comment))
            shared, comment = comment, ""
    return found


def test_the_example_works_as_it_is_and_with_all_of_it_switched_on(tmp_path: Path) -> None:
    """Once what it names is there, and with each alternative too; the comment at its top names what it needs."""
    assert accepted(tomllib.loads(EXAMPLE.read_text()), ENVIRONMENT) == config.load(EXAMPLE, KINDS, ENVIRONMENT)
    _files(tmp_path)
    text = EXAMPLE.read_text().replace('"file:/', f'"file:{tmp_path}/')
    for variant in (text, ALTERNATIVE.sub(r"\1", text)):
        assert accepted(tomllib.loads(_whole(variant)), ENVIRONMENT)
    needed = re.findall(r'^[^#\n]*"env:([A-Z0-9_]+)"', EXAMPLE.read_text(), re.MULTILINE)
    head = EXAMPLE.read_text().partition("\n\n")[0]
    assert set(re.findall(r"[A-Z]+_[A-Z_]+", head)) == set(needed)


def test_the_example_names_every_setting() -> None:
    """And, as it is accepted, none that there is not."""
    assert set(_every()) <= set(_shown())


def test_the_example_is_in_order_and_fits_a_page() -> None:
    """First the providers that come with verifyd, then the others by name; no line is too long to read."""
    names = list(tomllib.loads(_whole(EXAMPLE.read_text()))["providers"])
    assert names == ["gateway", "console", *sorted(names[2:])]
    assert max(len(line) for line in EXAMPLE.read_text().splitlines()) <= 120


def test_every_setting_of_the_example_is_explained() -> None:
    """In a comment above it."""
    assert [way for way, (_, comment) in _shown().items() if not comment] == []


@pytest.mark.parametrize("way", sorted(_every()))
def test_the_example_shows_each_default(way: str) -> None:
    """As the value, or in the comment where the value is another; and says what is required."""
    _, field = _every()[way]
    line, comment = _shown()[way]
    name, inside = way.rpartition(".")[2], "[]" in way
    said = re.search(rf"`{name}`[^`]*\(default ([^\s,)]+)" if inside else r"Default: (.+?)\.(?: |$)", comment)
    if field.is_required() or name == "kind":
        assert said is None
        assert "Required." in comment
        return
    assert inside or "Required." not in comment
    if field.default in (None, (), {}):
        assert said[1] in {"all", "none", "[]"} if said else "No default." in comment
    else:
        shown = tomllib.loads(f"x = {said[1] if said else line.partition(' = ')[2]}")["x"]
        annotation: Any = field.annotation
        setting: TypeAdapter[object] = TypeAdapter(Annotated[annotation, way, *field.metadata])
        assert setting.validate_python(shown, strict=False) == field.default
