"""Pictures in and out of files: Pillow is known here and nowhere below."""
