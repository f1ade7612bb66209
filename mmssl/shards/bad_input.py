"""Why one input was left out of a shard set."""


class BadInput(Exception):
    """One input cannot be used, for the reason in the message: it is skipped, counted and named."""
