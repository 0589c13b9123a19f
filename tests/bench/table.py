"""Tables that are read in a terminal and in Markdown alike."""


def print_table(heads, rows):
    """The first column is text, all others are numbers."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]) + " |")
