"""The place of a member in the messages of a group with history: what it has had, as text that it can bring back.

A place is short, whatever the number of machines. It says: all messages that the engine had numbered up to ``number``,
and those of some machines up to numbers of their own, which had no number of the engine yet. No sockets, threads or
clocks in here.
"""

import re
from dataclasses import dataclass, field

PATTERN = re.compile(r"([0-9A-Za-z]*)\.([0-9]{1,20})((?:\.[0-9a-f]{16}-[0-9]{1,20}){0,64})")
MOST_MACHINES = 64  # in one place; the oldest are left out


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """The messages that a member has had.

    Attributes:
        epoch: of the history, empty if the member has had nothing with a number of the engine.
        number: the last number of the engine.
        sent: for some machines their last message that the member has had.
    """

    epoch: str = ""
    number: int = 0
    sent: dict[bytes, int] = field(default_factory=dict)

    def __str__(self) -> str:
        sent = "".join(f".{node.hex()}-{number}" for node, number in self.sent.items())
        return f"{self.epoch}.{self.number}{sent}"

    def later(self, epoch: str, number: int, sent: dict[bytes, int]) -> "MemberPlace":
        """The place of a member that had this one, and then all up to a number and to those of some machines."""
        if epoch == self.epoch:
            number = max(number, self.number)
        sent = {**self.sent, **sent}
        while len(sent) > MOST_MACHINES:
            del sent[next(iter(sent))]
        return MemberPlace(epoch, number, sent)

    def has(self, epoch: str, number: int, sender: bytes, own: int) -> bool:
        """Whether the member has had a message: by the engine's number, 0 if it has none, and by the sender's."""
        return (0 < number <= self.number and epoch == self.epoch) or own <= self.sent.get(sender, 0)


def place_of(text: str) -> MemberPlace:
    """Read a place. Raises TypeError, ValueError: it is none."""
    found = PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(f"after must be a place that came with a message, not {text[:100]!r}")
    epoch, number, sent = found.groups()
    pairs = (each.split("-") for each in sent.split(".")[1:])
    return MemberPlace(epoch, int(number), {bytes.fromhex(node): int(last) for node, last in pairs})
