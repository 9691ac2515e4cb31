"""Reading model folders, which belongs to no tensor library and still lives with PyTorch's.

To move down, where both backends may import it; imports no tensor library.
"""

from dflash_app.backends.torch.drafter_marks import name_format
from dflash_app.backends.torch.headers import stored_tensors
from dflash_app.backends.torch.weights import read_json, weight_files

__all__ = ["name_format", "read_json", "stored_tensors", "weight_files"]
