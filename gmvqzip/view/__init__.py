"""What a file's bits went to, as one HTML page: maps of bits, code usage, bytes by part."""
