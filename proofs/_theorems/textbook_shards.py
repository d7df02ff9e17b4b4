"""The textbook's losses for m shards of k classes: logits ``[m, ..., k]``, labels among all m k."""

from functools import partial

from . import textbook as book
from . import textbook_parts as parts
from .textbook_parts import SHARDS

at_label = partial(parts.at_label, over=SHARDS)
logsumexp = partial(parts.logsumexp, over=SHARDS)
softmax = partial(parts.softmax, over=SHARDS)
log_softmax = partial(parts.log_softmax, over=SHARDS)
softmax_entropy = partial(book.softmax_entropy, over=SHARDS)
integer_loss = partial(book.integer_loss, over=SHARDS)
soft_loss = partial(book.soft_loss, over=SHARDS)
focal_loss = partial(book.focal_loss, over=SHARDS)
poly_loss = partial(book.poly_loss, over=SHARDS)
softmax_kl = partial(book.softmax_kl, over=SHARDS)
softmax_jensen_shannon = partial(book.softmax_jensen_shannon, over=SHARDS)
