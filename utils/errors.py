"""What ends a run: wrong input, or a machine that gives out."""

MAX_LINES = 20


class InputError(ValueError):
    """Something the user gave cannot be used; the text says what, where, and what to do.

    The command line prints the text without a traceback and exits with code 2.

    Args:
        faults: one text each; `str` gives one line each, at most `MAX_LINES` of them and the count of the others.
    """

    exit_code = 2

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
    """The run ends because of a fault that another of its processes has already reported, with its exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def one_line(text: object) -> str:
    """Return `text` with whatever does not print, such as a newline in a file's name, written as its escape.

    What joins letters or parts of an emoji, or keeps them apart (U+200D, U+200C), stays.
    """
    return "".join(c if is_shown(c) else c.encode("unicode_escape").decode("ascii") for c in str(text))


def is_shown(character: str) -> bool:
    """Return whether a character can stand in a line that is shown: it prints, or joins what prints."""
    return character.isprintable() or character in "\u200c\u200d"
