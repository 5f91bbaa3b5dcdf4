"""Prints as JSON what TensorBoard reads in a folder of event files.

It asks both of its readers: the one for programs, and the one behind its pages, which must agree. Each entry of
`scalars` and `histograms` is `[step, value]`, of `texts` `[step, text]`.
"""

import json
import sys

from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util

EVERYTHING = {"scalars": 0, "histograms": 0, "tensors": 0, "compressedHistograms": 1, "images": 1, "audio": 1}


def histogram(event):
    value = event.histogram_value
    fields = ("min", "max", "num", "sum", "sum_squares", "bucket_limit", "bucket")
    return [event.step, {name: getattr(value, name) for name in fields}]


def main(folder):
    events = event_accumulator.EventAccumulator(folder, size_guidance=EVERYTHING)
    events.Reload()
    pages = plugin_event_accumulator.EventAccumulator(folder, size_guidance=EVERYTHING, tensor_size_guidance={
        "scalars": 0, "histograms": 0, "text": 0})
    pages.Reload()
    tags = events.Tags()
    scalars = {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]}
    for tag, values in scalars.items():
        shown = [[event.step, float(tensor_util.make_ndarray(event.tensor_proto))] for event in pages.Tensors(tag)]
        assert shown == values, f"{tag}: pages show {shown} instead of {values}"
    histograms = {tag: [histogram(event) for event in events.Histograms(tag)] for tag in tags["histograms"]}
    for tag, values in histograms.items():
        for event, (step, value) in zip(pages.Tensors(tag), values, strict=True):
            assert event.step == step, tag
            shown = tensor_util.make_ndarray(event.tensor_proto)[:, 2].tolist()
            assert shown == value["bucket"], f"{tag}: pages show {shown} instead of {value}"
    texts = {
        tag: [[event.step, event.tensor_proto.string_val[0].decode()] for event in events.Tensors(tag)]
        for tag in tags["tensors"]
    }
    plugins = {tag: pages.SummaryMetadata(tag).plugin_data.plugin_name for tag in pages.Tags()["tensors"]}
    start = min(event.wall_time for tag in scalars for event in events.Scalars(tag))
    json.dump({"scalars": scalars, "histograms": histograms, "texts": texts, "plugins": plugins, "start": start}, sys.stdout)


main(sys.argv[1])
