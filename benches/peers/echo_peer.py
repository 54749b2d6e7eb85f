"""Echoes bytes on goev, as a user would write it."""

import argparse

import goev
import goev_serving


class Echo(goev.Connection):
    __slots__ = ()

    def on_read(self) -> None:
        self.write(self.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    goev_serving.add_arguments(parser)
    goev_serving.serve(Echo, parser.parse_args())


if __name__ == "__main__":
    main()
