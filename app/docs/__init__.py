"""The guides: Markdown pages, and the HTML that `/guide` makes of them."""
