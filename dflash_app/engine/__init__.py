"""The decode loop and its thread. No tensor library is imported here."""
