"""Network checks: name, TCP, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from services.cli.doctor import causes
from services.cli.doctor.journey import Wrong
from shared.addresses.client import is_loopback

if TYPE_CHECKING:
    from services.cli.doctor.journey import Journey

ADDRESSES_TRIED: Final = 4
DAY_SECONDS: Final = 86_400
RENEWAL_DAYS: Final = 14
_OUT_OF_DATE: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""
_OTHER_NAME: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""


async def look_up(journey: Journey) -> None:
    """Resolve the host name."""
    found = await addresses(journey)
    journey.ok(f"{journey.host} is {', '.join(found)}")


async def addresses(journey: Journey) -> list[str]:
    """Return the host's addresses; raises Wrong."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(journey.options.timeouts.open):
            infos = await loop.getaddrinfo(journey.host, journey.port, type=socket.SOCK_STREAM)
    except (TimeoutError, OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no response from the name server"
        raise Wrong(causes.NAME_UNKNOWN, f"{journey.host}: {why}", name=journey.host) from None
    return list(dict.fromkeys(str(info[4][0]) for info in infos))[:ADDRESSES_TRIED]


async def connect(journey: Journey) -> None:
    """Open a TCP connection to each address; one success is enough."""
    failed: dict[str, OSError] = {}
    opened = []
    for address in await addresses(journey):
        try:
            async with asyncio.timeout(journey.options.timeouts.open):
                _, writer = await asyncio.open_connection(address, journey.port)
        except OSError as error:  # a TimeoutError too
            failed[address] = error
        else:
            opened.append(address)
            writer.close()
    if not opened:
        where = f"port {journey.port} of {', '.join(failed)}"
        if any(isinstance(error, ConnectionRefusedError) for error in failed.values()):
            raise Wrong(causes.TCP_REFUSED, f"{where}: connection refused")
        raise Wrong(causes.TCP_SILENT, f"{where}: no response", port_number=str(journey.port))
    journey.ok(f"port {journey.port} is open at {', '.join(opened)}")
    if failed:
        journey.note(f"not at {', '.join(failed)}; clients try the next address automatically")


async def secure(journey: Journey) -> None:
    """Open a TLS connection and check the certificate; skipped for ws://."""
    if not journey.secure:
        readable = "" if is_this_machine(journey.host) else "; traffic is not encrypted"
        journey.note(f"none: the address starts with ws://{readable}")
        return
    plain_url = f"ws://127.0.0.1:{journey.port}"
    try:
        async with asyncio.timeout(journey.options.timeouts.open):
            _, writer = await asyncio.open_connection(
                journey.host, journey.port, ssl=journey.tls, server_hostname=journey.host
            )
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OUT_OF_DATE:
            cause = causes.TLS_EXPIRED
        elif error.verify_code in _OTHER_NAME:
            cause = causes.TLS_OTHER_NAME
        else:
            cause = causes.TLS_UNTRUSTED
        raise Wrong(cause, error.verify_message, name=journey.host) from None
    except (OSError, asyncio.IncompleteReadError) as error:  # ssl.SSLError and TimeoutError too
        why = getattr(error, "reason", None) or str(error) or "no response to the handshake"
        raise Wrong(causes.TLS_NOT_SPOKEN, f"TLS failed: {why}", plain_url=plain_url) from None
    certificate = writer.get_extra_info("peercert") or {}
    version = writer.get_extra_info("ssl_object").version()
    with suppress(OSError):
        writer.close()
        await writer.wait_closed()
    ends = ssl.cert_time_to_seconds(certificate["notAfter"])
    days = int((ends - journey.now()) // DAY_SECONDS)
    found = f"{version}, certificate for {journey.host} valid for another {days} days"
    if days < RENEWAL_DAYS:
        journey.warn(causes.TLS_ENDS_SOON, found)
    else:
        journey.ok(found)


def is_this_machine(host: str) -> bool:
    """Return whether traffic to a host stays on this machine."""
    return host == "localhost" or is_loopback(host)


async def speaks_tls(journey: Journey) -> bool:
    """Return whether the port speaks TLS, with any certificate."""
    any_certificate = ssl.create_default_context()
    any_certificate.check_hostname = False
    any_certificate.verify_mode = ssl.CERT_NONE  # nothing is sent
    try:
        async with asyncio.timeout(journey.options.timeouts.open):
            _, writer = await asyncio.open_connection(
                journey.host, journey.port, ssl=any_certificate
            )
    except (OSError, asyncio.IncompleteReadError):
        return False
    writer.close()
    return True
