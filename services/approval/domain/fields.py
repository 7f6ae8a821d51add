"""Field types with their constraints, for JSON and backups."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
DeviceId = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Milliseconds = Annotated[int, Meta(ge=0, description="Milliseconds since 1970.")]
Count = Annotated[int, Meta(ge=0)]
ChangeNumber = Annotated[int, Meta(ge=0, le=2**53 - 1)]
