"""Counters of the bus, with labels and meanings. Services turn them into metrics."""

from __future__ import annotations

from typing import Final

QUESTIONS_SENT: Final = "bus_questions_sent"
"""Questions published, counting every attempt."""
QUESTIONS_FAILED: Final = "bus_questions_failed"
"""Questions that ended without an answer. `reason`: as Unavailable.reason."""
TRIES_FAILED: Final = "bus_tries_failed"
"""Messages of questions that failed at a responder. `why`: timeout, no-responder, busy, redis."""
ANSWERS_DROPPED: Final = "bus_answers_dropped"
"""Answers that were not accepted.

`why`: `late` (the question is closed or already answered), `unknown` (never asked), `stranger`
(from a responder that was not asked), `malformed` (the whole message).
"""

QUESTIONS_TAKEN: Final = "bus_questions_taken"
"""Questions passed to the handler."""
QUESTIONS_DROPPED: Final = "bus_questions_dropped"
"""Messages of questions that were dropped. `why`: malformed, stopped."""
QUESTIONS_BUSY: Final = "bus_questions_busy"
"""Questions answered with busy."""
HANDLER_FAILURES: Final = "bus_handler_failures"
"""Messages of questions whose handler raised or timed out; they get no answer."""
ANSWERS_SENT: Final = "bus_answers_sent"
"""Answers published."""
ANSWERS_LOST: Final = "bus_answers_lost"
"""Answers that reached no subscriber. `why`: asker-gone, oversized, redis."""

MESSAGES_READ: Final = "bus_messages_read"
"""Messages that were opened and passed to the receiver."""
MESSAGES_FAILED: Final = "bus_messages_failed"
"""Messages whose receiver raised."""
CONNECTIONS_LOST: Final = "bus_connections_lost"
"""Connections that were lost. `link`: subscription, publisher. `why`: error, silence."""
