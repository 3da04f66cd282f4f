"""TensorBoard: one folder of event files for each run and case, with hyperparameters."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs.result import Row
from activjax.runs.trackers.protocol import Tracked, row_values


def make(place: Path) -> TensorBoard:
    """The adapter. `tensorboard --logdir <place>` shows what it writes."""
    return TensorBoard(place)


class TensorBoard:
    """Writes event files by TensorBoard's own writer."""

    def __init__(self, place: Path):
        self._place = place
        self._writers: dict[tuple[str, str | None], Any] = {}

    def begin(self, run: Tracked) -> None:
        """Its files are opened when there is something to write."""

    def metrics(
        self, run: Tracked, case: str | None, step: int, values: Mapping[str, float]
    ) -> None:
        """One event for each metric."""
        self._add(run, case, step, [_scalar(name, value) for name, value in values.items()])

    def summary(self, run: Tracked, rows: Sequence[Row]) -> None:
        """Scalars at step 0, and a line in the table of hyperparameters."""
        from tensorboard.plugins.hparams import summary_v2  # pyright: ignore

        values = row_values(rows)
        self._add(run, None, 0, [_scalar(f"summary/{name}", v) for name, v in values.items()])
        if run.parent is not None or rows:
            hparams = summary_v2.hparams_pb(run.config, trial_id=run.id)
            self._add(run, None, 0, list(hparams.value))

    def figures(self, run: Tracked, files: Mapping[str, Path]) -> None:
        """Images at step 0."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

        for name, path in files.items():
            data = path.read_bytes()
            width, height = struct.unpack(">II", data[16:24])  # of a PNG's first chunk
            image = Summary.Image(
                width=width, height=height, colorspace=4, encoded_image_string=data
            )
            self._add(run, None, 0, [Summary.Value(tag=f"figures/{name}", image=image)])

    def flush(self) -> None:
        """To the disk."""
        for writer in self._writers.values():
            writer.flush()

    def end(self, run: Tracked, status: str) -> None:
        """Close its files."""
        self._add(run, None, 0, [_session_end(status)])
        for key in [key for key in self._writers if key[0] == run.id]:
            self._writers.pop(key).close()

    def _add(self, run: Tracked, case: str | None, step: int, values: list[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._writer(run, case).add_event(event)

    def _writer(self, run: Tracked, case: str | None) -> Any:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore
        from tensorboard.summary.writer.event_file_writer import EventFileWriter  # pyright: ignore

        key = (run.id, case)
        if key not in self._writers:
            writer = EventFileWriter(str(self._place / run.id / (case or "")))
            if case in run.sent:  # later steps of an earlier file were not noted: they come again
                session = SessionLog(status=SessionLog.START)
                step = run.sent[case] + 1
                writer.add_event(Event(wall_time=time.time(), step=step, session_log=session))
            self._writers[key] = writer
        return self._writers[key]


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

    return Summary.Value(tag=tag, simple_value=value)


def _session_end(status: str) -> Any:
    """How a run ended, for the table; the library's own helper wants TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore
    from tensorboard.plugins.hparams import (  # pyright: ignore
        api_pb2,
        metadata,
        plugin_data_pb2,
    )

    codes = {"done": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}
    info = plugin_data_pb2.SessionEndInfo(
        status=api_pb2.Status.Value(codes.get(status, "STATUS_UNKNOWN")), end_time_secs=time.time()
    )
    data = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    return Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
