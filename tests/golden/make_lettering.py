"""Writes the outlines of every visible label's words, as they are drawn by `ledger.provenance.label`.

    apt-get install fonts-noto-core fonts-noto-cjk && pip install uharfbuzz fonttools
    python tests/golden/make_lettering.py > ledger/provenance/lettering.json

The words are set here, once, by HarfBuzz in Noto Sans Bold (SIL Open Font License 1.1), because Devanagari has to be
shaped and Chinese glyphs fill megabytes. So stamping a clip needs no font and no shaping, and draws the same pixels
everywhere. Units are thousandths of the height of a capital; an
ideograph is larger by a third, as it holds more.
"""

import json
from typing import Any

import uharfbuzz as hb

Source = tuple[str, int, str, float]
NOTO = "/usr/share/fonts/{}/noto/{}"
LATIN = (NOTO.format("truetype", "NotoSans-Bold.ttf"), 0, "H", 1.0)
CHINESE = (NOTO.format("opentype", "NotoSansCJK-Bold.ttc"), 2, "\u4eba", 1.3)
DEVANAGARI = (NOTO.format("truetype", "NotoSansDevanagari-Bold.ttf"), 0, "\u0915", 1.0)
WORDS: dict[str, tuple[str, Source]] = {
    "icon": ("AI", LATIN),
    "de": ("KI-generiert", LATIN),
    "en": ("AI-generated", LATIN),
    "es": ("Generado por IA", LATIN),
    "fr": ("Généré par IA", LATIN),
    "hi": ("एआई द्वारा निर्मित", DEVANAGARI),
    "it": ("Generato da IA", LATIN),
    "nl": ("AI-gegenereerd", LATIN),
    "pl": ("Wygenerowane przez AI", LATIN),
    "pt": ("Gerado por IA", LATIN),
    "zh": ("人工智能生成", CHINESE),
}
STEPS = 3
"""Straight pieces of one curve."""
Point = tuple[float, float]


class _Pen:
    """What HarfBuzz draws, flattened into closed polygons."""

    def __init__(self, left: float, scale: float, up: float) -> None:
        self.contours: list[list[Point]] = []
        self._left, self._scale, self._up = left, scale, up
        self._at: Point = (0, 0)

    def _add(self, point: Point) -> None:
        x, y = (self._left + point[0]) * self._scale, (self._up + point[1]) * self._scale
        self.contours[-1].append((round(x), round(y)))

    def move_to(self, x: float, y: float, _: Any) -> None:
        self.contours.append([])
        self._at = (x, y)
        self._add(self._at)

    def line_to(self, x: float, y: float, _: Any) -> None:
        self._at = (x, y)
        self._add(self._at)

    def quadratic_to(self, x1: float, y1: float, x: float, y: float, _: Any) -> None:
        (x0, y0), steps = self._at, range(1, STEPS + 1)
        for t in (step / STEPS for step in steps):
            u = 1 - t
            self._add((u * u * x0 + 2 * u * t * x1 + t * t * x, u * u * y0 + 2 * u * t * y1 + t * t * y))
        self._at = (x, y)

    def cubic_to(self, x1: float, y1: float, x2: float, y2: float, x: float, y: float, _: Any) -> None:
        (x0, y0), steps = self._at, range(1, STEPS + 1)
        for t in (step / STEPS for step in steps):
            u = 1 - t
            weights = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
            xs, ys = (x0, x1, x2, x), (y0, y1, y2, y)
            self._add(
                (
                    sum(a * b for a, b in zip(weights, xs, strict=True)),
                    sum(a * b for a, b in zip(weights, ys, strict=True)),
                )
            )
        self._at = (x, y)

    def close_path(self, _: Any) -> None:
        return


def outlines(text: str, source: Source) -> dict[str, Any]:
    path, index, tall, larger = source
    font = hb.Font(hb.Face(hb.Blob.from_file_path(path), index))
    height = font.get_glyph_extents(font.get_nominal_glyph(ord(tall))).height
    scale = 1000 * larger / abs(height)
    buffer = hb.Buffer()
    buffer.add_str(text)
    buffer.guess_segment_properties()
    hb.shape(font, buffer)
    draw = hb.DrawFuncs()
    glyphs: list[list[list[Point]]] = []
    left = 0
    for glyph, place in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
        pen = _Pen(left + place.x_offset, scale, place.y_offset)
        for name in ("move_to", "line_to", "quadratic_to", "cubic_to", "close_path"):
            getattr(draw, f"set_{name}_func")(
                lambda *given, pen=pen, name=name: getattr(pen, name)(*given[:-1], None)
            )
        font.draw_glyph(glyph.codepoint, draw)
        if pen.contours:
            glyphs.append(pen.contours)
        left += place.x_advance
    return {"text": text, "glyphs": glyphs}


if __name__ == "__main__":
    print(
        json.dumps(
            {name: outlines(*one) for name, one in WORDS.items()}, separators=(",", ":"), ensure_ascii=False
        )
    )
