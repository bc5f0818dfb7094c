"""Whoever takes all of Redis learns no number and no code, not even by trying all of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from argon2.low_level import Type, hash_secret_raw
from redis import Redis

from service.sealing import KeyRing
from tests.providers.test_simulator import simulated
from tests.redis_server import RedisServer
from tests.world import OTHER_KEY, SECRET_KEY, SUBSCRIBER, WEBHOOK_SECRET, World, world, wrong

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

NUMBERS = [f"+4474001{n:05d}" for n in (41906, 52817, 63728, 74639, 85541, 96452, 17363, 28274, 39185)]
TEST_NUMBER, TEST_CODE = "+447400990817", "731946"
SHORT_CODE = "0417"
PAYEE = "Ottokar Vale"

HASHES = (
    "md5",
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3_224",
    "sha3_256",
    "sha3_384",
    "sha3_512",
    "blake2b",
    "blake2s",
)
PREFIX = 8
"""Bytes of a hash that are looked for: a longer piece of it contains them."""
LONGEST_ALONE = 7
"""Digits up to which a code is looked for as a number of its own: as a piece of a longer one it turns up by chance."""
FEWEST_BYTES = 5
"""Shorter bytes turn up in sealed values by chance."""
RECORD = struct.Struct(">4sIBB16s16s")
"""A stored code: key id, memory (KiB), passes, lanes, salt, tag."""


@dataclass
class Dump:
    """Every key with its values, in bytes."""

    entries: dict[bytes, list[bytes]]
    ttl: dict[bytes, int] = field(default_factory=dict)

    @property
    def whole(self) -> bytes:
        """All of it in one piece."""
        return b"\n".join(part for key, values in self.entries.items() for part in (key, *values))

    @property
    def parts(self) -> set[bytes]:
        """Every key and every value."""
        return {part for key, values in self.entries.items() for part in (key, *values)}

    def verifications(self) -> dict[str, dict[bytes, bytes]]:
        """The fields of every verification by its id."""
        return {
            key.decode().partition(":")[2]: dict(zip(values[::2], values[1::2], strict=True))
            for key, values in self.entries.items()
            if b"}:ver_" in key
        }


@dataclass(frozen=True)
class Secret:
    """A number, a verification of it, and its code."""

    number: str
    verification: str
    code: str

    @property
    def plain(self) -> dict[str, str]:
        """The number and the code as people write them."""
        digits = self.number[1:]
        national = digits[2:]
        return {
            "number": self.number,
            "digits": digits,
            "national": national,
            "national with trunk prefix": f"0{national}",
            "national in groups": f"0{national[:4]} {national[4:]}",
            "code": self.code,
        }

    @property
    def hashed(self) -> list[str]:
        """What somebody might hash: the number, the code, and the code with what it belongs to."""
        digits = self.number[1:]
        owners = (self.verification, self.number, digits)
        joined = [f"{owner}{mark}{self.code}" for owner in owners for mark in ("", ":")]
        return [self.number, digits, digits[2:], f"0{digits[2:]}", self.code, *joined]


def dump(server: RedisServer) -> Dump:
    """Everything that is in Redis."""
    with Redis.from_url(server.url) as client:
        found = Dump({})
        for key in client.keys("*"):
            found.ttl[key] = client.pttl(key)
            match client.type(key):
                case b"string":
                    found.entries[key] = [client.get(key)]
                case b"hash":
                    found.entries[key] = [part for item in client.hgetall(key).items() for part in item]
                case b"list":
                    found.entries[key] = client.lrange(key, 0, -1)
                case b"stream":
                    found.entries[key] = [part for _, item in client.xrange(key) for part in item.values()]
                case b"zset":
                    found.entries[key] = client.zrange(key, 0, -1)
                case other:
                    raise AssertionError(f"a {other!r} that this test cannot read")
    return found


def written(name: str, text: str) -> Iterator[tuple[str, bytes]]:
    """The ways to write a number or a code, each with its name."""
    for way, form in ((name, text), (f"{name} reversed", text[::-1])):
        raw = form.encode()
        yield way, raw
        yield f"{way} in hex", raw.hex().encode()
        yield f"{way} in UTF-16", form.encode("utf-16-le")
        for shift in range(3):
            yield f"{way} in base64, {shift} bytes in", based(raw, shift)
            yield f"{way} in URL-safe base64, {shift} bytes in", based(raw, shift).translate(_URL_SAFE)
    if text.isdecimal():
        even = text if len(text) % 2 == 0 else f"{text}f"
        packed = bytes.fromhex(even)
        yield f"{name} in BCD", packed
        yield (
            f"{name} in BCD, nibbles swapped",
            bytes.fromhex("".join(b + a for a, b in zip(*[iter(even)] * 2, strict=True))),
        )
        size = (int(text).bit_length() + 7) // 8
        yield f"{name} as a number, big end first", int(text).to_bytes(size, "big")
        yield f"{name} as a number, little end first", int(text).to_bytes(size, "little")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def based(raw: bytes, shift: int) -> bytes:
    """The characters of base64 that these bytes alone decide, when so many others stand before them."""
    whole = base64.b64encode(b"\0" * shift + raw)
    return whole[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]


def digests(text: str) -> Iterator[tuple[str, bytes]]:
    """The first and the last bytes of every hash that needs no key, as they are, in hex and in base64."""
    for name in HASHES:
        digest = hashlib.new(name, text.encode()).digest()
        for end, raw in (("first", digest[:PREFIX]), ("last", digest[-PREFIX:])):
            for way, form in in_text(raw):
                yield f"{end} bytes of {name}{way}", form
        yield f"first bytes of {name} in base64", base64.b64encode(digest)[: PREFIX * 8 // 6]
        yield f"first bytes of {name} in URL-safe base64", base64.urlsafe_b64encode(digest)[: PREFIX * 8 // 6]


def in_text(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes as they are and in hex."""
    yield "", raw
    yield " in hex", raw.hex().encode()
    yield " in capital hex", raw.hex().upper().encode()


def checksums(text: str) -> Iterator[tuple[str, bytes]]:
    """CRC-32, which as four bytes can be looked for only as a whole key or value."""
    number = zlib.crc32(text.encode())
    for order in ("big", "little"):
        raw = number.to_bytes(4, "big" if order == "big" else "little")
        yield f"crc32 {order}", raw
        yield f"crc32 {order} in base64", base64.b64encode(raw)
    yield "crc32 in hex", f"{number:08x}".encode()
    yield "crc32 in decimal", str(number).encode()


def leaks(found: Dump, secrets: list[Secret]) -> set[str]:
    """What of these secrets can be read in a dump, by the names of the ways."""
    whole, parts = found.whole, found.parts
    leaking = set()
    for secret in secrets:
        for name, text in secret.plain.items():
            leaking |= {way for way, form in written(name, text) if is_in(form, whole)}
        for text in secret.hashed:
            leaking |= {way for way, form in digests(text) if form in whole}
            leaking |= {way for way, form in checksums(text) if form in parts}
    return leaking


def is_in(form: bytes, whole: bytes) -> bool:
    """Whether a form is there; a code in its digits only where it is not a piece of a longer number, such as a time."""
    if form.isdigit() and len(form) <= LONGEST_ALONE:
        return re.search(rb"(?<!\d)" + form + rb"(?!\d)", whole) is not None
    return len(form) >= FEWEST_BYTES and form in whole


def argon2id(record: bytes, secret: bytes) -> bool:
    """Whether a stored code is argon2id over these bytes alone."""
    _, memory, passes, lanes, salt, tag = RECORD.unpack(record)
    made = hash_secret_raw(
        secret, salt, time_cost=passes, memory_cost=memory, parallelism=lanes, hash_len=len(tag), type=Type.ID
    )
    return bool(made == tag)


def unpeppered(secret: Secret, code: str) -> list[bytes]:
    """What argon2id would run over if there were no pepper."""
    owners = ("", secret.verification, secret.number, secret.number[1:])
    return [f"{owner}{mark}{code}".encode() for owner in owners for mark in (("", ":") if owner else ("",))]


async def traffic(one: World) -> list[Secret]:
    """A bit of everything, ended in every way; what was secret in it."""
    secrets = []

    async def start(to: str, key: str | None = None, **fields: object) -> Secret:
        headers = {"idempotency_key": f"create {to}"}
        metadata = {"phone": to}
        answer = await one.post(
            "/verifications", {"to": to, "metadata": metadata, **fields}, **({"key": key} if key else {}), **headers
        )
        assert answer.status_code == 201, answer.text
        await one.work()
        secret = Secret(to, answer.json()["id"], one.gateway.last.code)
        secrets.append(secret)
        return secret

    async def guess(secret: Secret, code: str, **fields: object) -> None:
        body = {"to": secret.number, "code": code, **fields}
        answer = await one.post("/verifications/check", body, idempotency_key=f"check {secret.number} {code}")
        assert answer.status_code == 200, answer.text

    waiting, approved, canceled, exhausted, expired, paid, own, refused, elsewhere = NUMBERS
    await start(waiting)
    await guess(secrets[-1], wrong(secrets[-1].code))
    await one.report(one.gateway.last, "sent")
    await start(approved)
    await one.report(one.gateway.last, "delivered")
    await guess(secrets[-1], secrets[-1].code)
    await start(canceled)
    await one.post(f"/verifications/{secrets[-1].verification}/cancel")
    await start(exhausted)
    for k in range(5):
        await guess(secrets[-1], f"{(int(secrets[-1].code) + 1 + k) % 10**6:06d}")
    await start(expired)
    with Redis.from_url(one.service.config.settings.redis.get_secret_value()) as client:
        # Its time is over now: the clock of a real Redis cannot be set.
        (key,) = client.keys(f"*}}:{secrets[-1].verification}")
        client.hset(key, "expires", 1)
    await guess(secrets[-1], secrets[-1].code)
    transaction = {"amount": "EUR 12.50", "payee": PAYEE}
    await start(paid, transaction=transaction)
    await guess(secrets[-1], wrong(secrets[-1].code), transaction=transaction)
    await start(own, code=SHORT_CODE)
    await guess(secrets[-1], "0418")
    one.gateway.refuse("opted_out")
    await start(refused)
    one.gateway.refuse("opted_out", "none")
    await start(elsewhere, key=OTHER_KEY)
    answer = await one.post("/verifications", {"to": TEST_NUMBER})
    secrets.append(Secret(TEST_NUMBER, answer.json()["id"], TEST_CODE))
    return secrets


async def test_a_dump_tells_no_number_and_no_code(server: RedisServer) -> None:
    """In no writing and under no hash that needs no key; every key ends by itself; what has ended keeps no code."""
    top = {"redis": server.url, "shards": 8}
    events = {"url": f"https://{SUBSCRIBER}", "secret": WEBHOOK_SECRET}
    async with world(_top=top, own_code=True, test_numbers={TEST_NUMBER: TEST_CODE}, events=events) as one:
        one.subscriber.answer = lambda _: 500  # so that events wait in all the places that they go through
        secrets = await traffic(one)
        found = dump(server)
        verifications = found.verifications()
        assert len(verifications) == len(secrets)
        assert leaks(found, secrets) == set()
        assert PAYEE.encode() not in found.whole

        live = {name for name, fields in verifications.items() if fields[b"status"] in {b"pending", b"undeliverable"}}
        statuses = [verifications[secret.verification][b"status"].decode() for secret in secrets]
        assert statuses == [
            "pending",
            "approved",
            "canceled",
            "max_attempts_reached",
            "expired",
            "pending",
            "pending",
            "undeliverable",
            "pending",
            "pending",
        ]
        for name, fields in verifications.items():
            assert (b"code" in fields) == (name in live)
            if name not in live:
                assert not {b"secret", b"extra"} & fields.keys()
        due = {key for key in found.entries if key.endswith(b":due")}
        assert {name.decode() for key in due for name in found.entries[key]} == live
        assert [key for key in found.entries if found.ttl[key] <= 0 and key not in due] == []


async def test_the_inbox_of_the_simulator_tells_none_either(server: RedisServer) -> None:
    """Though it shows both to whoever may read it."""
    changes = simulated(open=True)
    changes["_top"] |= {"redis": server.url}
    async with world(**changes) as one:
        started = await one.create(NUMBERS[0])
        (message,) = (await one.ops.get("/inbox")).json()["messages"]
        code = re.findall(r"\d{6}", message["text"])[0]
        found = dump(server)
        assert message["to"] == NUMBERS[0]
        assert b"verifyd:inbox" in found.entries
        assert leaks(found, [Secret(NUMBERS[0], started["id"], code)]) == set()


async def test_no_stored_code_is_found_by_trying_all(server: RedisServer) -> None:
    """argon2id with the stored salt and costs runs over something that only the pepper can make."""
    async with world(_top={"redis": server.url}, own_code=True) as one:
        started = await one.create(NUMBERS[0], code=SHORT_CODE)
        secret = Secret(NUMBERS[0], started["id"], SHORT_CODE)
        record = dump(server).verifications()[secret.verification][b"code"]

        def tried() -> list[str]:
            return [
                f"{n:04d}" for n in range(10**4) if any(argon2id(record, b) for b in unpeppered(secret, f"{n:04d}"))
            ]

        assert await asyncio.to_thread(tried) == []
        # The record is read rightly: with the pepper, it is found.
        pepper = KeyRing([base64.b64decode(SECRET_KEY)]).writer.pepper(secret.verification, secret.code)
        assert argon2id(record, pepper)


@pytest.mark.parametrize(
    ("planted", "way"),
    [
        (b"to=+447400141906;", "number"),
        (b"seen 07400141906", "national with trunk prefix"),
        (b'{"code":"604913"}', "code"),
        (b"code 319406", "code reversed"),
        (hashlib.sha256(b"604913").hexdigest().encode(), "first bytes of sha256 in hex"),
        (hashlib.sha256(b"+447400141906").digest()[:16], "first bytes of sha256"),
        (
            base64.b64encode(hashlib.sha1(b"ver_x:604913", usedforsecurity=False).digest()),
            "first bytes of sha1 in base64",
        ),
        (base64.b64encode(b"xx+447400141906yy"), "number in base64, 2 bytes in"),
        (base64.urlsafe_b64encode(b"604913"), "code in URL-safe base64, 0 bytes in"),
        (bytes.fromhex("00447400141906ff"), "digits in BCD"),
        ((447400141906).to_bytes(8, "little"), "digits as a number, little end first"),
        (f"{zlib.crc32(b'447400141906'):08x}".encode(), "crc32 in hex"),
    ],
)
def test_what_is_planted_is_found(planted: bytes, way: str) -> None:
    """A search that finds nothing would prove nothing."""
    secret = Secret("+447400141906", "ver_x", "604913")
    assert way in leaks(Dump({b"key": [b"harmless", planted]}), [secret])
    assert leaks(Dump({b"key": [b"harmless"]}), [secret]) == set()
