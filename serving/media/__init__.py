"""Videos of the index -> thumbnails, clips and files that browsers show."""
