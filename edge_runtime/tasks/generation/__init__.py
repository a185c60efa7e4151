"""Generating text: prompts to tokens, logits to tokens, tokens to text. Runs no model."""
