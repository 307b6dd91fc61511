"""Training: an ordinary encoder made elastic, every exit and dim a good embedding. Imported by nothing that serves."""
