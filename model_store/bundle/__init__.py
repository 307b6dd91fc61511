"""What a bundle is: manifest, tensors, checksums, and where bundles lie."""
