"""The configuration: what is taken, and what is refused and in which words."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service import config, ids
from service.api.auth import digest
from service.config import Config
from service.errors import ConfigError
from service.guard.limits import Rate
from service.phone import REFUSABLE
from service.providers import KINDS
from service.providers.webhook import Webhook
from service.sealing import KeyRing
from service.texts import Texts
from tests.world import KEY, NEXT_SECRET_KEY, SECRET_KEY, WEBHOOK_SECRET, Table, table


def problems(data: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The problems of a configuration that must have some, by their keys."""
    with pytest.raises(ConfigError) as caught:
        config.check(data, KINDS, environment or {})
    found = dict(caught.value.problems)
    assert len(found) == len(caught.value.problems), "a key has more than one problem"
    return found


def accepted(data: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Config:
    """A configuration that must have no problem."""
    return config.check(data, KINDS, environment or {})


def top(**tables: object) -> Table:
    """A configuration with other tables at its top."""
    return table(_top=tables)


def server(**changes: object) -> Table:
    """A configuration with another `[server]`."""
    return top(server={"public_url": "https://otp.example.com", **changes})


def gateway(**changes: object) -> Table:
    """A configuration with another `[providers.gw]`."""
    data = table()
    data["providers"]["gw"] |= changes
    return data


def sms(*providers: str, **changes: object) -> Table:
    """A step over SMS."""
    return {"channel": "sms", "providers": list(providers), **changes}


# All at once.


def test_every_problem_is_told_at_once_with_its_key() -> None:
    """Whatever stands in the way of one check, the others are made."""
    data = table(
        brand="",
        ttl="soon",
        checks=0,
        colour="red",
        cascade=[sms("nobody"), {"channel": "fax", "providers": ["gw"]}],
        allow_types=["landline"],
        locale="tlh",
        _top={
            "redis": "env:REDIS_URL",
            "shards": 5000,
            "server": {"api": "8080", "logs": "info"},
            "secrets": {"keys": [SECRET_KEY, "c2hvcnQ="]},
            "guard": {"limits": {"number": ["5 per minute"]}},
        },
    )
    data["providers"]["pigeon"] = {"kind": "pigeon"}
    del data["providers"]["voice"]["secret"]
    assert set(problems(data)) == {
        "applications.shop.allow_types",
        "applications.shop.brand",
        "applications.shop.cascade[0].providers",
        "applications.shop.cascade[1].channel",
        "applications.shop.checks",
        "applications.shop.colour",
        "applications.shop.locale",
        "applications.shop.ttl",
        "guard.limits.number[0]",
        "providers.pigeon.kind",
        "providers.voice.secret",
        "redis",
        "secrets.keys[1]",
        "server.api",
        "server.logs",
        "server.public_url",
        "shards",
    }


def test_an_empty_variable_or_file_is_a_secret_that_did_not_arrive(tmp_path: Path) -> None:
    """It never becomes an empty key."""
    empty = tmp_path / "empty"
    empty.write_text("\n")
    data = table(brand="env:EMPTY", _top={"secrets": {"keys": [f"file:{empty}"]}})
    found = problems(data, {"EMPTY": ""})
    assert found["applications.shop.brand"] == "the environment variable EMPTY is empty"
    assert found["secrets.keys[0]"] == f"the file {empty} is empty"


def test_a_problem_never_has_the_key_of_a_neighbour() -> None:
    """What cannot be read in a list does not move what comes after it."""
    steps = [sms("nobody"), {"channel": "fax", "providers": ["gw"]}, {"channel": "voice", "providers": ["nobody"]}]
    first, second, third = (f"applications.shop.cascade[{index}]" for index in range(3))
    found = set(problems(table(cascade=steps)))
    assert {f"{first}.providers", f"{second}.channel"} <= found
    assert found <= {f"{first}.providers", f"{second}.channel", f"{third}.providers"}


def test_the_error_reads_as_one_line_for_each_problem() -> None:
    """The text of a ConfigError is its problems, sorted by key."""
    with pytest.raises(ConfigError) as caught:
        accepted(table(sends=0, checks=0))
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["applications.shop.checks", "applications.shop.sends"]


def test_what_is_missing_is_called_needed() -> None:
    """An application needs a brand, a key and a cascade; a step its providers; a gateway its address and secret."""
    data = top(applications={"shop": {}, "other": {}}, providers={"gw": {"kind": "webhook"}})
    needed = {f"applications.{name}.{key}" for name in ("shop", "other") for key in ("brand", "api_keys", "cascade")}
    found = problems(data)
    assert {key for key, message in found.items() if message == "needed"} == needed | {
        "providers.gw.url",
        "providers.gw.secret",
    }


def test_where_a_table_belongs_one_is_asked_for() -> None:
    """In words of the file, not of the code."""
    data = top(server=5, applications={"shop": "Shop"}, guard={"limits": []})
    found = problems(data)
    assert {found[key] for key in ("server", "applications.shop", "guard.limits")} == {"write a table"}


def test_what_an_empty_file_lacks_is_an_application() -> None:
    """All else has a default."""
    assert problems({}) == {"applications": "write a table for each application: [applications.name]"}


def test_a_problem_has_no_echo() -> None:
    """A key that cannot be used is not missing too, nor is an address that cannot be read."""
    assert set(problems(top(redis="redis://h", secrets={"keys": ["short"]}))) == {"secrets.keys[0]"}
    assert set(problems(server(public_url="otp.example.com"))) == {"server.public_url"}


# Names.


@pytest.mark.parametrize(
    ("data", "key", "meant"),
    [
        (top(shard=4), "shard", "shards"),
        (top(provider={}), "provider", "providers"),
        (server(log_levle="info"), "server.log_levle", "log_level"),
        (top(guard={"limit": {}}), "guard.limit", "limits"),
        (top(guard={"limits": {"numbers": []}}), "guard.limits.numbers", "number"),
        (table(code_lenght=6), "applications.shop.code_lenght", "code_length"),
        (table(cascade=[sms("gw", waits="20s")]), "applications.shop.cascade[0].waits", "wait"),
        (
            table(cascade_by_prefix={"+91": [sms("gw"), sms("gw", provider="gw")]}),
            'applications.shop.cascade_by_prefix."+91"[1].provider',
            "providers",
        ),
        (
            table(api_keys=[{"hash": digest(KEY), "scope": ["read"]}]),
            "applications.shop.api_keys[0].scope",
            "scopes",
        ),
        (gateway(secrets="x"), "providers.gw.secrets", "secret"),
        (gateway(kind="webhoook"), "providers.gw.kind", "webhook"),
        (table(cascade=[sms("voce")]), "applications.shop.cascade[0].providers", "voice"),
        (table(allow_types=["satelite"]), "applications.shop.allow_types", "satellite"),
        (table(locale="pt-BX"), "applications.shop.locale", "pt-BR"),
    ],
)
def test_a_misspelt_name_comes_with_the_one_that_was_meant(data: Table, key: str, meant: str) -> None:
    """At the top, in tables, in lists of tables, in tables by name."""
    assert f"did you mean {meant!r}?" in problems(data)[key]


def test_a_name_like_no_other_is_just_unknown() -> None:
    """A far-fetched suggestion would help nobody."""
    assert problems(top(zebra=1)) == {"zebra": "unknown key"}


@pytest.mark.parametrize("name", ["Shop", "my shop", "", "-shop", "s" * 33, "schön"])
def test_applications_and_providers_have_plain_names(name: str) -> None:
    """Their names are in metrics and URLs."""
    data = table()
    data["applications"][name] = data["applications"].pop("other")
    data["providers"][name] = {"kind": "console"}
    quoted = name if re.fullmatch("[A-Za-z0-9_-]+", name) else f'"{name}"'
    assert set(problems(data)) == {f"applications.{quoted}", f"providers.{quoted}"}


@pytest.mark.parametrize("kind", [None, ["webhook"], {"a": 1}, 7, ""])
def test_a_provider_says_its_kind(kind: object) -> None:
    """Whatever stands there instead, the kinds that there are are named."""
    data = table()
    data["providers"]["gw"] = {} if kind is None else {"kind": kind}
    assert all(", ".join(sorted(KINDS)) in message for message in problems(data).values())


# Values from elsewhere.


def test_a_value_may_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """In any table and list; the white space at the ends of a file is not part of the value."""
    (tmp_path / "secret").write_text(f"{WEBHOOK_SECRET}\n")
    data = gateway(secret=f"file:{tmp_path}/secret") | {"redis": "env:URL", "secrets": {"keys": ["env:K"]}}
    data["applications"]["shop"]["test_numbers"] = {"+447700900123": "env:CODE"}
    found = accepted(data, {"URL": "rediss://h/1", "K": SECRET_KEY, "CODE": "424242"})
    assert found.settings.redis.get_secret_value() == "rediss://h/1"
    assert config.key_bytes(found) == [base64.b64decode(SECRET_KEY)]
    assert found.settings.applications["shop"].test_numbers == {"+447700900123": "424242"}
    assert found.providers["gw"] == Webhook.model_validate(table()["providers"]["gw"])


def test_without_an_environment_given_it_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`env:` reads the variables that verifyd was started with."""
    monkeypatch.setenv("VERIFYD_TEST_BRAND", "From outside")
    found = config.check(table(brand="env:VERIFYD_TEST_BRAND"), KINDS)
    assert found.settings.applications["shop"].brand == "From outside"


def test_what_is_not_there_is_named_and_nothing_else_said_of_it(tmp_path: Path) -> None:
    """Neither a variable nor a file that is missing is then judged as a value."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    data = table(
        brand=f"file:{tmp_path}/nothing",
        api_keys=["env:HASH"],
        _top={"redis": "env:URL", "secrets": {"keys": [f"file:{tmp_path}/binary"]}},
    )
    data["applications"]["other"]["brand"] = f"file:{tmp_path}"
    data["providers"]["gw"]["secret"] = "file:\0"
    assert problems(data) == {
        "redis": "the environment variable URL is not set",
        "applications.shop.api_keys[0]": "the environment variable HASH is not set",
        "applications.shop.brand": f"the file {tmp_path}/nothing cannot be read",
        "applications.other.brand": f"the file {tmp_path} cannot be read",
        "secrets.keys[0]": f"the file {tmp_path}/binary cannot be read",
        "providers.gw.secret": "the file \0 cannot be read",
    }


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path: Path) -> None:
    """Its path stands where the key would."""
    for content in (None, b"redis = ", b"\xff"):
        path = tmp_path / "otp.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            config.load(path, KINDS)
        assert [key for key, _ in caught.value.problems] == [str(path)]


# Values.


@pytest.mark.parametrize(
    ("written", "seconds"), [("45s", 45), ("10m", 600), ("24h", 86_400), ("1d", 86_400), (90, 90), ("030s", 30)]
)
def test_durations_are_a_number_and_a_unit(written: object, seconds: int) -> None:
    """A bare number is in seconds."""
    assert accepted(table(ttl=written)).settings.applications["shop"].ttl == seconds


@pytest.mark.parametrize(
    "written",
    ["", "10", "m", "10 m", "1.5m", "-1m", "10M", "1w", "1h30m", "29s", "25h", "٣m", 1.5, True, [], "9999999s"],
)
def test_other_durations_are_refused(written: object) -> None:
    """Nothing is guessed, and every duration has its limits."""
    assert set(problems(table(ttl=written))) == {"applications.shop.ttl"}


def test_rates_are_a_count_and_a_duration() -> None:
    """They read back as they were written, in the largest unit that fits."""
    limits = {"number": ["1/30s", "5/600s", "3/1d"]}
    found = accepted(top(guard={"limits": limits})).settings.guard.limits.number
    assert found == (Rate(1, 30), Rate(5, 600), Rate(3, 86_400))
    assert [str(rate) for rate in found] == ["1/30s", "5/10m", "3/1d"]


@pytest.mark.parametrize(
    "written", ["", "5", "5/", "/10m", "0/10m", "-1/1m", "5/0s", "5/10", "5 / 10m", "1e3/1m", 5, []]
)
def test_other_rates_are_refused(written: object) -> None:
    """Each with an example of one that is right, or with what it lacks."""
    found = problems(top(guard={"limits": {"number": ["1/30s", written]}}))
    assert set(found) == {"guard.limits.number[1]"}
    assert re.search(r'"5/10m"|"10m"|a duration above zero', found["guard.limits.number[1]"])


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8080", "localhost:0", "[::1]:8080", "otp.internal:65535", "unix:/run/api"]
)
def test_addresses_are_host_and_port_or_a_socket(address: str) -> None:
    """As `server.api` they are taken as written."""
    assert accepted(server(api=address)).settings.server.api == address


@pytest.mark.parametrize(
    "address", ["", "8080", ":8080", "localhost", "localhost:", "localhost:http", "h:65536", "h:-1", "unix:api", 8080]
)
def test_other_addresses_are_refused(address: object) -> None:
    """On every listener."""
    data = server(api=address, receipts=address, ops=address)
    assert set(problems(data)) == {"server.api", "server.receipts", "server.ops"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6380/3",
        "redis://user:pa%2Fss@h:6379/0",
        "rediss://:password@h",
        "redis://[::1]:6379",
        "redis+sentinel://h/mymaster",
        "redis+sentinel://user:password@a:26379,b:26380,c/mymaster/2",
        "rediss+sentinel://a/mymaster",
        "redis+cluster://a:7000,b:7001,c",
        "rediss+cluster://:password@a:7000",
        "memory://",
    ],
)
def test_redis_is_alone_under_sentinels_or_a_cluster(url: str) -> None:
    """With TLS or without; only `memory:` is embedded."""
    found = accepted(top(redis=url))
    assert found.settings.redis.get_secret_value() == url
    assert found.embedded is (url == "memory://")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "redis://",
        "http://h",
        "unix:///run/redis",
        "redis+cloud://h",
        "redis+sentinel://h",
        "redis+sentinel://h/mymaster/two",
        "redis+cluster://",
        "redis+cluster://a,:7000",
        "redis://h:port",
        "redis://h:70000",
        "redis://[::1",
        "redis://h?db=two",
        "redis://user:slash/in-password@h",
    ],
)
def test_other_redis_urls_are_refused_without_a_word_of_them(url: str) -> None:
    """What cannot be read may be a password: only what could be written is shown."""
    found = problems(top(redis=url))
    assert set(found) == {"redis"}
    assert "redis+sentinel://host:26379/mymaster" in found["redis"]
    assert "in-password" not in found["redis"]
    assert "slash" not in found["redis"]


def test_a_redis_needs_a_key() -> None:
    """Replicas must share it; the embedded store alone may do with one of its own."""
    assert set(problems(top(redis="redis://h", secrets={}))) == {"secrets.keys"}
    assert config.key_bytes(accepted(top(secrets={}))) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "not base64!",
        "schlüssel",
        base64.b64encode(b"k" * 31).decode(),
        base64.b64encode(b"k" * 33).decode(),
        "k" * 32,
        base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        "  " + SECRET_KEY,
    ],
)
def test_a_key_is_32_bytes_in_base64(key: str) -> None:
    """The problem says who makes one."""
    assert "verifyd keys" in problems(top(secrets={"keys": [SECRET_KEY, key]}))["secrets.keys[1]"]


def test_a_key_is_in_the_ring_once() -> None:
    """However its base64 is written: the last two bits of this one mean nothing."""
    assert SECRET_KEY.endswith("E=")
    for other in (SECRET_KEY, SECRET_KEY.removesuffix("E=") + "F="):
        assert set(problems(top(secrets={"keys": [SECRET_KEY, NEXT_SECRET_KEY, other]}))) == {"secrets.keys"}
    keys = config.key_bytes(accepted(top(secrets={"keys": [SECRET_KEY, NEXT_SECRET_KEY]})))
    assert keys == [base64.b64decode(SECRET_KEY), base64.b64decode(NEXT_SECRET_KEY)]


def test_an_api_key_is_a_hash_alone_or_with_what_it_may_do() -> None:
    """Alone it may verify, from everywhere."""
    given = [digest("a"), {"hash": digest("b"), "scopes": ["read", "guard"], "allow_from": ["10.0.0.0/8", "::1"]}]
    one, other = accepted(table(api_keys=given)).settings.applications["shop"].api_keys
    assert (one.hash, one.scopes, one.allow_from) == (digest("a"), ("verify",), ())
    assert (other.scopes, other.allow_from) == (("read", "guard"), ("10.0.0.0/8", "::1/128"))


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("vk_the-key-itself", "[0].hash"),
        (digest(KEY).upper(), "[0].hash"),
        (digest(KEY)[:-1], "[0].hash"),
        ({}, "[0].hash"),
        ({"hash": digest(KEY), "scopes": ["write"]}, "[0].scopes[0]"),
        ({"hash": digest(KEY), "scopes": "read"}, "[0].scopes"),
        ({"hash": digest(KEY), "allow_from": ["10.0.0.1/8"]}, "[0].allow_from[0]"),
        ({"hash": digest(KEY), "allow_from": ["::/0", "office"]}, "[0].allow_from[1]"),
    ],
)
def test_other_api_keys_are_refused(key: object, where: str) -> None:
    """A key that is not hashed, an unknown scope, a network that has host bits or is none."""
    found = problems(table(api_keys=[key]))
    assert set(found) == {f"applications.shop.api_keys{where}"}
    assert "the-key-itself" not in str(found)


def test_an_api_key_opens_one_application() -> None:
    """The second to have it is told whose it is."""
    found = problems(table(api_keys=[digest("x"), digest("x"), digest("vk_other")]))
    assert found == {
        "applications.shop.api_keys[1]": "this key is already that of shop",
        "applications.other.api_keys[0]": "this key is already that of shop",
    }


@pytest.mark.parametrize("field", ["cascade", "cascade_by_prefix"])
def test_a_step_is_for_a_channel_of_its_own_and_providers_that_carry_it(field: str) -> None:
    """In the general cascade and in those by prefix."""
    steps = [
        sms("gw", "nobody"),
        {"channel": "whatsapp", "providers": ["gw", "voice"]},
        sms("voice", wait="0s"),
        {"channel": "voice", "providers": [], "wait": "16m"},
    ]
    by_prefix = field == "cascade_by_prefix"
    path = 'applications.shop.cascade_by_prefix."+91"' if by_prefix else "applications.shop.cascade"
    found = problems(table(**{field: {"+91": steps} if by_prefix else steps}))
    assert {key.removeprefix(path) for key in found} == {
        "[0].providers",
        "[1].providers",
        "[2]",
        "[2].wait",
        "[3].providers",
        "[3].wait",
    }
    assert found[f"{path}[0].providers"] == "no provider 'nobody'"
    assert found[f"{path}[1].providers"] == "voice does not carry whatsapp; it carries sms, voice"
    assert found[f"{path}[2]"] == "sms has a step already: list all its providers there"


def test_a_provider_of_a_step_has_a_weight_and_numbers_that_it_is_for() -> None:
    """Each within its range, and no provider twice."""
    routes = [{"provider": "gw", "weight": 0}, {"provider": "voice", "countries": ["UK"], "prefixes": ["44"]}]
    found = problems(table(cascade=[{"channel": "sms", "providers": routes}]))
    path = "applications.shop.cascade[0].providers"
    assert set(found) == {f"{path}[0].weight", f"{path}[1].countries[0]", f"{path}[1].prefixes[0]"}
    found = problems(table(cascade=[sms("gw", "gw", wait="auto", wait_least="2m")]))
    assert found == {
        path: "a provider is named twice",
        "applications.shop.cascade[0].wait_most": "write at least wait_least",
    }
    step = accepted(table(cascade=[sms("gw", wait="auto")])).settings.applications["shop"].cascade[0]
    assert (step.wait, step.wait_least, step.wait_most) == (None, 10, 60)


def test_a_cascade_has_a_step_and_its_prefix_is_one() -> None:
    """A prefix begins with a plus and a calling code."""
    assert set(problems(table(cascade=[]))) == {"applications.shop.cascade"}
    assert set(problems(table(cascade_by_prefix={"+91": []}))) == {'applications.shop.cascade_by_prefix."+91"'}
    for prefix in ("91", "+", "+0", "0044", "+1-2", "+1234567890123456"):
        found = problems(table(cascade_by_prefix={prefix: [sms("gw")]}))
        assert [key.replace('"', "") for key in found] == [f"applications.shop.cascade_by_prefix.{prefix}"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("447700900123", "424242"),
        ("+0447700900123", "424242"),
        ("+44 7700 900123", "424242"),
        ("+447", "424242"),
        ("+447700900123", "123"),
        ("+447700900123", "12345678901"),
        ("+447700900123", "12a4"),
        ("+447700900123", 424242),
    ],
)
def test_a_test_number_is_e164_and_its_code_digits(number: str, code: object) -> None:
    """A problem with one shows no more of it than tells it from others."""
    [key] = problems(table(test_numbers={number: code}))
    assert key.startswith("applications.shop.test_numbers.")
    assert not re.search(r"[0-9]{4}", key)


def test_own_texts_have_known_channels_and_placeholders() -> None:
    """What `service.texts` refuses is told under its place."""
    texts = {"en": {"login": {"sms": "Hello", "fax": "{code}"}, "signup": {"sms": "{code} {name}"}}}
    assert problems(table(texts=texts)) == {
        "applications.shop.texts.en.login.sms": "lacks {code}",
        "applications.shop.texts.en.login.fax": "unknown channel, known are email, sms, telegram, voice, whatsapp",
        "applications.shop.texts.en.signup.sms": "unknown placeholder {name}",
    }


def test_a_locale_is_one_that_there_are_texts_for() -> None:
    """Of those built in, or of the application's own."""
    own = {"tlh": {"default": {"sms": "{code}"}}}
    assert accepted(table(locale="tlh", texts=own)).settings.applications["shop"].locale == "tlh"
    for locale in Texts().locales:
        assert accepted(table(locale=locale)).settings.applications["shop"].locale == locale


def test_countries_are_codes_in_capitals() -> None:
    """One that is none is named by its place."""
    assert accepted(table(countries=["GB", "US"])).settings.applications["shop"].countries == ("GB", "US")
    found = problems(table(countries=["GB", "gb", "UK", "GBR", ""]))
    assert set(found) == {f"applications.shop.countries[{index}]" for index in (1, 2, 3, 4)}


def test_allowed_types_are_those_that_are_refused_otherwise() -> None:
    """There is nothing to allow in a mobile number, and nothing that could reach a pager."""
    assert accepted(table(allow_types=sorted(REFUSABLE)))
    for kind in ("mobile", "pager", "", "Satellite"):
        assert ", ".join(sorted(REFUSABLE)) in problems(table(allow_types=[kind]))["applications.shop.allow_types"]


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("code_length", 4, 10),
        ("ttl", 30, 86_400),
        ("checks", 1, 20),
        ("wrong_checks_per_day", 1, 1000),
        ("sends", 1, 20),
    ],
)
def test_numbers_have_a_least_and_a_most(field: str, least: int, most: int) -> None:
    """Both are taken, what is beyond them is not."""
    for value in (least, most):
        assert getattr(accepted(table(**{field: value})).settings.applications["shop"], field) == value
    for value in (least - 1, most + 1):
        assert set(problems(table(**{field: value}))) == {f"applications.shop.{field}"}


def test_a_receipt_address_has_room_where_a_provider_limits_it() -> None:
    """The last delivery's would be cut, or the message refused."""
    data = table(cascade=[sms("vonage_sms")])
    data["providers"]["vonage_sms"] = {"kind": "vonage_sms", "api_key": "k", "api_secret": "s", "sms_from": "Shop"}
    delivery = f"{ids.new(0)}.99"
    token = f"{delivery}.{KeyRing([b'k' * 32]).writer.token(delivery, 'vonage_sms')}"
    data["server"]["public_url"] = url = "https://otp.our-example.org"
    assert len(f"{url}/receipts/vonage_sms/{token}") == 100
    accepted(data)
    data["server"]["public_url"] = f"{url}/otp"
    assert problems(data) == {
        "providers.vonage_sms": (
            "it takes receipt addresses of 100 characters: shorten its name or server.public_url by 4"
        )
    }


def test_providers_that_report_need_to_know_where() -> None:
    """The console and a mail relay report nothing, and the simulator from within."""
    data = top(server={})
    assert problems(data) == {"server.public_url": "needed: gw, voice must know where to send receipts"}
    steps = [sms("terminal")]
    relay = {"kind": "smtp", "host": "mail.example.com", "sender": "otp@example.com"}
    phone = {"kind": "simulator"}
    data["providers"] = {"terminal": {"kind": "console"}, "relay": relay, "phone": phone}
    data["applications"] = {"shop": data["applications"]["shop"] | {"cascade": steps}}
    assert accepted(data).settings.server.public_url is None


@pytest.mark.parametrize(
    "url", ["otp.example.com", "ftp://h", "https://", "https://h?a=b", "https://u:p@h", "https://h h"]
)
def test_a_public_url_is_one_that_paths_can_follow(url: str) -> None:
    """Neither a query nor a login."""
    assert set(problems(server(public_url=url))) == {"server.public_url"}


def test_a_public_url_loses_its_last_slash() -> None:
    """So that paths can be put behind it."""
    found = accepted(server(public_url="https://example.com/otp/")).settings.server.public_url
    assert found == "https://example.com/otp"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"url": "gw.example/send"}, "url"),
        ({"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "secret"),
        ({"secret": "whsec_?"}, "secret"),
        ({"old_secret": "whsec_?"}, "old_secret"),
        ({"channels": []}, "channels"),
        ({"channels": ["fax"]}, "channels[0]"),
        ({"channels": "sms"}, "channels"),
    ],
)
def test_a_gateway_has_an_address_a_secret_and_channels(changes: Table, key: str) -> None:
    """Each is judged."""
    assert f"providers.gw.{key}" in problems(gateway(**changes))


SHORT_CODES: Table = {
    "tg": {"kind": "telegram", "api_token": "a-token"},
    "calls": {"kind": "prelude", "api_key": "a-key", "voice": True, "sms_template": "t"},
}
"""Providers that take 8 digits: over Telegram, and in calls but not in texts."""


def with_short_codes(**changes: object) -> Table:
    """An application that sends over them."""
    by_prefix = {"+49": [{"channel": "voice", "providers": ["voice", "calls"]}]}
    steps = [{"channel": "telegram", "providers": ["tg"]}, sms("calls")]
    data = table(cascade=steps, cascade_by_prefix=by_prefix, **changes)
    data["providers"] |= SHORT_CODES
    return data


def test_a_provider_of_a_step_takes_codes_as_long_as_the_applications() -> None:
    """Those that their vendors would refuse, all of them, are no step."""
    accepted(with_short_codes(code_length=8))
    assert problems(with_short_codes(code_length=9)) == {
        "applications.shop.cascade[0].providers": (
            "tg takes codes of 8 digits at most over telegram; code_length is 9"
        ),
        'applications.shop.cascade_by_prefix."+49"[0].providers': (
            "calls takes codes of 8 digits at most over voice; code_length is 9"
        ),
    }
