"""Receipts: what a variant is measured to be, against its source; and the pure gate that judges them."""
