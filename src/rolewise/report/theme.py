"""Colors of the report, by name, and what turns matplotlib's SVG into one that a page can hold.

A picture for a page is drawn in stand-in colors that become CSS variables, so that it follows the reader's choice of
light or dark; a picture for a file is drawn in the light ones.
"""

import html
import re
from collections.abc import Collection, Sequence

# name: (light, dark)
COLORS = {
    "paper": ("#fcfbf8", "#161514"),
    "ink": ("#1f1d1a", "#e9e6df"),
    "muted": ("#6d6860", "#a19b91"),
    "line": ("#dedad1", "#37342f"),
    "teacher": ("#a1560f", "#e3a45c"),
    "student": ("#0f6a73", "#5fc1c9"),
    "plain": ("#8a8379", "#8d867b"),
    "kd": ("#7a4f9a", "#bd97da"),
    "other": ("#b03a52", "#e58797"),
    "scratch": ("#6b7a1f", "#b3c25e"),
    # ranks of a population, worst to best
    "rank0": ("#efebe3", "#24221f"),
    "rank1": ("#e3ddd2", "#302d29"),
    "rank2": ("#d5cdc0", "#3d3934"),
    "rank3": ("#c4bbac", "#4c4741"),
    "rank4": ("#b0a698", "#5e5850"),
    "rank5": ("#988e80", "#736c63"),
    "rank6": ("#857b6f", "#8a8277"),
    # ops: blues move pixels, reds and yellows change contrast and color, greens remap levels, gray covers
    "Rotate": ("#27347f", "#5566c9"),
    "ShearX": ("#3d5bb5", "#6f8be0"),
    "ShearY": ("#4f86d6", "#86aef0"),
    "TranslateX": ("#63aade", "#8fcaf3"),
    "TranslateY": ("#9bd0e6", "#b9e4f5"),
    "Brightness": ("#8a1f33", "#b6485c"),
    "Color": ("#c2453a", "#d96a5c"),
    "Contrast": ("#e07f45", "#ec9a66"),
    "Sharpness": ("#f0b95f", "#f3cb85"),
    "AutoContrast": ("#1d4f3a", "#3f8a68"),
    "Equalize": ("#2f7a52", "#57a87c"),
    "Invert": ("#5aa06b", "#7fc08d"),
    "Posterize": ("#90bf78", "#a9d492"),
    "Solarize": ("#c5d98a", "#d5e7a2"),
    "Cutout": ("#8b857c", "#9a948a"),
}
FAMILIES = {
    "moves pixels": ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"),
    "changes contrast, color": ("Brightness", "Color", "Contrast", "Sharpness"),
    "remaps levels": ("AutoContrast", "Equalize", "Invert", "Posterize", "Solarize"),
    "covers": ("Cutout",),
}
_OTHERS = {"Identity": "kd", "FlipLR": "other", "FlipUD": "plain"}  # ops outside the published 15
_STAND_INS = {name: f"#a5{number:02x}5a" for number, name in enumerate(COLORS)}
_LONG = re.compile(r"(\d\.\d\d)\d+")  # a hundredth of a pixel is enough
_FONTS = re.compile(r"'DejaVu Sans'[^;\"]*?sans-serif")
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', sans-serif"


class Theme:
    """Looks colors up by name.

    Args:
        page: True for a page, whose style sheet has the variables; False for a file.
    """

    def __init__(self, *, page: bool) -> None:
        self.page = page

    def __call__(self, name: str) -> str:
        """The color to draw with."""
        return _STAND_INS[name] if self.page else COLORS[name][0]

    def op(self, name: str) -> str:
        """The color of an op."""
        return self(color_of(name))

    def finish(self, svg: str, *, title: str, description: str, tips: Sequence[tuple[str, str]] = ()) -> str:
        """An SVG as matplotlib wrote it, made ready.

        Args:
            svg: the whole text.
            title, description: for readers who do not see it.
            tips: (id that was given to an element, words that appear when one points at it).
        """
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = _LONG.sub(r"\1", svg)
        for name, words in tips:
            svg = svg.replace(f'<g id="{name}">', f"<g><title>{html.escape(words)}</title>")
        svg = re.sub(r'\s*<g id="[^"]*"/>', "", svg)
        svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
        svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
        svg = _FONTS.sub("var(--sans)" if self.page else _SANS, svg)
        if self.page:
            for name, color in _STAND_INS.items():
                svg = svg.replace(color, f"var(--{name})")
        words = f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
        head, rest = svg.split(">", 1)
        return f'{head} role="img" aria-label="{html.escape(title)}">{words}{rest}'


def color_of(op: str) -> str:
    """The name of an op's color, the same in every picture and legend."""
    return op if op in COLORS else _OTHERS.get(op, "teacher")


def families(used: Collection[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The legend of ops: (what they do, each op with the name of its color), those outside the published 15 last."""
    published = {op for ops in FAMILIES.values() for op in ops}
    rows = {**FAMILIES, "others": sorted(set(used) - published)}
    found = [(family, [(op, color_of(op)) for op in ops if op in used]) for family, ops in rows.items()]
    return [(family, ops) for family, ops in found if ops]


def style_sheet() -> str:
    """The variables, for light and for dark."""

    def block(which: int) -> str:
        return "".join(f"--{name}:{color[which]};" for name, color in COLORS.items())

    return f":root{{{block(0)}}}@media screen and (prefers-color-scheme:dark){{:root{{{block(1)}}}}}"
