"""Real adapters in a whole service: codes go by SMS, WhatsApp and Telegram, and approvals are told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from tests.world import NUMBER, OTHER_NUMBER, World, table, world, wrong

pytestmark = pytest.mark.anyio

SID = "SM" + "0" * 32
TWILIO = {
    "kind": "twilio",
    "account_sid": "AC" + "0" * 32,
    "auth_token": "a-token-of-twilio",
    "sms_from": "+15005550006",
}
META = {
    "kind": "meta",
    "access_token": "a-token-of-meta",
    "app_secret": "a-secret-of-meta",
    "verify_token": "a-word-of-ours",
    "whatsapp_from": "106540352242922",
    "template": "otp_code",
}
CASCADE = [
    {"channel": "sms", "providers": ["twilio"], "wait": "20s"},
    {"channel": "whatsapp", "providers": ["meta"], "wait": "20s"},
]


class Vendors:
    """Twilio and Meta, as far as a code needs them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Take whatever is asked."""
        body = request.content.decode()
        said = json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
        self.asked.append((request.url.path.rpartition("/")[2], said))
        if request.url.host == "graph.facebook.com":
            return httpx.Response(200, json={"messages": [{"id": "wamid.1"}]})
        return httpx.Response(201, json={"sid": SID, "status": "queued"})


async def test_a_code_goes_by_sms_then_whatsapp_and_its_use_is_told() -> None:
    """Each vendor's own receipts move the cascade; Meta's come to one address for all and name their delivery."""
    vendors = Vendors()
    top = {"providers": {"twilio": TWILIO, "meta": META} | table()["providers"]}
    async with world(vendor=vendors, _top=top, cascade=CASCADE) as one:
        started = await one.create()
        [(_, sms)] = vendors.asked
        assert sms["To"] == NUMBER

        path = sms["StatusCallback"].removeprefix("https://otp.example.com")
        form = {"MessageSid": SID, "MessageStatus": "undelivered", "ErrorCode": "30003"}
        signed = sms["StatusCallback"] + "".join(name + form[name] for name in sorted(form))
        mac = hmac.digest(TWILIO["auth_token"].encode(), signed.encode(), "sha1")
        headers = {"x-twilio-signature": base64.b64encode(mac).decode()}
        assert (await one.receipts.post(path, data=form, headers={"x-twilio-signature": "x"})).status_code == 401
        assert (await one.receipts.post(path, data=form, headers=headers)).status_code == 200
        await one.work()

        [_, (_, whatsapp)] = vendors.asked
        asked = "?hub.mode=subscribe&hub.verify_token=a-word-of-ours&hub.challenge=7"
        assert (await one.receipts.get(f"/receipts/meta{asked}")).text == "7"
        foreign = {"id": "wamid.0", "status": "failed", "biz_opaque_callback_data": "somebody else's"}
        mine = {
            "id": "wamid.1",
            "status": "delivered",
            "biz_opaque_callback_data": whatsapp["biz_opaque_callback_data"],
        }
        body = json.dumps({"entry": [{"changes": [{"value": {"statuses": [foreign, mine]}}]}]})
        mac256 = hmac.new(META["app_secret"].encode(), body.encode(), hashlib.sha256).hexdigest()
        headers = {"x-hub-signature-256": f"sha256={mac256}"}
        assert (await one.receipts.post("/receipts/meta", content=body, headers=headers)).status_code == 200
        assert (await one.receipts.post("/receipts/meta", content=body)).status_code == 401
        found = await one.get(started["id"])
        assert [(d["provider"], d["status"]) for d in found["deliveries"]] == [
            ("twilio", "failed"),
            ("meta", "delivered"),
        ]

        code = whatsapp["template"]["components"][0]["parameters"][0]["text"]
        assert code in sms["Body"]
        assert (await one.check(started["id"], code))["valid"]
        await one.post(f"/verifications/{started['id']}/feedback", {"converted": True})
    assert vendors.asked[2:] == [("Feedback.json", {"Outcome": "confirmed"})]


@pytest.mark.parametrize("name", ["host", "x-forwarded-host", "x-forwarded-prefix", "x-original-url"])
async def test_no_header_says_which_url_was_signed(name: str) -> None:
    """It is made of `public_url` and what was asked for: a receipt stays with the address that it was signed for."""
    top = {"providers": {"twilio": TWILIO} | table()["providers"]}
    async with world(vendor=(vendors := Vendors()), _top=top, cascade=CASCADE[:1]) as one:
        await one.create()
        other = await one.create(OTHER_NUMBER)
        mine, others = (sms["StatusCallback"].removeprefix("https://otp.example.com") for _, sms in vendors.asked)
        form = {"MessageSid": SID, "MessageStatus": "undelivered"}
        signed = f"https://otp.example.com{mine}MessageSid{SID}MessageStatusundelivered"
        mac = hmac.digest(TWILIO["auth_token"].encode(), signed.encode(), "sha1")
        headers = {"x-twilio-signature": base64.b64encode(mac).decode(), name: f"otp.example.com{mine}#"}
        assert (await one.receipts.post(others, data=form, headers=headers)).status_code == 401
        assert (await one.receipts.post(mine, data=form, headers=headers)).status_code == 200
        assert (await one.get(other["id"]))["deliveries"][0]["status"] == "accepted"


async def test_a_signature_that_leaves_the_body_out_holds_for_the_body_that_it_came_with() -> None:
    """Plivo signs a message's receipts by V2, over address and nonce: who saw one cannot write another under it."""
    plivo = {"kind": "plivo", "auth_id": "MA" + "0" * 18, "auth_token": "a-token-of-plivo", "sms_from": "+15005550006"}
    top = {"providers": {"plivo": plivo} | table()["providers"]}
    asked: list[dict[str, Any]] = []

    def vendor(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(202, json={"message_uuid": ["m1"]})

    async with world(vendor=vendor, _top=top, cascade=[{"channel": "sms", "providers": ["plivo"]}]) as one:
        started = await one.create()
        url = asked[0]["url"]

        async def report(status: str, nonce: str) -> int:
            mac = hmac.digest(plivo["auth_token"].encode(), f"{url}{nonce}".encode(), "sha256")
            headers = {"x-plivo-signature-v2": base64.b64encode(mac).decode(), "x-plivo-signature-v2-nonce": nonce}
            form = {"MessageUUID": "m1", "Status": status}
            path = url.removeprefix("https://otp.example.com")
            return (await one.receipts.post(path, data=form, headers=headers)).status_code

        assert [await report("sent", "1"), await report("sent", "1"), await report("failed", "1")] == [200, 200, 401]
        assert (await one.get(started["id"]))["deliveries"][0]["status"] == "sent"
        assert one.metric("otp_receipts_refused_total", provider="plivo", cause="forged") == 1
        assert await report("delivered", "2") == 200
        assert (await one.get(started["id"]))["deliveries"][0]["status"] == "delivered"


async def test_a_code_goes_to_telegram_and_at_once_elsewhere_for_who_is_not_there() -> None:
    """The check decides: a second request with the code, or the next step of the cascade."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def vendors(request: httpx.Request) -> httpx.Response:
        said = json.loads(request.content)
        asked.append((request.url.path.rpartition("/")[2], said))
        if request.url.host == "graph.facebook.com":
            return httpx.Response(200, json={"messages": [{"id": "wamid.1"}]})
        if said["phone_number"] == OTHER_NUMBER:
            return httpx.Response(200, json={"ok": False, "error": "PHONE_NUMBER_NOT_FOUND"})
        return httpx.Response(200, json={"ok": True, "result": {"request_id": "77"}})

    telegram = {"kind": "telegram", "api_token": "a-token-of-telegram"}
    cascade = [{"channel": "telegram", "providers": ["telegram"], "wait": "20s"}, CASCADE[1]]
    top = {"providers": {"telegram": telegram, "meta": META} | table()["providers"]}
    async with world(vendor=vendors, _top=top, cascade=cascade) as one:
        started = await one.create()
        [_, (method, send)] = asked
        assert (method, send["request_id"]) == ("sendVerificationMessage", "77")
        report = {"request_id": "77", "payload": send["payload"], "delivery_status": {"status": "read"}}
        body, time = json.dumps(report), str(int(datetime.now(UTC).timestamp()))
        key = hashlib.sha256(telegram["api_token"].encode()).digest()
        signature = hmac.new(key, f"{time}\n{body}".encode(), "sha256").hexdigest()
        headers = {"x-request-timestamp": time, "x-request-signature": signature}
        path = send["callback_url"].removeprefix("https://otp.example.com")
        assert (await one.receipts.post(path, content=body)).status_code == 401
        assert (await one.receipts.post(path, content=body, headers=headers)).status_code == 200
        assert (await one.get(started["id"]))["deliveries"][0]["status"] == "read"
        assert (await one.check(started["id"], send["code"]))["valid"]

        elsewhere = await one.create(to=OTHER_NUMBER)
        assert [method for method, _ in asked[2:]] == ["checkSendAbility", "messages"]
        found = (await one.get(elsewhere["id"]))["deliveries"]
        assert [(delivery["channel"], delivery["reason"]) for delivery in found] == [
            ("telegram", "not_on_channel"),
            ("whatsapp", None),
        ]


async def test_a_batch_for_a_whole_account_may_be_large() -> None:
    """Meta tells of many messages at once: of ours, and of others'."""
    top = {"providers": {"meta": META} | table()["providers"]}
    async with world(vendor=(vendors := Vendors()), _top=top, cascade=CASCADE[1:]) as one:
        started = await one.create()
        statuses = [{"id": f"wamid.{n}", "status": "read", "biz_opaque_callback_data": "x" * 200} for n in range(300)]
        statuses.append({"id": "wamid.1", "status": "delivered"})
        statuses[-1]["biz_opaque_callback_data"] = vendors.asked[0][1]["biz_opaque_callback_data"]
        body = json.dumps({"entry": [{"changes": [{"value": {"statuses": statuses}}]}]})
        mac = hmac.new(META["app_secret"].encode(), body.encode(), hashlib.sha256).hexdigest()
        answer = await one.receipts.post(
            "/receipts/meta", content=body, headers={"x-hub-signature-256": f"sha256={mac}"}
        )
        assert answer.status_code == 200
        assert (await one.get(started["id"]))["deliveries"][0]["status"] == "delivered"


SECRET = "a-secret-in-the-address"
BY_MESSAGE_ID: dict[str, tuple[dict[str, str], Any, str]] = {
    "africastalking": (
        {"username": "shop", "api_key": "a-key"},
        {"SMSMessageData": {"Recipients": [{"statusCode": 101, "messageId": "m1"}]}},
        "id=m1&status=Success",
    ),
    "msg91": (
        {"auth_key": "a-key", "sms_template": "a-template"},
        {"type": "success", "message": "m1"},
        '{"requestId": "m1", "status": "1"}',
    ),
    "twofactor": (
        {"api_key": "a-key", "sms_from": "SHOPIN"},
        {"Status": "Success", "Details": "m1"},
        "SessionId=m1&Status=DELIVERED",
    ),
}
"""Settings, an answer to a send, and the receipt of vendors that hand nothing of ours back."""


@pytest.mark.parametrize("kind", BY_MESSAGE_ID)
async def test_a_receipt_that_names_the_vendors_own_id_finds_its_delivery(kind: str) -> None:
    """At one address for all, to whoever has its secret; another message's is passed over."""
    account, answer, receipt = BY_MESSAGE_ID[kind]
    cascade = [{"channel": "sms", "providers": [kind], "wait": "20s"}]
    providers = {kind: {"kind": kind, "webhook_secret": SECRET} | account} | table()["providers"]
    async with world(
        vendor=lambda _: httpx.Response(200, json=answer), _top={"providers": providers}, cascade=cascade
    ) as one:
        started = await one.create()
        path = f"/receipts/{kind}?secret={SECRET}"
        assert (await one.receipts.post(path, content=receipt.replace("m1", "m2"))).status_code == 200
        assert (await one.receipts.post(f"/receipts/{kind}?secret=x", content=receipt)).status_code == 401
        assert [d["status"] for d in (await one.get(started["id"]))["deliveries"]] == ["accepted"]
        assert (await one.receipts.post(path, content=receipt)).status_code == 200
        assert [d["status"] for d in (await one.get(started["id"]))["deliveries"]] == ["delivered"]


async def told_to_prelude(one: World, taken: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What Watch was told by now."""
    await one.service.conversions.stop()
    return [feedback for path, said in taken if path == "/v2/watch/feedback" for feedback in said["feedbacks"]]


async def test_a_provider_that_knows_people_by_number_hears_the_number_once() -> None:
    """After an approval, of however many messages; from the caller where the code is his; never of a wrong guess."""
    taken: list[tuple[str, dict[str, Any]]] = []

    def vendor(request: httpx.Request) -> httpx.Response:
        taken.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"id": "tx_01k"})

    prelude = {"kind": "prelude", "api_key": "a-key", "sms_template": "t", "whatsapp_template": "t"}
    providers = {"prelude": {"conversions": True} | prelude} | table()["providers"]
    cascade = [{"channel": channel, "providers": ["prelude"], "wait": "5s"} for channel in ("sms", "whatsapp")]
    top = {"providers": providers}
    async with world(vendor=vendor, _top=top, cascade=cascade, own_code=True) as one:
        started = await one.create()
        await one.travel(6)
        [(_, sms), (_, whatsapp)] = taken
        code = sms["variables"]["code"]
        assert whatsapp["variables"]["code"] == code
        await one.check(started["id"], wrong(code))
        assert await told_to_prelude(one, taken) == []
        guess = {"id": started["id"], "code": code}
        for _ in range(2):
            assert (await one.post("/verifications/check", guess, idempotency_key="a")).json()["valid"]
        await one.post(f"/verifications/{started['id']}/feedback", {"converted": True})
        number = {"target": {"type": "phone_number", "value": NUMBER}, "type": "verification.completed"}
        assert await told_to_prelude(one, taken) == [number]
        redis: Any = one.service.store._client  # noqa: SLF001 - to see what is left
        [remembered] = [await redis.lrange(key, 0, -1) for key in await redis.keys("*idem*")]
        assert b"approved" in remembered
        assert b"secret" not in remembered

        own = await one.create(OTHER_NUMBER, code="90817263")
        for converted in (False, True, True):
            await one.post(f"/verifications/{own['id']}/feedback", {"converted": converted})
        assert [told["target"]["value"] for told in await told_to_prelude(one, taken)] == [NUMBER, OTHER_NUMBER]
