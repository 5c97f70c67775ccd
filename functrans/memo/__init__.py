"""The memo: traces that were recorded once are recognised when the same operations come again."""
