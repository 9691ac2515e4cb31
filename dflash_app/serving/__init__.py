"""How vLLM or SGLang serve a pair: commands with their reasons, and a server of this machine."""
