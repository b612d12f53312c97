"""One engine for each kind of model: pixels <-> code indices <-> payload, without pictures and containers."""
