"""The doctor's cases and their expected facts."""

from __future__ import annotations

from typing import Final

from tools.interop.cases import Case
from tools.interop.doctor.scenario import WELL, DoctorScenario

_NOTHING_LEFT: Final = "left: 0 requests, 0 devices"

Cases = tuple[Case[DoctorScenario], ...]

_SHARED: Final[Cases] = (
    Case("one gateway", DoctorScenario.one_gateway, (WELL, "processes: 1", _NOTHING_LEFT)),
    Case(
        "two replicas",
        DoctorScenario.two_replicas,
        ("openclaw-separate-lists", "processes: 2", _NOTHING_LEFT),
    ),
    Case(
        "no token, wrong one",
        DoctorScenario.no_token,
        ("openclaw-token-missing", "openclaw-token-wrong"),
    ),
    Case(
        "a device forgotten",
        DoctorScenario.forgotten_device,
        (WELL, "openclaw-device-forgotten"),
    ),
)
CASES_4: Final[Cases] = (
    *_SHARED,
    Case(
        "asked to pair, two",
        DoctorScenario.asked,
        ("openclaw-separate-lists", "2 request ids", _NOTHING_LEFT),
    ),
    Case("asked to pair, one", DoctorScenario.asked_one, (WELL, "1 request id")),
    Case(
        "an own device, cured",
        DoctorScenario.own_device,
        (
            "openclaw-pairing-required",
            "--latest exits 1, then openclaw-pairing-required",
            WELL,
        ),
    ),
    Case("commands it names", DoctorScenario.commands, ("all exist",)),
    Case(
        "a proxy not trusted",
        DoctorScenario.untrusted_proxy,
        ("openclaw-proxy-untrusted", "the log names the proxy", WELL),
    ),
    Case(
        "a page of elsewhere",
        DoctorScenario.foreign_origin,
        ("openclaw-origin-refused", WELL),
    ),
)
CASES_3: Final[Cases] = (
    *_SHARED,
    Case(
        "asked to pair, two",
        DoctorScenario.asked,
        ("openclaw-separate-lists", "2 request ids", "left: 2 requests, 0 devices"),
    ),
    Case(
        "an own device, cured",
        DoctorScenario.own_device,
        ("openclaw-pairing-required", f"--latest exits 0, then {WELL}", WELL),
    ),
    Case("asked to pair, one", DoctorScenario.asked_one, (WELL, "1 request id")),
    Case("a proxy not trusted", DoctorScenario.untrusted_proxy, (WELL,)),
    Case(
        "a page of elsewhere",
        DoctorScenario.foreign_origin,
        ("openclaw-origin-refused", "wants a restart"),
    ),
)
