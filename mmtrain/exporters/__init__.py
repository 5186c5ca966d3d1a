"""Exported models that are proven to be the same model: graphs, files, the certificate and the package."""
