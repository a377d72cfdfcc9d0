"""Videos and indexes in object storage and on the web, read through fsspec."""
