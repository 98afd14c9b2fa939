"""The plugin's windows of their own. None of them is modal: Krita goes on beside them."""
