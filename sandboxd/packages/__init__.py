"""Packages: archives that bring runtimes, as Piston's do.

Theory of operation. A package is installed in steps of which each leaves something that the next
start can clear away: the archive is unpacked in the staging directory (`sandboxd.unpack`, a child),
what it says of itself is checked (`info`), it is renamed to `packages/<language>/<version>`, where
every sandbox sees it at once, its script `environment` is run there, in a sandbox (`environment`),
and last comes the marker `.ppman-installed` (`store`). Without the marker it is not installed: not
listed, no runtime, removed by the next start. Uninstalling takes the marker away first and the
directory when the last job that uses the package has ended (`use`).

What came out of an archive is never executed or followed outside of a sandbox. Of its files, only
those named here are read: through the package's directory, no links, a bounded number of bytes.
"""
