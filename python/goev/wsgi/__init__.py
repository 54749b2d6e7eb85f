"""WSGI applications (PEP 3333) on goev: Flask, Django, Bottle and the like.

::

    import goev.wsgi
    from web import application

    class Site(goev.wsgi.Connection):
        app = application

    goev.serve(Site, ":8080")
"""

from goev.wsgi.connection import Connection
from goev.wsgi.files import FileWrapper

__all__ = ["Connection", "FileWrapper"]
