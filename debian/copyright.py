"""Print the package's copyright file: `copyright.py LICENSE SITE_PACKAGES`.

Its end says which Python packages are included and where the full text of each one's licence is.
"""

import sys
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path

HEAD = """\
sandboxd, by its contributors:

{licence}
The package includes the Python packages below, unchanged, each under its own licence. The full text
of each one's licence is in its *.dist-info directory below /usr/lib/sandboxd; that of the Apache
License, Version 2.0, is also in /usr/share/common-licenses/Apache-2.0. PyNaCl includes libsodium,
Copyright (c) 2013-2026 Frank Denis, under the ISC licence.

"""


def licence(fields: Message) -> str:
    """In one line."""
    named = fields["License-Expression"] or fields["License"]
    if named and "\n" not in named:
        return str(named)
    prefix = "License :: OSI Approved :: "
    found = [text for text in fields.get_all("Classifier", []) if text.startswith(prefix)]
    return ", ".join(text.removeprefix(prefix) for text in found) or "see its dist-info"


def describe(package: Distribution) -> str:
    fields = package.metadata
    author = fields["Author"] or fields["Author-email"] or fields["Maintainer-email"]
    name = f"{fields['Name']} {package.version}"
    return f"{name}: {licence(fields)}; Copyright: {author or 'its authors'}"


def main(text: Path, packages: Path) -> None:
    print(HEAD.format(licence=text.read_text()), end="")
    found = distributions(path=[str(packages)])
    for line in sorted(map(describe, found), key=str.lower):
        if not line.startswith("sandboxd "):
            print(f"  {line}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
