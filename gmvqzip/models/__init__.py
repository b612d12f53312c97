"""Networks, model files and the registry of installed models."""
