"""Formats of pictures: their endings, and what to say of those that cannot be read. Nothing is imported here."""

from __future__ import annotations

COMMON_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM")  # tried first: Pillow loads their readers in any case
OTHER_FORMATS = (
    "WEBP",
    "AVIF",
    "TIFF",
    "JPEG2000",
    "MPO",
    "DIB",
    "ICO",
    "ICNS",
    "PCX",
    "PSD",
    "QOI",
    "SGI",
    "XBM",
    "XPM",
)
ADDED_FORMATS = ("HEIF", "JXL")  # read where an add-on of Pillow is installed
LAST_FORMAT = "TGA"  # it has no magic number
"""What is read. Formats that run other programs (EPS), or are drawings or scientific arrays, are not."""

ADD_ONS = {"HEIF": ("pillow_heif", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
"""Module and package of the add-on for a format."""

_ENDINGS = (
    "apng avif avifs bmp bw dib gif icb icns ico j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx mpo pbm pcx "
    "pgm png pnm ppm psd qoi rgb rgba sgi tga tif tiff vda vst webp xbm xpm"
)
ENDINGS = frozenset(_ENDINGS.split())
ADDED_ENDINGS = {"HEIF": frozenset({"heic", "heics", "heif", "heifs", "hif"}), "JXL": frozenset({"jxl"})}
_UNREAD_ENDINGS = (
    "3fr ai arw bpg cr2 cr3 crw cur dcr dcs dcx dds djvu dng emf eps erf exr fff fit fits fpx gpr hdr iiq jng jp3d jxr "
    "k25 kdc mef mng mos mrw nef nrw orf pam pcd pct pef pfm pict psb raf ras raw rw2 rwl sr2 srf srw svg svgz wdp wmf "
    "x3f xcf"
)
UNREAD_ENDINGS = frozenset(_UNREAD_ENDINGS.split())
"""Pictures of formats that are not read: not passed over in silence."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BRANDS = {b"heic": "HEIF", b"heix": "HEIF", b"heim": "HEIF", b"heis": "HEIF", b"hevc": "HEIF", b"hevx": "HEIF",
           b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF", b"crx ": "RAW"}  # fmt: skip
_STARTS = (
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"IIU\0", "RAW"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"FOVb", "RAW"),
    (b"\0MRM", "RAW"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "DDS"),
    (b"gimp xcf", "GIMP's XCF"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"<svg", "SVG"),
    (b"\x8bJNG", "JNG"),
    (b"\x8aMNG", "MNG"),
    (b"SIMPLE  =", "FITS"),
    (b"BPG\xfb", "BPG"),
    (b"P7\n", "PAM"),
    (b"PF\n", "PFM"),
    (b"AT&TFORM", "DjVu"),
    (b"\0\x05\x16\x07", "AppleDouble"),
)
_NAMES = {"HEIF": "HEIC/HEIF", "JXL": "JPEG XL", "AVIF": "AVIF", "RAW": "a camera's raw format"}


def picture_endings() -> frozenset[str]:
    """Endings, without their dot, of the pictures that can be read here: with the add-ons that are installed."""
    from importlib.util import find_spec

    added = [ADDED_ENDINGS[name] for name, (module, _) in ADD_ONS.items() if find_spec(module) is not None]
    return ENDINGS.union(*added)


def unread_endings() -> frozenset[str]:
    """Endings, without their dot, of pictures that cannot be read here."""
    return UNREAD_ENDINGS.union(*ADDED_ENDINGS.values()) - picture_endings()


def package_for(ending: str) -> str | None:
    """The package that an ending, without its dot, needs; None where none helps."""
    return next((ADD_ONS[name][1] for name, endings in ADDED_ENDINGS.items() if ending in endings), None)


def recognised(head: bytes) -> str | None:
    """The format of a file that begins with these bytes (32 suffice), of those that need more than Pillow has."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12]) or _BRANDS.get(head[16:20])
    return next((name for start, name in _STARTS if head.startswith(start)), None)


def refusal(head: bytes) -> str:
    """Why a file that begins with these bytes is not read, and what would help."""
    if head.startswith(TIFF_STARTS):
        return "a TIFF of this kind cannot be read here: save it with LZW or deflate"
    name = recognised(head)
    if head.startswith(b"8BPS"):
        bits = int.from_bytes(head[22:24], "big")
        return f"a Photoshop file of {bits} bits per channel in this mode cannot be read: save it as RGB of 8 bits"
    if name is None:
        return "not a picture, cut in its first bytes, or of a format that cannot be read here"
    shown = _NAMES.get(name, name)
    if name in ADD_ONS:
        return f"this is a {shown} picture: install {ADD_ONS[name][1]} (pip install {ADD_ONS[name][1]}), or convert it"
    if name == "AVIF":
        return "this is an AVIF picture: install a Pillow that reads AVIF (pip install --upgrade pillow), or convert it"
    if name == "AppleDouble":
        return "this is a side file of macOS (AppleDouble) and holds no picture: leave it out"
    if name == "RAW":
        return "this is a camera's raw file: develop it first, into a TIFF, JPEG or PNG"
    return f"this is a file of the format {shown}, which is not read: convert it to PNG or TIFF first"
