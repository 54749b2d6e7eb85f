"""The parts of a cluster that its groups, its presence and its calls share."""

from goev._core import Intake
from goev.cluster.endings import Endings
from goev.cluster.figures import Figures
from goev.cluster.home import Home
from goev.cluster.link import Link


class Wiring:
    """The shared parts of one cluster.

    Attributes:
        post: calls a function on the cluster's thread, soon.
        spawn: begins a task, on that thread.
        most: bytes of the largest message.
    """

    def __init__(
        self,
        node: bytes,
        *,
        link: Link,
        intake: Intake,
        endings: Endings,
        figures: Figures,
        home: Home,
        most: int,
    ) -> None:
        self.node = node
        self.link = link
        self.intake = intake
        self.endings = endings
        self.figures = figures
        self.post = home.post
        self.spawn = home.spawn
        self.most = most
