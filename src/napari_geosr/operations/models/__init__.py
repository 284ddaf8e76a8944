"""The models that there are: to find, import and export them."""
