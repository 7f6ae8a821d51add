"""JSON objects about the audit log and restores. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.approval.domain.records import (
    AuditEntry,  # noqa: TC001 (msgspec reads it)
    Count,  # noqa: TC001 (as above)
)


class RestoreProgress(msgspec.Struct, frozen=True):
    """Progress of a restore.

    `done`: devices of the backup processed so far, and `at` of the next part. `skipped`: devices of
    this part left unchanged because they have been paired again meanwhile.
    """

    done: Count
    skipped: Count


class AuditPage(msgspec.Struct, frozen=True):
    """Entries of the audit log, oldest first; `next` is the `after` of the next page.

    Without `after`, these are the newest entries, in the same order.
    """

    entries: list[AuditEntry]
    next: Annotated[int, Meta(ge=0)]
