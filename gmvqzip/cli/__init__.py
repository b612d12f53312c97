"""The command line: one file a command; no arithmetic here, only options, names, messages and exit codes."""
