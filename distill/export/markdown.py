"""Text from outside in Markdown."""


def code(value: object) -> str:
    """As code."""
    return f"`{plain(value).replace('`', '')}`"


def plain(value: object) -> str:
    """Text that cannot break a table or start markup."""
    return " ".join(str(value).replace("|", "/").replace("<", "‹").replace(">", "›").split())
