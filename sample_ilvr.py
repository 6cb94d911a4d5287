"""Sample images that follow reference pictures, from a diffusion model never trained for it.

ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models (Choi et al., ICCV 2021).
A config may have defaults of its own under `sampling`, as the embedded model's has; else they are the paper's.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python -P leaves it out; others have a `utils` too

from utils.errors import InputError, ReportedByOtherRankError, RunError
from utils.run.arguments import parse_args
from utils.run.interrupts import Interrupted, Interrupts


def main(argv: Sequence[str] | None = None, interrupts: Interrupts | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None for `sys.argv`'s.
        interrupts: prints how far the run has come if it is interrupted.

    Returns:
        The exit code; any fault has been printed on standard error.

    Raises:
        KeyboardInterrupt: Ctrl-C in another program's process, such as a notebook's, after a line on how to go on.
    """
    interrupts = interrupts or Interrupts()
    try:
        args = parse_args(argv)
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # we word what fails between processes
        try:
            import tqdm  # noqa: F401  # which reads its settings here
        except ValueError as error:
            raise InputError(f"a variable TQDM_… in the environment cannot be used: {error}; unset it") from None
        gc.disable()  # it would search through torch's objects again and again, a fifth of the time of importing
        from utils.run import engine

        gc.freeze()  # they stay, and need no searching later
        gc.enable()
        engine.run(args, interrupts)
    except KeyboardInterrupt:
        interrupts.say_last_words()
        raise
    except (InputError, RunError) as error:
        print(f"sample_ilvr: error: {error}", file=sys.stderr)
        return error.exit_code
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        print("sample_ilvr: error: the system allows no more threads (ulimit -u)", file=sys.stderr)
        return RunError.exit_code
    except ReportedByOtherRankError as error:
        return error.exit_code
    return 0


def keep_output_from_failing() -> None:
    """Keep output that cannot be printed from ending the run: images are what counts.

    Characters that an encoding lacks become escapes. The null device takes the place of a closed output, whose number
    the next file opened would otherwise get, and of one that a full disk or a closed pipe refuses.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115

    def guarded(stream: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            try:
                return method(*args)
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

        return call

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        for name in ("write", "flush"):
            setattr(stream, name, guarded(stream, getattr(stream, name)))


if __name__ == "__main__":
    if sys.platform == "win32":
        print("sample_ilvr: error: this runs on Linux and macOS; on Windows, in its Linux (WSL)", file=sys.stderr)
        sys.exit(2)
    if sys._getframe().f_back or sys.flags.interactive:  # in a notebook's process, say, whose signals are its own
        sys.exit(main())
    keep_output_from_failing()
    watched = Interrupts()
    watched.watch()
    try:
        sys.exit(main(interrupts=watched))
    except Interrupted as interrupted:
        watched.leave(interrupted.number)
