"""One colour per class, the same in pictures, plots and legends."""

from __future__ import annotations

# Paul Tol's "bright" scheme without its grey, plus the orange of "vibrant": told apart with any colour vision, and
# readable on white as on near-black (Okabe-Ito has a black and a yellow that are not).
COLORS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#EE7733")


def class_color(class_id: int) -> str:
    """Hex colour; colours repeat after seven classes, labels tell those apart."""
    return COLORS[class_id % len(COLORS)]


def rgb(color: str) -> tuple[int, int, int]:
    """#rrggbb -> 0..255 each."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
