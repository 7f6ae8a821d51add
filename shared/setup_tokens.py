"""Identification of setup codes by the hash of their token. Pure.

The gateway hashes the token that a client presents, so that it reaches neither bus nor approval.
"""

from __future__ import annotations

import hashlib
import uuid


def digest_of(token: str) -> str:
    """Return the hash of a bootstrap token, which is all that is stored of it.

    A token has 128 random bits or more, so a plain hash cannot be reversed.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def setup_id_of(digest: str) -> str:
    """Return the public id of the code with this token: a UUID that reveals nothing about it."""
    found = hashlib.sha256(f"latchkey setup id 1|{digest}".encode()).digest()
    return str(uuid.UUID(bytes=found[:16], version=4))
