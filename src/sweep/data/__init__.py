"""The data that a model trains on: the embedded corpus, memmaps on disk and behind HTTP, their order, and mixtures."""

from sweep.data.corpus import build
from sweep.data.examine import SAMPLED, counts_of, first_fault
from sweep.data.heldout import RUN as HELDOUT_RUN
from sweep.data.heldout import TOKENS as HELDOUT_TOKENS
from sweep.data.heldout import WHOLE as HELDOUT_WHOLE
from sweep.data.heldout import heldout_files, heldout_texts, make_heldout, read_heldout
from sweep.data.instance_filter import InstanceFilter
from sweep.data.memmap import Instances, Unused
from sweep.data.mixture import Mixture, MixturePart
from sweep.data.order import Continued, DataOrder, Fresh, Started, check_batch, check_position
from sweep.data.overlap import Shared
from sweep.data.remote import RemoteFile, listing, public_url
from sweep.data.texts import TokenFormat, is_text, scored_index, tokens_key, write_tokens
from sweep.data.windows import FetchedWindow, Window

__all__ = [
    "HELDOUT_RUN",
    "HELDOUT_TOKENS",
    "HELDOUT_WHOLE",
    "SAMPLED",
    "Continued",
    "DataOrder",
    "FetchedWindow",
    "Fresh",
    "InstanceFilter",
    "Instances",
    "Mixture",
    "MixturePart",
    "RemoteFile",
    "Shared",
    "Started",
    "TokenFormat",
    "Unused",
    "Window",
    "build",
    "check_batch",
    "check_position",
    "counts_of",
    "first_fault",
    "heldout_files",
    "heldout_texts",
    "is_text",
    "listing",
    "make_heldout",
    "public_url",
    "read_heldout",
    "scored_index",
    "tokens_key",
    "write_tokens",
]
