"""A server as a service: a supervisor, its workers, their sockets, and the reload that loses nothing.

``goev run`` and ``goev.serve(…, workers=n)`` stand on it. ``settings`` holds everything that the two can say,
``loading`` finds the object that a target names, ``interfaces`` the way it is served.
"""
