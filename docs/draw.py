"""Draws the pictures that explain, as SVG, into docs/static: `python docs/draw.py`.

Each picture has its own background, light or dark as the reader's system is, so it can be read on any page.
"""

from pathlib import Path

STYLE = """
  svg { --back: #ffffff; --ink: #1f2328; --faint: #6a737d; --line: #c4cad1; --pad: #eceff2;
        --a: #cfe3ff; --b: #ffdfc2; --c: #cdeecb; --warm: #c2410c; }
  @media (prefers-color-scheme: dark) {
    svg { --back: #16191d; --ink: #e6e9ec; --faint: #9aa4ae; --line: #48505a; --pad: #262b31;
          --a: #1d4a80; --b: #7d4418; --c: #23632a; --warm: #ff9d66; }
  }
  text { font: 14px system-ui, sans-serif; fill: var(--ink); text-anchor: middle; dominant-baseline: central; }
  .title { font-weight: 600; text-anchor: start; }
  .note { font-size: 12.5px; fill: var(--faint); text-anchor: start; }
  .middle { font-size: 12.5px; fill: var(--faint); }
  .code { font: 13px ui-monospace, monospace; text-anchor: start; }
  .warm { fill: var(--warm); }
  rect, circle { stroke: var(--line); }
  path { fill: none; stroke: var(--ink); stroke-width: 1.5; }
  path.warm { stroke: var(--warm); fill: none; }
  .cut { stroke-width: 3; }
"""
HEAD = (
    '<marker id="{0}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
    '<path d="M0 0 L8 4 L0 8 z" style="fill: var(--{1}); stroke: none"/></marker>'
)


def svg(width: int, height: int, what: str, *parts: str) -> str:
    """A picture of this size, with what it shows in words for those who cannot see it."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{what}">',
        f"<style>{STYLE}</style>",
        f"<defs>{HEAD.format('ink', 'ink')}{HEAD.format('warm', 'warm')}</defs>",
        f'<rect width="{width}" height="{height}" rx="10" style="fill: var(--back)"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x}" y="{y}" class="{kind}">{words}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, words: str = "") -> str:
    """A box with words in its middle."""
    rect = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" style="fill: var(--{colour})"/>'
    return rect + (text(x + width / 2, y + height / 2, words) if words else "")


def arrow(x: float, y: float, to_x: float, to_y: float, colour: str = "ink") -> str:
    """A straight arrow."""
    return f'<path d="M{x} {y} L{to_x} {to_y}" class="{colour}" marker-end="url(#{colour})"/>'


def cut(x: float, y: float, height: float) -> str:
    """A bar where a sequence starts."""
    return f'<path d="M{x} {y} V{y + height}" class="warm cut"/>'


def steps(x: float, y: float, row: str, width: float = 38, height: float = 30) -> str:
    """A row of steps, `aaab..`: of a sequence each letter, of padding each point."""
    drawn, count = "", {}
    for i, name in enumerate(row):
        count[name] = count.get(name, 0) + 1
        words = "0" if name == "." else f"{name}{chr(0x2080 + count[name])}"
        drawn += box(x + i * width, y, width - 4, height, "pad" if name == "." else name, words)
    return drawn


def packing() -> str:
    """Three sequences padded and packed, and what a reset and a mask do to the carry."""
    parts = [
        text(24, 26, "Padded: mask is False on padding", "title"),
        *(steps(24, 48 + 38 * i, row) for i, row in enumerate(("aaaaa", "bbb..", "cc..."))),
        text(24, 176, "15 steps, 5 of them padding", "note"),
        text(330, 26, "Packed: reset is True where a sequence starts", "title"),
        *(steps(330, 48 + 38 * i, row) for i, row in enumerate(("aaaaa.", "bbbcc."))),
        *(cut(x, y, 34) for x, y in ((327, 46), (327, 84), (441, 84))),
        text(330, 144, "12 steps, 2 of them padding; the same outputs and gradients", "note"),
        text(24, 216, "What the carry does in the second packed row", "title"),
    ]
    x, y, wide = 96, 272, 104
    for i, name in enumerate(("b₁", "b₂", "b₃", "c₁", "c₂", "0")):
        left = x + i * wide
        parts.append(box(left, y, 48, 36, "pad" if name == "0" else name[0], name))
        if name == "0":
            parts += [text(left + 24, y + 56, "y = 0", "middle"), arrow(left + 52, y + 18, left + 96, y + 18)]
        else:
            parts += [arrow(left + 24, y + 40, left + 24, y + 66), text(left + 24, y + 76, "y", "middle")]
        if i not in (0, 3):
            parts.append(arrow(left - 52, y + 18, left - 4, y + 18))
    for left in (x, x + 3 * wide):
        parts += [
            cut(left - 8, y - 2, 40),
            arrow(left + 24, y - 22, left + 24, y - 4, "warm"),
            text(left + 24, y - 32, "initial carry", "middle warm"),
        ]
    parts += [
        text(x + 5 * wide + 76, y - 4, "held", "middle"),
        text(
            24,
            374,
            "A reset puts the initial carry in place: nothing of b reaches c, and no gradient goes back.",
            "note",
        ),
        text(24, 394, "On padding the carry is held and what stands in xs, NaN too, is never read.", "note"),
    ]
    return svg(760, 416, "Sequences padded, packed, and the carry at resets and on padding", *parts)


def bptt() -> str:
    """What flows in the forward and in the reverse loop, and what is done once for all steps."""
    x, wide, count = 150, 128, 4
    names = ("1", "2", "3", "T")
    parts = [
        text(24, 26, "Backpropagation through time, as kernels.bptt runs it", "title"),
        box(x, 50, wide * count - 28, 34, "a", "project: us = xs W + b, one product for all T steps"),
        box(x, 216, wide * count - 28, 28, "pad", "saved: the gates of each step, kept for the way back"),
        box(x, 396, wide * count - 28, 34, "a", "collect, project: one product a weight, for all T steps"),
        text(x + (wide * count - 28) / 2, 452, "gradients of the weights, of xs and of the initial carry", "middle"),
        text(24, 108, "forward", "note"),
        text(24, 124, "loop", "note"),
        text(24, 274, "reverse", "note"),
        text(24, 290, "loop", "note"),
    ]
    for i, name in enumerate(names):
        left = x + i * wide
        middle = left + 50
        parts += [
            arrow(middle, 86, middle, 118),
            text(middle + 16, 101, f"u<tspan font-size='10' dy='4'>{name}</tspan>", "middle"),
            box(left, 122, 100, 44, "b", f"fwd, t = {name}"),
            arrow(middle, 170, middle, 212),
            arrow(middle, 246, middle, 284),
            box(left, 288, 100, 44, "c", f"bwd, t = {name}"),
            arrow(middle, 336, middle, 392, "warm"),
            text(middle + 20, 364, f"δu<tspan font-size='10' dy='4'>{name}</tspan>", "middle warm"),
        ]
        if i:
            parts += [
                arrow(left - 26, 144, left - 3, 144) if name != "T" else text(left - 14, 144, "…"),
                arrow(left - 3, 310, left - 26, 310, "warm") if name != "T" else text(left - 14, 310, "…"),
            ]
    end = x + wide * count - 28
    parts += [
        arrow(x - 34, 144, x - 3, 144),
        text(x - 58, 144, "carry", "middle"),
        arrow(end + 3, 144, end + 34, 144),
        text(end + 62, 134, "carry", "middle"),
        text(end + 62, 152, "and ys", "middle"),
        arrow(end + 34, 310, end + 3, 310, "warm"),
        text(end + 64, 300, "δcarry", "middle warm"),
        text(end + 64, 318, "and δys", "middle warm"),
        arrow(x - 3, 310, x - 34, 310, "warm"),
        text(x - 62, 310, "δcarry", "middle warm"),
    ]
    return svg(760, 474, "The data flow of backpropagation through time", *parts)


KEPT = {  # by kernel: what each of 12 steps keeps (| is a border), and that in words
    "scan": ("ssssssssssss", "all that JAX saves; weights are summed step by step"),
    "bptt": ("bbbbbbbbbbbb", "what bwd needs; weights are summed after the loop"),
    "native": ("bbbbbbbbbbbb", "the same, as machine code with the sums inside"),
    "remat(4)": ("o...o...obbb", "carries at borders; one segment at a time is run again"),
    "truncated(4)": ("bbbb|bbbb|bbbb", "as bptt, but no gradient crosses a border"),
    "chunkwise(4)": ("o...o...o...", "states at borders; one chunk at a time is run again"),
    "associative": ("oooooooooooo", "all states, of log T rounds"),
    "newton()": ("OOOOOOOOOOOO", "all carries and their Jacobians, of some rounds"),
}


def kernels() -> str:
    """What each kernel keeps of 12 steps until the gradient is taken."""
    parts = [text(24, 26, "What each kernel keeps of 12 steps for the gradient", "title")]
    for i, (name, (row, words)) in enumerate(KEPT.items()):
        y, x = 52 + 38 * i, 144
        parts.append(text(24, y + 13, name, "code"))
        for mark in row:
            if mark == "|":
                parts.append(cut(x - 1.5, y - 3, 32))
                continue
            if mark == "s":
                parts.append(box(x, y - 5, 15, 36, "b"))
            parts.append(box(x, y, 15, 26, {"s": "a", "b": "a", "O": "b"}.get(mark, "pad")))
            if mark in "oO":
                parts.append(f'<circle cx="{x + 7.5}" cy="{y + 13}" r="4.5" style="fill: var(--warm); stroke: none"/>')
            x += 18
        parts.append(text(374, y + 13, words, "note"))
    y = 52 + 38 * len(KEPT) + 14
    parts += [
        box(24, y, 15, 18, "a"),
        text(46, y + 9, "saved values", "note"),
        box(146, y, 15, 18, "b"),
        text(168, y + 9, "more of JAX's, or Jacobians", "note"),
        f'<circle cx="356" cy="{y + 9}" r="4.5" style="fill: var(--warm); stroke: none"/>',
        text(368, y + 9, "a carry", "note"),
        box(430, y, 15, 18, "pad"),
        text(452, y + 9, "nothing, computed again", "note"),
    ]
    return svg(760, y + 36, "What each kernel keeps of twelve steps", *parts)


PICTURES = {"packing.svg": packing, "bptt.svg": bptt, "kernels.svg": kernels}

if __name__ == "__main__":
    for file, draw in PICTURES.items():
        (Path(__file__).parent / "static" / file).write_text(draw(), encoding="utf-8")
