"""The counters of a cluster."""

from dataclasses import dataclass


@dataclass(slots=True)
class Figures:
    """Counts since the start. One thread, the cluster's, writes them.

    Attributes:
        sessions: sessions with the engine that began; all but the first are reconnects.
        failures: sessions that ended by themselves, or could not begin.
        sent: messages of groups that the engine took.
        received: messages from the engine, of all kinds.
        delivered: messages of groups from other machines that went to members here.
        own: own messages that came back, and were ignored.
        repeated: messages of others that came again, and were ignored.
        missed: messages of others that never came, by their numbers.
        dropped: messages that found no room while the engine was slow or away.
        refused: messages that the engine did not take: too large, say.
        malformed: messages that are none of a cluster, or of another version.
        undelivered: messages that found no room in the mailbox of a poller.
    """

    sessions: int = 0
    failures: int = 0
    sent: int = 0
    received: int = 0
    delivered: int = 0
    own: int = 0
    repeated: int = 0
    missed: int = 0
    dropped: int = 0
    refused: int = 0
    malformed: int = 0
    undelivered: int = 0
