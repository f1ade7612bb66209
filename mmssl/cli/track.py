"""``mmssl track``: follow one target through a video, a folder of images or what a camera sees."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mmssl.errors import MmsslError

if TYPE_CHECKING:
    from mmssl.models.feature_map import FeatureMap
    from mmssl.tracking.boxes import Boxes
    from mmssl.tracking.frames import Frames
    from mmssl.tracking.overlay import Film, Sheet
    from mmssl.tracking.tracker import Tracker


class Preset(StrEnum):
    """Whose settings to track with."""

    udt = "udt"
    dcfnet = "dcfnet"


def track(
    video: Annotated[str, typer.Argument(help="A video file, a folder of images, or a camera's number (0).")],
    box: Annotated[
        str,
        typer.Option(
            metavar="X,Y,W,H", help="The target in the first frame: left, top, width and height in pixels."
        ),
    ],
    encoder: Annotated[
        Path,
        typer.Option(
            help="What to see with: a folder with encoder.safetensors, as training leaves it in "
            "runs/PIPELINE/STAGE/encoders/NAME. Untrained networks track poorly, so there is no default."
        ),
    ],
    stage: Annotated[
        int | None,
        typer.Option(min=0, help="Stage of the encoder whose feature map is used.", show_default="the last"),
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="Settings of UDT's original code, or of DCFNet's.")
    ] = Preset.udt,
    frames: Annotated[
        str,
        typer.Option(metavar="A:B", help="Only the frames A to B − 1, counted from 0; the box holds in A."),
    ] = ":",
    out: Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="tracked/NAME")] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Write a contact sheet, sheet.png, as well.")
    ] = False,
    origin: Annotated[
        int,
        typer.Option(min=0, max=1, help="What --box and boxes.txt call the first pixel: 1 as OTB, or 0."),
    ] = 1,
) -> None:
    """Follow a target that is given in the first frame.

    Writes boxes.txt, one `x,y,w,h` a frame as in OTB's result files, and overlay.mp4. Ctrl-C ends it early,
    and is the way to end with a camera: what there is by then is written.

    Examples:

    - `mmssl track clip.mp4 --box 198,214,34,81 --encoder runs/tracker/udt/encoders/image`

    - `mmssl track OTB/David/img --box 129,80,64,78 --encoder my_encoder --frames 0:100 --sheet`
    """
    console = Console(stderr=True)
    first, end = _span(frames)
    target = _box(box, origin)
    with console.status("loading torch"):  # seconds, and nothing else to see
        from mmssl.evaluate.tracking.results import write_boxes
        from mmssl.files import write_bytes
        from mmssl.tracking.frames import open_frames
        from mmssl.tracking.overlay import Film, Sheet
        from mmssl.tracking.tracker import PRESETS, Tracker

        tracker = Tracker(_features(encoder, stage), PRESETS[preset.value])
    source = open_frames(video)
    folder = out or Path("tracked", Path(source.name).stem)
    pictures: dict[str, Film | Sheet] = {"overlay.mp4": Film(source.rate)}
    if sheet:
        pictures["sheet.png"] = Sheet()
    boxes = _follow(tracker, source, range(len(source))[first:end], target, list(pictures.values()), console)
    write_boxes(folder / "boxes.txt", boxes, origin=origin)
    for name, picture in pictures.items():
        write_bytes(folder / name, picture.finish())
    print(folder)


def _follow(
    tracker: "Tracker",
    source: "Frames",
    numbers: range,
    box: "Boxes",
    outputs: "list[Film | Sheet]",
    console: Console,
) -> "Boxes":
    """Track, and draw as it goes; the boxes (n, 4) counted from 0."""
    import numpy as np

    from mmssl.progress import progress_bar
    from mmssl.tracking.overlay import drawn

    if not len(numbers):
        raise MmsslError(f"--frames: none of them is in {source.name}, which has {len(source)}")
    boxes: list[Boxes] = []
    total = None if len(source) == sys.maxsize else len(numbers)
    try:
        with progress_bar(source.name, "frames", console) as progress:
            for number, frame in zip(numbers, source.walk(numbers), strict=True):
                if boxes:
                    box, score = tracker.update(frame)
                else:
                    tracker.init(frame, box)
                    score = 1.0
                boxes.append(box)
                picture = drawn(frame, box, f"{number}  {score:.2f}")
                for output in outputs:
                    output.put(picture)
                progress(len(boxes), total)
    except KeyboardInterrupt:
        if not boxes:
            raise
        console.print(f"stopped after {len(boxes)} frames")
    return np.stack(boxes)


def _features(folder: Path, stage: int | None) -> "FeatureMap":
    import torch

    from mmssl.models.artifact import load_encoder
    from mmssl.models.feature_map import FeatureMap, frame_encoder

    encoder = frame_encoder(load_encoder(folder), f"--encoder {folder}")
    return FeatureMap(encoder, stage).to("cuda" if torch.cuda.is_available() else "cpu")


def _box(text: str, origin: int) -> "Boxes":
    """(4,) counted from 0."""
    import numpy as np

    try:
        x, y, w, h = (float(number) for number in text.replace(",", " ").split())
    except ValueError as error:
        raise MmsslError(f"--box: {text!r}; expected four numbers: left,top,width,height") from error
    return np.array([x - origin, y - origin, w, h])


def _span(text: str) -> tuple[int | None, int | None]:
    try:
        first, end = (int(number) if number.strip() else None for number in text.split(":"))
        if (first or 0) < 0 or (end or 0) < 0:
            raise ValueError
    except ValueError as error:
        raise MmsslError(f"--frames: {text!r}; expected A:B, such as 100:250, 100: or :250") from error
    return first, end
