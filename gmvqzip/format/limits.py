"""The limits of the file format, version 1. docs/format.md states the same numbers."""

MAX_SIDE = 2**21  # pixels; width - 1 and height - 1 are varints of at most three bytes
SHORT_SIDE = 256  # pixels; the longest side that the short form of the header can state
MAX_HALVINGS = 16  # of a picture that is coded at a reduced size; 2^21 pixels become 32
MAX_QUALITY = 100  # 0 stands for a model with a single rate
MAX_PIXELS = 134_217_728  # pixels, 2^27; what a reader accepts unless told otherwise
MAX_HEADER_BYTES = 21  # the long form with both sides above 16,384, and halvings
MAX_SECTION_TYPE = 16_383  # a section's type is a varint of at most two bytes
MAX_SECTION_BYTES = 2**30  # bytes in one section
MAX_PROFILE_BYTES = 2**24  # bytes of a colour profile once inflated
MAX_METADATA_BYTES = 2**24  # bytes of all metadata once inflated
MAX_CODES = 2**30  # code indices in one payload
MIN_TILE_SIDE, MAX_TILE_SIDE = 2**5, 2**12  # pixels; a tile's side is a power of two
MAX_OFFSETS = 2**21  # places of a picture's latent that have an offset
MAX_OFFSET = 2**15 - 1  # steps of the quantiser, either way
MAX_TABLE = 65_536  # entries in one frequency table
MAX_INDEX = 2**31 - 1  # a code, and with it the number of one of its points

MAX_PACK_BYTES = 2**40 - 1  # offsets in a pack are numbers of five bytes
MAX_SEGMENTS = 16_384  # in a pack; each append adds one
MAX_SEGMENT_ENTRIES = 2**20  # pictures in one segment
MAX_INDEX_BYTES = 2**25  # bytes of one segment's index, inflated
MAX_ALL_INDEX_BYTES = 2**26  # bytes of all indexes of a pack, inflated
MAX_ALL_NAME_BYTES = 2**28  # bytes of all names of a pack
MAX_NAME_BYTES = 1024  # of a picture's name in UTF-8
