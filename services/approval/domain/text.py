"""Texts that devices and people choose, made safe to show on one line. Pure."""

from __future__ import annotations

import unicodedata


def one_line(text: str) -> str:
    """Return a text without line breaks and invisible or bidirectional control characters."""
    visible = "".join(" " if _is_hidden(one) else one for one in text)
    return " ".join(visible.split())


def _is_hidden(character: str) -> bool:
    """Return whether a character is blank or a control character, or a letter without a glyph."""
    return (
        unicodedata.category(character)[0] in "CZ" or character in "\u115f\u1160\u2800\u3164\uffa0"
    )
