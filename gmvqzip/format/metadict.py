"""The preset dictionary of metadata sections: what EXIF and XMP have in common from picture to picture.

docs/format.md states it; a change of one byte would make files unreadable.
"""

from __future__ import annotations

import struct

TEXTS = (
    # XMP, from the rare to the common: what stands last costs least.
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/1.0/camera/",
    "http://www.metadataworkinggroup.com/schemas/regions/",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "http://ns.adobe.com/camera-raw-settings/1.0/",
    "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
    "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "http://ns.adobe.com/xap/1.0/rights/",
    "http://ns.adobe.com/xmp/note/",
    "xmpNote:HasExtendedXMP=",
    "<xmpMM:History><rdf:Seq><rdf:li stEvt:action=",
    "<dc:rights><rdf:Alt><rdf:li xml:lang='x-default'></rdf:li></rdf:Alt></dc:rights>",
    '<dc:description><dc:title><rdf:Alt><rdf:li xml:lang="x-default"></rdf:li></rdf:Alt></dc:title></dc:description>',
    "<dc:creator><rdf:Seq><rdf:li></rdf:li></rdf:Seq></dc:creator>",
    "<dc:subject><rdf:Bag><rdf:li></rdf:li></rdf:Bag></dc:subject>",
    ' xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmpMM:DocumentID="xmp.did: xmpMM:InstanceID="xmp.iid:',
    ' xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" xmlns:exifEX="http://cipa.jp/exif/1.0/"',
    ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:DateCreated="',
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/jpeg"',
    ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="1" <tiff:Make>Apple</tiff:Make><tiff:Model>iPhone',
    ' xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:PixelXDimension="',
    "<xmp:CreateDate></xmp:CreateDate><xmp:ModifyDate></xmp:ModifyDate><xmp:CreatorTool></xmp:CreatorTool>",
    ' xmp:Rating="0" xmp:MetadataDate="20 xmp:ModifyDate="20 xmp:CreateDate="20 xmp:CreatorTool="',
    '<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n',
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core XMP Core 6.0.0">\n',
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n',
    '  <rdf:Description rdf:about=""\n    xmlns:xmp="http://ns.adobe.com/xap/1.0/"',
    ">\n  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n" + 64 * " " + '\n<?xpacket end="w"?>',
    # Texts of EXIF.
    "NIKON CORPORATION\0FUJIFILM\0Panasonic\0OLYMPUS\0Xiaomi\0HUAWEI\0OnePlus\0motorola\0SONY\0ILCE-\0Canon EOS \0",
    "Adobe Photoshop Lightroom Classic (Macintosh)\0Windows)\0(c) Copyright ",
    " back dual wide camera mm f/1.8\0 front triple camera \0Google\0Pixel HDR+ 1.0.\0samsung\0SM-G\0",
    "Apple\0iPhone SE 11 12 13 14 15 16 Pro Max\0 back triple camera 6.86mm f/1.78\0",
    "Apple iOS\0\0\1MMbplist00\xd4\1\2\3\4\5\6\7\x08UflagsUvalueYtimescaleUepoch\x10\1\x13",
    "WGS-84\0ASCII\0\0\0UNICODE\0JIS\0\0\0\0\0R98\x000100GPS\0CELLID\0+00:00\0-05:00\0+01:00\0+02:00\0",
    "2019:01:2020:02:2021:03:2022:04:2023:05:2024:06:2025:07:2026:08:",
)
NUMBERS = (1, 2, 5, 10, 72, 96, 180, 240, 300, 350, 1000, 10000, 65536, 1_000_000, 100, 1)
"""Denominators of rationals."""

ENTRIES = (
    # tag, type, count and value of IFD entries; without a value where it differs, without a count where that does.
    (0x0001, 2, 2, b"N\0\0\0"),
    (0x0002, 5, 3),
    (0x0003, 2, 2, b"E\0\0\0"),
    (0x0004, 5, 3),
    (0x0005, 1, 1, b"\0\0\0\0"),
    (0x0006, 5, 1),
    (0x0007, 5, 3),
    (0x000C, 2, 2, b"K\0\0\0"),
    (0x000D, 5, 1),
    (0x0010, 2, 2, b"T\0\0\0"),
    (0x0011, 5, 1),
    (0x0017, 2, 2, b"T\0\0\0"),
    (0x0018, 5, 1),
    (0x001B, 7),
    (0x001D, 2, 11),
    (0x001F, 5, 1),
    (0x0100, 4, 1),
    (0x0101, 4, 1),
    (0x010E, 2),
    (0x010F, 2),
    (0x0110, 2),
    (0x0112, 3, 1, 1),
    (0x011A, 5, 1),
    (0x011B, 5, 1),
    (0x0128, 3, 1, 2),
    (0x0131, 2),
    (0x0132, 2, 20),
    (0x013B, 2),
    (0x013C, 2),
    (0x0213, 3, 1, 1),
    (0x8298, 2),
    (0x8769, 4, 1),
    (0x8825, 4, 1),
    (0x829A, 5, 1),
    (0x829D, 5, 1),
    (0x8822, 3, 1, 2),
    (0x8827, 3, 1),
    (0x8830, 3, 1, 2),
    (0x8832, 4, 1),
    (0x9000, 7, 4, b"0232"),
    (0x9003, 2, 20),
    (0x9004, 2, 20),
    (0x9010, 2, 7),
    (0x9011, 2, 7),
    (0x9012, 2, 7),
    (0x9101, 7, 4, b"\1\2\3\0"),
    (0x9102, 5, 1),
    (0x9201, 10, 1),
    (0x9202, 5, 1),
    (0x9203, 10, 1),
    (0x9204, 10, 1),
    (0x9205, 5, 1),
    (0x9206, 5, 1),
    (0x9207, 3, 1, 5),
    (0x9208, 3, 1, 0),
    (0x9209, 3, 1, 16),
    (0x920A, 5, 1),
    (0x9214, 3, 4),
    (0x927C, 7),
    (0x9286, 7),
    (0x9290, 2, 4),
    (0x9291, 2, 4),
    (0x9292, 2, 4),
    (0xA000, 7, 4, b"0100"),
    (0xA001, 3, 1, 1),
    (0xA002, 4, 1),
    (0xA003, 4, 1),
    (0xA005, 4, 1),
    (0xA20E, 5, 1),
    (0xA20F, 5, 1),
    (0xA210, 3, 1, 3),
    (0xA217, 3, 1, 2),
    (0xA300, 7, 1, b"\3\0\0\0"),
    (0xA301, 7, 1, b"\1\0\0\0"),
    (0xA401, 3, 1, 0),
    (0xA402, 3, 1, 0),
    (0xA403, 3, 1, 0),
    (0xA404, 5, 1),
    (0xA405, 3, 1),
    (0xA406, 3, 1, 0),
    (0xA408, 3, 1, 0),
    (0xA409, 3, 1, 0),
    (0xA40A, 3, 1, 0),
    (0xA420, 2, 33),
    (0xA432, 5, 4),
    (0xA433, 2),
    (0xA434, 2),
    (0xA460, 3, 1, 2),
)


def _ifd(order: str) -> bytes:
    """The part of the dictionary in one byte order, of struct's `order`."""
    out = b"".join(struct.pack(f"{order}I", number) for number in NUMBERS)
    for tag, kind, *rest in ENTRIES:
        out += struct.pack(f"{order}HH", tag, kind)
        if rest:
            out += struct.pack(f"{order}I", rest[0])
        if len(rest) > 1:
            value = rest[1]
            out += value if isinstance(value, bytes) else struct.pack(f"{order}HH", value, 0)
    return out + (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 12)


DICTIONARY = "".join(TEXTS).encode("latin-1") + _ifd("<") + _ifd(">")
