"""What a page for strangers needs: limits, visitors, copies of the log, and ZeroGPU."""
