"""One Python target under atheris, with libFuzzer's arguments: `python -m fuzz TARGET PROGRAM …`,
where PROGRAM is how libFuzzer starts itself again, which it does to minimise."""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["sandboxd", "sandboxd_rest"]):
    from fuzz.targets import TARGETS


def main() -> None:
    logging.disable()  # What is refused is logged, at times.
    atheris.Setup(sys.argv[2:], TARGETS[sys.argv[1]])
    atheris.Fuzz()


main()
