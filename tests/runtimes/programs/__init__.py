"""Small programs in every language, which do what a runtime has to get right.

Each language has five. `hello` writes its arguments and the first line of its input and ends with
exit code 3. `error` ends by an error of its own. `broken` is not a program. `loop` writes "looping"
to stderr and never ends. `hog` takes memory until there is none.
"""

from runtimes.programs import managed, native, scripts
from runtimes.programs.language import Language

LANGUAGES: tuple[Language, ...] = (*native.LANGUAGES, *managed.LANGUAGES, *scripts.LANGUAGES)

__all__ = ["LANGUAGES", "Language"]
