"""Why a run was not faster: what its own figures say, and what to try."""
