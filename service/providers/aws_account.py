"""An account of AWS, and how it signs: what each provider on AWS has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.provider import Request
from service.providers.settings import ApiUrl, Secret, Text


class AwsAccount(BaseModel):
    """Credentials, and the region that they are used in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    api_url: ApiUrl | None = None
    access_key_id: Text
    secret_access_key: Secret
    session_token: Secret | None = None

    def signed(self, service: str, headers: Mapping[str, str], body: bytes, now: datetime) -> Request:
        """A POST to a service under AWS Signature Version 4, dated `now`: botocore's `add_auth` looks at the clock."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        url = f"{self.api_url or f'https://{service}.{self.region}.amazonaws.com'}/"
        headers = {**headers, "x-amz-date": now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")}
        if self.session_token:
            headers["x-amz-security-token"] = self.session_token.get_secret_value()
        unsigned = AWSRequest("POST", url, headers=headers, data=body)
        unsigned.context["timestamp"] = headers["x-amz-date"]
        credentials = Credentials(self.access_key_id, self.secret_access_key.get_secret_value())
        signer = SigV4Auth(credentials, service, self.region)
        signature = signer.signature(signer.string_to_sign(unsigned, signer.canonical_request(unsigned)), unsigned)
        signed_headers = signer.signed_headers(signer.headers_to_sign(unsigned))
        parts = f"Credential={signer.scope(unsigned)}, SignedHeaders={signed_headers}, Signature={signature}"
        return Request(url, headers | {"authorization": f"AWS4-HMAC-SHA256 {parts}"}, body)
