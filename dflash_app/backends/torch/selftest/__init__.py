"""What `dflash-app doctor --families` runs: tiny random models, an oracle, the check of a family.

The tests run the same. Nothing else of the app imports it.
"""
