"""Pictures of QR codes, read as a device does: zxing-cpp wants dots, and no imaging library is at hand for them."""

from __future__ import annotations

import re
import struct
import zlib
from xml.etree import ElementTree

import zxingcpp

from eventsplatform.registrations.admission.codes import DOTS

Rows = list[bytearray]


def from_png(content: bytes) -> Rows:
    """The dots of a picture with one bit for each, black as 0 (https://www.w3.org/TR/png-3/)."""
    chunks, at = {}, 8
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        chunks[kind] = chunks.get(kind, b"") + content[at + 8 : at + 8 + length]
        at += 12 + length
    width, _, depth, colors = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colors) == (1, 0), "one bit of grey"
    lines, stride = zlib.decompress(chunks[b"IDAT"]), (width + 7) // 8
    rows: Rows = []
    before = bytes(stride)
    for at in range(0, len(lines), stride + 1):
        line = lines[at + 1 : at + 1 + stride]
        if lines[at] == 2:  # the filter `Up`: what is added to the line above
            line = bytes((one + other) % 256 for one, other in zip(line, before, strict=True))
        bits = f"{int.from_bytes(line):0{stride * 8}b}"
        rows.append(bytearray(255 if bit == "1" else 0 for bit in bits[:width]))
        before = line
    return rows


def from_svg(content: bytes, dots: int = DOTS) -> Rows:
    """The dots of a drawing that strokes runs of modules: `M` and `m` move, `h` draws."""
    root = ElementTree.fromstring(content)
    modules = int(root.attrib["width"]) // dots
    background, drawn = root.iter("{http://www.w3.org/2000/svg}path")
    assert background.attrib["fill"] in {"#fff", "white"}
    rows = [bytearray(b"\xff" * modules * dots) for _ in range(modules * dots)]
    x, y = 0.0, 0.0
    for step, first, second in re.findall(r"([Mmh])(-?[\d.]+)[ ,]?(-?[\d.]+)?", drawn.attrib["d"]):
        if step == "h":
            for row in rows[int(y) * dots : (int(y) + 1) * dots]:
                row[int(x) * dots : int(x + float(first)) * dots] = bytes(int(first) * dots)
            x += float(first)
        else:
            x, y = (0.0, 0.0) if step == "M" else (x, y)
            x, y = x + float(first), y + float(second)
    return rows


def read(rows: Rows) -> str:
    picture = memoryview(b"".join(rows)).cast("B", (len(rows), len(rows[0])))
    (code,) = zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormat.QRCode)
    return str(code.text)
