"""JSON objects about setup codes, and the body of the call that creates one. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.records import (  # noqa: TC001 (msgspec reads them)
    DeviceId,
    Milliseconds,
)
from services.approval.domain.setup_codes import (  # noqa: TC001 (msgspec reads them)
    AccessName,
    ProfileName,
    SetupCode,
)
from services.approval.domain.setup_urls import URL_LIMIT_CHARACTERS

SetupId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,128}$")]
State = Literal["live", "bound", "used", "revoked", "expired"]


class SetupCodeObject(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True
):
    """A setup code without its secrets.

    `state`: `live` until a device presents it; `bound` to a device that waits for approval, or that
    was admitted in one of its roles; `used`, `revoked` or `expired`. `delivered`: the device was
    sent its tokens; false if that is not known.
    """

    setup_id: SetupId
    state: State
    profile: ProfileName
    access: AccessName
    access_downgraded: bool = False
    gateway_url: str
    created_by: str
    created_at_ms: Milliseconds
    expires_at_ms: Milliseconds
    has_join_url: bool = False
    device_id: DeviceId | UnsetType = UNSET
    device_name: str | UnsetType = UNSET
    used_at_ms: Milliseconds | UnsetType = UNSET
    delivered: bool | UnsetType = UNSET


class SetupCodeList(msgspec.Struct, rename="camel", frozen=True):
    """The live setup codes, newest first."""

    setup_codes: list[SetupCodeObject]


class NewSetupCode(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """A setup code to create."""

    profile: Annotated[
        ProfileName,
        Meta(
            description="`full` and `limited`: phones, with an operator role; `voice-node`: ESP32;"
            " `node`: nodes alone."
        ),
    ] = "full"
    gateway_url: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=URL_LIMIT_CHARACTERS,
                description="Where the device connects. Default: GATEWAY_PUBLIC_URL.",
            ),
        ]
        | UnsetType
    ) = UNSET
    join_url: Annotated[
        bool, Meta(description="Create a URL for `openclaw connect` too; for the profile `node`.")
    ] = False


class CreatedSetupCode(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """A new setup code with its secrets, which are shown only here.

    `setupCode` is what a QR code contains, and what is pasted; `qrDataUrl` is a PNG of it.
    """

    setup_code: str
    created: SetupCodeObject
    qr_data_url: str | UnsetType = UNSET
    join_url: str | UnsetType = UNSET


class RevokedSetupCode(msgspec.Struct, frozen=True):
    """The setup code that no longer works."""

    revoked: SetupCodeObject


class RevokedSetupCodes(msgspec.Struct, frozen=True):
    """The setup codes that were live, and no longer work."""

    revoked: list[SetupCodeObject]


def setup_code_object(code: SetupCode, now_ms: int) -> SetupCodeObject:
    """Return the JSON object of a setup code."""
    return SetupCodeObject(
        setup_id=code.setup_id,
        state=_state(code, now_ms),
        profile=code.profile,  # type: ignore[arg-type]
        access=code.grants.access,
        access_downgraded=code.downgraded,
        gateway_url=code.url,
        created_by=code.created_by,
        created_at_ms=code.created_at_ms,
        expires_at_ms=code.expires_at_ms,
        has_join_url=code.has_join_url,
        device_id=code.device_id or UNSET,
        device_name=code.device_name or UNSET,
        used_at_ms=code.used_at_ms or UNSET,
        delivered=code.confirmed if code.used_at_ms else UNSET,
    )


def _state(code: SetupCode, now_ms: int) -> State:
    if code.used_at_ms:
        return "used"
    if code.revoked_at_ms:
        return "revoked"
    if not code.is_live(now_ms):
        return "expired"
    return "bound" if code.device_id else "live"
