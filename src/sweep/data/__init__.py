"""What a model trains on: the embedded corpus, OLMo's memmaps on disk and behind HTTP, their order, mixtures."""

from sweep.data.corpus import build
from sweep.data.heldout import read_heldout
from sweep.data.instance_filter import InstanceFilter
from sweep.data.memmap import Instances
from sweep.data.mixture import Mixture, Part
from sweep.data.order import Continued, Fresh, Order, advance, check, check_batch, epoch_order, window
from sweep.data.remote import RemoteFile, listing, public_url
from sweep.data.texts import is_text, scored_index, tokens_key, write_tokens
from sweep.data.windows import FetchedWindow, Window

__all__ = [
    "Continued",
    "FetchedWindow",
    "Fresh",
    "InstanceFilter",
    "Instances",
    "Mixture",
    "Order",
    "Part",
    "RemoteFile",
    "Window",
    "advance",
    "build",
    "check",
    "check_batch",
    "epoch_order",
    "is_text",
    "listing",
    "public_url",
    "read_heldout",
    "scored_index",
    "tokens_key",
    "window",
    "write_tokens",
]
