"""PyTorch backend: CPU, CUDA and MPS."""
