"""``wsgi.file_wrapper``: a file as a response (PEP 3333, "Optional Platform-Specific File Handling")."""

from wsgiref.util import FileWrapper as _Blocks


class FileWrapper(_Blocks):
    """Blocks of a file. Returned by an application, the rest of a regular file is sent by the kernel instead.

    Args:
        filelike: an object with ``read(size)``; with ``fileno()`` and ``tell()`` if it is a file. Its ``close()`` is
            called at the end.
        blksize: bytes of a block.
    """
