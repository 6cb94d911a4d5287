"""The one exception that means "the user's input is wrong", as against "the program is wrong"."""


class InputError(ValueError):
    """Something the user gave cannot be used; its text says what, where, and what to do.

    The command line prints the text without a traceback and exits with code 2.
    """
