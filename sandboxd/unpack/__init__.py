"""Unpacking archives that anybody may have made, in a program of its own.

Theory of operation. sandboxd never reads an archive. `process.unpack` starts this package as a
child (`python -I -m sandboxd.unpack`, from a copy in memory) and passes it descriptors: the
archive, the directory to write into, a file to spool to, and a pipe to report through. The child
lowers its own limits (address space, CPU time, file size), puts itself under Landlock and a seccomp
filter, copies the archive to the spool file while it computes the checksum, and only then unpacks.
It writes only beneath the directory it was given, component by component with openat and
O_NOFOLLOW, so that no name and no link in an archive can lead anywhere else. It refuses what cannot
be kept honestly: absolute names, `..`, members beneath a link or a file, devices, anything too
much, too large, too long or too deep.

Where the kernel has Landlock, the child can write nowhere else even when an archive's bytes have
taken over a decompressor. The seccomp filter, which the daemon's own kernel always has, leaves it
no call by which to reach the daemon or what is the daemon's: modes, owners and times by name,
sockets, signals, tracing. It also takes away new processes and programs, in a second step: whether
zstd is to be started is known only when the first bytes have been read, by Python code that copies
and compares them. zstd gets the filters, too; one that may execute once more is no stronger for it,
because filters, Landlock and limits outlive an execve, and nothing gains privilege by one. It dies
with the daemon (PR_SET_PDEATHSIG). What it leaves behind is in a staging directory, which
`remove.remove_at` takes away by descriptors.

| module | is |
|---|---|
| `process` | the daemon's side: starts the child, reads its report, kills it when cancelled |
| `remove` | removal of a tree by descriptors, on both sides |
| `__main__` | the child: arguments, limits, order of events |
| `confine` | Landlock: what the child cannot reach any more |
| `seccomp` | system calls: what the child cannot ask the kernel for any more |
| `source` | from the archive's descriptor to plain bytes: spooling, checksum, decompression |
| `members` | what is taken and what is refused, whatever the format |
| `extract` | from plain bytes to members: tar |
| `zipped` | zip, where it is asked for |
| `squashed`, `squashfs`, `lz` | squashfs images, where they are asked for |
| `tree` | the one writer |
| `links` | where a symbolic link would lead |
"""
