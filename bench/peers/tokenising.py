"""Overlapping 3-mers as the reference's Python and as Hugging Face's `tokenizers` make them, on one core.

Reads pieces of DNA, one a line; writes each way's ids (int32, all pieces one after the other) to FOLDER/WAY.ids and prints
the seconds that each way took, least of ROUNDS, as JSON. Three ways of `tokenizers`, which has no overlapping words:
`phases` cuts a piece three times, from its first, second and third base, into words of three and lays them side by side;
`spaced` is given words that are already written apart; its text is made beside the clock. `phases_fast` keeps no offsets.
"""

import itertools
import json
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

pieces_file, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
pieces = open(pieces_file).read().split()
UNK = 1
VOCABULARY = {"[PAD]": 0, "[UNK]": UNK, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
VOCABULARY |= {"".join(kmer): 5 + n for n, kmer in enumerate(itertools.product("ACGT", repeat=3))}


def python():
    return [[VOCABULARY.get(piece[n : n + 3], UNK) for n in range(len(piece) - 2)] for piece in pieces]


def of(pre_tokenizer):
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


threes = of(pre_tokenizers.FixedLength(3) if hasattr(pre_tokenizers, "FixedLength")
            else pre_tokenizers.Split(Regex(".{3}"), "isolated"))
words = of(pre_tokenizers.WhitespaceSplit())
spaced_pieces = [" ".join(piece[n : n + 3] for n in range(len(piece) - 2)) for piece in pieces]


def in_phases(encode):
    """Words of three from each phase, in the order of their first bases."""
    all_ids = []
    for piece in pieces:
        whole = len(piece) - 2
        ids = np.empty(whole, dtype=np.int32)
        cut = [piece[phase : phase + (len(piece) - phase) // 3 * 3] for phase in range(3)]
        for phase, encoded in enumerate(encode(threes, cut)):
            ids[phase::3] = encoded.ids
        all_ids.append(ids)
    return all_ids


WAYS = {
    "python": python,
    "phases": lambda: in_phases(lambda tokenizer, cut: tokenizer.encode_batch(cut, add_special_tokens=False)),
    "phases_fast": lambda: in_phases(
        lambda tokenizer, cut: tokenizer.encode_batch_fast(cut, add_special_tokens=False)),
    "spaced": lambda: [words.encode(text, add_special_tokens=False).ids for text in spaced_pieces],
}

seconds = {}
for name, way in WAYS.items():
    ids = np.concatenate([np.asarray(part, dtype=np.int32) for part in way()])
    ids.tofile(os.path.join(folder, name + ".ids"))
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        way()
        taken.append(time.perf_counter() - began)
    seconds[name] = min(taken)
print(json.dumps(seconds))
