"""Browsers: packs a bundle's variant for a page, and runs variants in Chromium to measure them."""
