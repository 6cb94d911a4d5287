"""What ends a run: wrong input, or a machine that gives out."""

MAX_LINES = 20


class InputError(ValueError):
    """Something the user gave cannot be used; the text says what, where, and what to do.

    The command line prints the text without a traceback and exits with code 2.

    Args:
        faults: one text each; `str` gives one line each, at most `MAX_LINES` of them and the count of the others.
    """

    exit_code = 2

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)

    def __str__(self) -> str:
        lines = [one_line(fault) for fault in self.args]
        if len(lines) > MAX_LINES:
            lines[MAX_LINES - 1 :] = [f"… and {len(lines) - MAX_LINES + 1} more"]
        return "\n".join(lines)


class RunError(RuntimeError):
    """The run cannot go on: no memory, no disk. The text says what to do.

    The command line prints the text without a traceback and exits with `exit_code`.
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class NotFiniteError(RunError):
    """The network returned values that are not finite: the weights or the precision given cannot be used."""

    exit_code = 2


class ReportedByOtherRankError(Exception):
    """The run ends because of a fault that another of its processes has already reported.

    Args:
        exit_code: the one for that fault.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def one_line(text: object) -> str:
    """Return `text` with whatever does not print, such as a newline in a file's name, written as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
