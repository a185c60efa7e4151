"""Steps that make a first model file of a source; one module a tool, imported in a step's own process."""
