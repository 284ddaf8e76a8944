"""``python -m napari_geosr`` is the command line."""

from napari_geosr.cli import main

if __name__ == "__main__":
    main()
