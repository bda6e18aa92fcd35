"""Being told to stop: Ctrl-C, SIGTERM, and the death of the `mlflow run` that started this process."""

import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SOON = 0.02  # seconds
_WATCH = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where an interrupt would be: it ends a command in the same way."""

    def __init__(self) -> None:
        super().__init__("terminated by a signal")


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt and SIGTERM Terminated.

    One that comes inside a finaliser, where Python drops whatever is raised, is raised a moment later. Signals that
    are ignored, or that somebody else handles, are left alone.
    """
    pending: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGVTALRM:
            pending.append(number)
        while frame is not None:
            if frame.f_code.co_name == "__del__" or frame.f_code.co_filename == weakref.__file__:
                signal.setitimer(signal.ITIMER_VIRTUAL, _SOON)
                return
            frame = frame.f_back
        raise Terminated if pending and pending[-1] == signal.SIGTERM else KeyboardInterrupt

    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    taken = [number for number, handler in ours.items() if signal.getsignal(number) is handler]
    here = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not taken or not here:
        yield
        return
    before = [(number, signal.signal(number, interrupt)) for number in (*taken, signal.SIGVTALRM)]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)  # the signal would end the process once it is not ours
        for number, handler in before:
            signal.signal(number, handler)


def follow_launcher() -> None:
    """End as by SIGTERM when the `mlflow run` that started this process dies: it passes no signal on."""
    if not os.environ.get("MLFLOW_RUN_ID"):
        return
    import psutil

    with suppress(psutil.Error):
        # a shell may stand between
        above = [one for one in psutil.Process().parents()[:2] if _is_mlflow(one.cmdline())]
        if above:
            threading.Thread(target=_watch, args=(above[-1],), daemon=True).start()


def _is_mlflow(command: list[str]) -> bool:
    return any(os.path.basename(word) == "mlflow" for word in command[:3])


def _watch(launcher: "psutil.Process") -> None:  # type: ignore[name-defined]  # noqa: F821
    while launcher.is_running():
        time.sleep(_WATCH)
    os.kill(os.getpid(), signal.SIGTERM)
