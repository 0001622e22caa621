"""Turns its own process into an engine: gives up root if told to, ties its life to the platform's, then execs.

Runs as a script in a bare interpreter (`python -I -S launcher.py SIGNAL PARENT USER PROGRAM [ARGUMENT...]`), which
takes 20 ms. The alternative, `preexec_fn`, runs Python code between fork and exec of a process with threads and may
deadlock there.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(death_signal: int, parent: int, user: str, program: list[str]) -> None:
    """`user` is "-" to stay who we are. Does not return."""
    if user != "-":
        _become(user)
    if sys.platform == "linux":
        # After the change of user, which clears it (prctl(2)); exec keeps it.
        _end_with_parent(death_signal)
        if os.getppid() != parent:
            sys.exit("the platform ended before this engine was started")
    os.chdir("/")  # the folder the platform was started in may be closed to `user`
    os.execv(program[0], program)  # noqa: S606 - becoming this program is the purpose


def _become(user: str) -> None:
    import pwd

    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _end_with_parent(death_signal: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
