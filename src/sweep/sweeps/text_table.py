"""Tables as plain text. Written out: rich takes a minute to draw 10,000 rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def aligned(rows: Iterable[Iterable[str]], *, left: int) -> Iterator[str]:
    """Lines of aligned columns under a head, the first `left` columns to the left and the others to the right."""
    cells = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        texts = (
            text.ljust(width) if i < left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(texts).rstrip()
        if number == 0:
            yield "  ".join("─" * width for width in widths if width)
