"""Side by side with other codecs: encoders, quality measures, rate-distortion curves, tables, plots and a page."""
