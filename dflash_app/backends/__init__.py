"""Where tensors live: one package per tensor library, never importing each other."""
