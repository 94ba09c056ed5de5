"""Runtimes: a language in a version, with how to compile and run its programs.

Theory of operation. A runtime comes from a file (`model`, `loader`): the built-in ones, and those
that an administrator put into `runtimes_directory`. Which version of the tool is there is found out
inside the sandbox (`detect`), the only place where the tool is ever run, and kept (`cache`) until
the tool changes. Installed packages bring runtimes of their own (`catalog.Provider`). The `catalog`
holds them all and chooses one for a language and a range of versions (`versions`); `request` turns
what a client sent into a job, whose stages are the runtime's commands (`template`).
"""
