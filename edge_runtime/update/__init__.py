"""Updates of models, settings and labels that leave a device with one whole version, whatever happens."""
