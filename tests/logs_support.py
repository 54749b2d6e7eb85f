"""Tests of logs read the file of a log."""

from support import eventually


def written(log, count):
    """So many lines of a log. A client may have an answer a moment before its line is put."""

    def are_there():
        counted = log.stats()
        return log.flush() and counted["written"] + counted["dropped"] >= count

    eventually(are_there, f"{count} lines are written")
    lines = log.path.read_text().split("\n")[:-1]
    assert len(lines) == count
    return lines
