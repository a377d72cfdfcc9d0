"""The web page's files; `serving.routes.page` serves them."""
