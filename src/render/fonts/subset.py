"""Makes Arimo-Regular.ttf and Arimo-Bold.ttf of this folder from the files of the same names in a folder.

    python3 subset.py /usr/share/fonts/truetype/croscore

Needs fontTools. The same fontTools makes the same bytes.
"""

import pathlib
import sys

from fontTools import subset, ttLib
from fontTools.pens.ttGlyphPen import TTGlyphPen

# What run names, names of weights and our own words are likely to hold.
CHARACTERS = [
    (0x20, 0x7E), (0xA0, 0x17F),  # Latin, with accents of Western and Central Europe
    (0x218, 0x21B), (0x2C6, 0x2DD),
    (0x37E, 0x3CE), (0x3D1, 0x3D6), (0x3F0, 0x3F6),  # Greek, and its variants in formulas
    (0x401, 0x45F), (0x490, 0x491),  # Cyrillic
    (0x1D2C, 0x1D6A),  # letters as superscripts and subscripts
    (0x2010, 0x205E),  # dashes, quotation marks, the ellipsis
    (0x2070, 0x209C),  # superscripts and subscripts
    (0x20AC, 0x20AC), (0x2100, 0x214F), (0x2150, 0x215E),  # letters of mathematics, fractions
    (0x2190, 0x2199), (0x21D0, 0x21D5),  # arrows
    (0x2200, 0x22FF),  # signs of mathematics
    (0x25A0, 0x25E6), (0x2660, 0x2666), (0x2713, 0x2717),
    (0xFB01, 0xFB02), (0xFFFD, 0xFFFD),
]  # fmt: skip


def add_direct_sum(font, weight):
    """⊕, which Conley indices are written with and Arimo lacks: its plus sign in a ring."""
    plus = font.getBestCmap()[ord("+")]
    bars = font["glyf"][plus]
    left, right = bars.xMin, bars.xMax
    middle = ((left + right) / 2, (bars.yMin + bars.yMax) / 2)
    outer, thickness = (right - left) / 2 + 40, {"Regular": 112, "Bold": 170}[weight]
    half = thickness / 2

    pen = TTGlyphPen(None)

    def circle(radius, turn):
        # The eight corners of the octagon around it: off-curve points alone, which TrueType draws as quadratic curves
        # through the middles of its sides.
        near = radius * (2**0.5 - 1)
        corners = [(radius, near), (near, radius), (-near, radius), (-radius, near)]
        corners += [(-x, -y) for x, y in corners]
        pen.qCurveTo(*[(round(middle[0] + x), round(middle[1] + y)) for x, y in corners[::turn]], None)
        pen.closePath()

    def bar(across, up):
        (x, y) = middle
        corners = [(x - across, y - up), (x - across, y + up), (x + across, y + up), (x + across, y - up)]
        first, *rest = [(round(a), round(b)) for a, b in corners]
        pen.moveTo(first)
        for corner in rest:
            pen.lineTo(corner)
        pen.closePath()

    circle(outer, -1)
    circle(outer - thickness, 1)
    bar(outer - half, half)
    bar(half, outer - half)
    name = "circleplus"
    font.setGlyphOrder([*font.getGlyphOrder(), name])
    font["glyf"][name] = pen.glyph()
    font["hmtx"][name] = (font["hmtx"][plus][0], round(middle[0] - outer))
    for table in font["cmap"].tables:
        if table.isUnicode():
            table.cmap[ord("⊕")] = name


def main(folder):
    options = subset.Options()
    options.hinting = False
    options.layout_features = ["kern", "mark", "mkmk", "ccmp"]
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 7, 13, 14]
    options.glyph_names = False
    options.notdef_outline = True
    options.drop_tables += ["DSIG", "gasp"]
    for weight in ["Regular", "Bold"]:
        file = f"Arimo-{weight}.ttf"
        font = ttLib.TTFont(pathlib.Path(folder, file), recalcTimestamp=False)
        add_direct_sum(font, weight)
        wanted = subset.Subsetter(options)
        wanted.populate(unicodes=[code for first, last in CHARACTERS for code in range(first, last + 1)])
        wanted.subset(font)
        font.save(pathlib.Path(__file__).parent / file)


if __name__ == "__main__":
    main(sys.argv[1])
