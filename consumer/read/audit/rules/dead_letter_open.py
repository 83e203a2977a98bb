"""Open dead letter of the night's exposures or groups, or one that names neither and was recorded during the night.

``visit-consumer dead-letters list`` shows them; replay or discard them there. ``--fix`` leaves them.
"""

from collections.abc import Iterator

from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "dead-letter-open"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield dead letters."""
    for letter in night.dead_letters:
        yield Finding(subject=Subject.DEAD_LETTER, name=letter.id, detail=f"{letter.reason}: {letter.detail}")
