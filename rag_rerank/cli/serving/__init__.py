"""Commands that answer for programs: a server."""
