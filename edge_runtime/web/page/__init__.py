"""The local page: live pictures, what happened, and an editor of zones, for a person with a browser."""
