"""What the bus counts: each name with its labels and its meaning. Services make metrics of them."""

from __future__ import annotations

from typing import Final

QUESTIONS_SENT: Final = "bus_questions_sent"
"""Questions published, every try counted."""
QUESTIONS_FAILED: Final = "bus_questions_failed"
"""Questions that ended without an answer. `reason`: as Unavailable.reason."""
TRIES_FAILED: Final = "bus_tries_failed"
"""Messages of questions that failed at one responder. `why`: timeout, no-responder, busy, redis."""
ANSWERS_DROPPED: Final = "bus_answers_dropped"
"""Answers not taken.

`why`: `late` (the question is over, or was answered already), `unknown` (never asked), `stranger`
(that responder was not asked), `malformed` (a whole message).
"""

QUESTIONS_TAKEN: Final = "bus_questions_taken"
"""Questions handed to the handler."""
QUESTIONS_DROPPED: Final = "bus_questions_dropped"
"""Messages of questions not taken. `why`: malformed, stopped."""
QUESTIONS_BUSY: Final = "bus_questions_busy"
"""Questions answered with busy."""
HANDLER_FAILURES: Final = "bus_handler_failures"
"""Messages of questions whose handler raised or took too long; they get no answer."""
ANSWERS_SENT: Final = "bus_answers_sent"
"""Answers published."""
ANSWERS_LOST: Final = "bus_answers_lost"
"""Answers that reached nobody. `why`: asker-gone, oversized, redis."""

MESSAGES_READ: Final = "bus_messages_read"
"""Messages that were opened and handed on."""
MESSAGES_FAILED: Final = "bus_messages_failed"
"""Messages whose receiver raised."""
CONNECTIONS_LOST: Final = "bus_connections_lost"
"""Connections given up. `link`: subscription, publisher. `why`: error, silence."""
