"""MLX backend: Apple Silicon, and any CPU that MLX runs on."""
