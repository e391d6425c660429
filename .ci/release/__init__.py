"""Whether a release could go out: the items that `make release-check` checks, and the files that they renew."""
