"""Where the project itself lies: it runs from its checkout."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
