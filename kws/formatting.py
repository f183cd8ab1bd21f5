"""Numbers and other values as text: one spelling for the terminal, the page, report.md and W&B."""

import base64
import hashlib
import math
import reprlib
from typing import Any


def value_text(value: Any) -> str:
    """Return a setting's value as short text."""
    if isinstance(value, (list, tuple)):  # words, as in the flag
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(fraction: float, digits: int = 2) -> str:
    return "n/a" if math.isnan(fraction) else f"{100 * fraction:.{digits}f} %"


def percentage_points(fraction: float, digits: int = 2, sign: bool = False) -> str:
    """Return a fraction, or a difference of two, in percentage points, with a typographic minus sign."""
    if math.isnan(fraction):
        return "n/a"
    number = round(100 * fraction, digits) + 0.0  # no -0.00
    return f"{number:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def count(number: float) -> str:
    """Return a whole number with thousands separated, from a million on in millions."""
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number:,.0f}"


def seconds(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def p_text(p: float) -> str:
    if math.isnan(p):
        return "n/a"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def one_line(value: object, limit: int = 120) -> str:
    """Return `value` as printable text without line breaks, cut at `limit` characters: for messages."""
    try:
        text = reprlib.repr(value) if isinstance(value, (dict, list, set, tuple)) else str(value)
    except ValueError:  # Python does not write out a number of thousands of digits
        text = f"{type(value).__name__} too long to show"
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def script_digest(script: str) -> str:
    """Return an inline script as a source of a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
