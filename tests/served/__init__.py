"""Asked of a real vLLM; a package, so that its servers end with its last test."""
