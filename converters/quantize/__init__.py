"""Steps that make smaller or faster variants of a model file; one module a tool, imported by the step."""
