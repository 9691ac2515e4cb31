"""What drafters' files say: config, format, tensors, the target they fit; no tensor library."""
