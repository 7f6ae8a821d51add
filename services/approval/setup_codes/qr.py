"""QR codes of setup codes. Pure."""

from __future__ import annotations

from typing import Final

import segno

QR_LIMIT_CHARACTERS: Final = 1_800
"""Max. length of a text to encode; a version 40 code with error correction M has 2 331 bytes."""
_MODULE_PIXELS: Final = 6
_MARGIN_MODULES: Final = 4


def png_data_url(text: str) -> str:
    """Return a PNG as a data URL, or "" if the text is too long for a QR code."""
    if len(text) > QR_LIMIT_CHARACTERS:
        return ""
    code = segno.make(text, error="m", boost_error=False, micro=False)
    return str(code.png_data_uri(scale=_MODULE_PIXELS, border=_MARGIN_MODULES))
