"""The exceptions of clusters."""

from goev._core import Error


class ClusterError(Error):
    """The base of the exceptions of ``goev.cluster``."""


class Unreachable(ClusterError, ConnectionError):
    """The engine cannot be reached, or refuses this program. ``__cause__`` is the exception of its client."""


class AccessDenied(Unreachable):
    """The engine refuses this program: a wrong password, or a certificate that does not fit. It is tried again."""


class Closed(ClusterError):
    """``Cluster.close`` was called."""


class NoSuchName(ClusterError, LookupError):
    """No connection of any machine is registered under the name of a call."""


class CallFailed(ClusterError):
    """The connection that was called raised, or takes no calls."""


class HistoryUnavailable(ClusterError):
    """The engine keeps no messages: it cannot, or it is set up without that."""
