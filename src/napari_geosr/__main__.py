"""Run the command line with ``python -m napari_geosr``."""

from napari_geosr.cli import main

if __name__ == "__main__":
    main()
