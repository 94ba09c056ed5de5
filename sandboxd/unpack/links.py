"""Where a symbolic link of the archive would lead, without following it on the disk."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

Parts = tuple[bytes, ...]

# MAXSYMLINKS of the kernel: beyond it every use ends in ELOOP.
MAX_FOLLOWED = 40


def leads_out(path: Parts, links: Mapping[Parts, bytes], prefix: bytes) -> bool:
    """Whether the link at ``path`` leads out of the root, through other ``links`` or by itself.

    ``prefix`` is the absolute name by which the root will be seen (empty: none); an absolute
    target beneath it is inside.
    """
    position = list(path[:-1])
    pending = _steps(links[path])
    if not _enter(links[path], pending, position, prefix):
        return True
    followed = 1
    while pending:
        part = pending.pop()
        if part == b"..":
            if not position:
                return True
            position.pop()
            continue
        position.append(part)
        target = links.get(tuple(position))
        if target is None:
            continue
        followed += 1
        if followed > MAX_FOLLOWED:
            return False
        position.pop()
        steps = _steps(target)
        if not _enter(target, steps, position, prefix):
            return True
        pending += steps
    return False


def _steps(target: bytes) -> list[bytes]:
    """The components of a target, the first one last."""
    return [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]


def _enter(target: bytes, steps: list[bytes], position: list[bytes], prefix: bytes) -> bool:
    """Make an absolute target relative to the root. False when it is not beneath ``prefix``."""
    if not target.startswith(b"/"):
        return True
    root = _steps(prefix)
    if not root or steps[-len(root) :] != root:
        return False
    del steps[-len(root) :]
    position.clear()
    return True
