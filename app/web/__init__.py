"""The page, and what belongs to it: pure texts, and views that show them."""
