"""`POST /v1/import`: imports some devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.imports.service import Part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from services.approval.api.calls import Call
    from services.approval.api.parameters import ImportPart
    from services.approval.imports.records import ImportedPart
    from services.approval.imports.service import ImportService


class ImportOperations:
    """Implements the operation of imports."""

    def __init__(self, imports: ImportService) -> None:
        self._imports = imports
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "importPart": self._import
        }

    async def _import(self, call: Call) -> ImportedPart:
        body: ImportPart = call.body
        part = Part(body.import_id, body.devices, dry_run=body.dry_run)
        return await self._imports.run(call.caller, part)
