"""An audit of result folders: compressed and uncompressed runs side by side, item by item."""
