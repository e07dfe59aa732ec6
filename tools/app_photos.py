"""Make the photographs of cam/app/photos, the samples of `cam app` for models that do not classify digits.

    python tools/app_photos.py

They are from scikit-image: an astronaut (Eileen Collins) by NASA, in the public domain; a cat (Chelsea) by Stefan van
der Walt and a cup of coffee by Rachel Michetti, both under CC0.
"""

from __future__ import annotations

from pathlib import Path

from skimage import data

from cam.images.io import shrink, write_image

FOLDER = Path(__file__).resolve().parents[1] / "cam" / "app" / "photos"


def main() -> None:
    """Write the photographs."""
    for name, image in (("astronaut", data.astronaut()), ("cat", data.chelsea()), ("coffee", data.coffee())):
        write_image(FOLDER / f"{name}.jpg", shrink(image, 480))


if __name__ == "__main__":
    main()
