"""An index -> the HTTP API and the web page that search it."""
