"""Strings that tokenizers get wrong: written by hand, and mixed at random. Used by make_tokenizer_cases.py.

Only characters that Unicode has had since version 8 or so occur, so that the age of a Unicode table does not matter.
"""

import random

SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "\v", "\f", "\x1c", "\x85", "\xa0",
          "\u1680", "\u2000",
          "\u2003", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\t\t", " \n ", "\n \n",
          "\xa0 "]
NOT_SPACES = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\x00", "\x1f", "\x7f", "\u180e"]
DIGITS = ["0", "7", "12", "345", "6789", "1234567890", "3.14", "1,000", "\u0663", "\u0665\u0666\u0667\u0668",
          "\u0967\u0968",
          "\u0e51\u0e52\u0e53\u0e54", "\uff11\uff12", "\u00b2", "\u00bd", "\u2167", "\u2460", "\u3007", "\u3021",
          "\U0001d7d8"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'LL", "'D",
                "'\u017f",
                "'\u017fo", "\u2019s", "\u2019t", "'x", "''s", "'", "' s", "'st", "'rel", "'l", "'v", "'\u212a"]
WORDS = ["the", "King", "princess", "SAID", "iPhone", "McDonald", "HTTPServer", "x", "A", "don", "we", "I", "You",
         "Wolf",
         "golden", "Once upon a time", "was", "camelCaseWord", "snake_case_word", "ABCdef", "aBC", "whole", "wholesome"]
LETTERS = ["\u00e9", "e\u0301", "\u00c5", "A\u030a", "\u212b", "\u00f1", "\u00df", "\u1e9e", "\u0130", "\u0131",
           "\u017f", "\u01c5", "\u01c6",
           "\u02b0", "\u00aa", "\u0416", "\u0436\u0443\u043a", "\u041c\u043e\u0441\u043a\u0432\u0430",
           "\u0391\u03b8\u03ae\u03bd\u03b1", "\u03c2", "\u05e9\u05dc\u05d5\u05dd",
           "\u0633\u0644\u0627\u0645", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0958", "\u0915\u093c",
           "\u0e44\u0e17\u0e22", "\u0e01\u0e33", "\u4e2d\u6587", "\u65e5\u672c\u8a9e",
           "\u3072\u3089\u304c\u306a", "\u30ab\u30bf\u30ab\u30ca", "\uff76\uff9e", "\ud55c\uad6d\uc5b4",
           "\u1112\u1161\u11ab", "\u1100\u1161", "\u10d0\u10d1", "\u13a0",
           "\u1820", "\U00020000", "\U0001d49c", "\ufb01", "\ufb06", "\u01ce", "\u1eb9\u0301", "e\u0323\u0301",
           "e\u0301\u0323", "\u0f40\u0f71"]
MARKS = ["\u0301", "\u0308", "\u0323", "\u030a", "\u0344", "\u0903", "\u20dd", "\u05bc", "\u0e33", "\u3099",
         "\u0f71\u0f72", "\u0345"]
SIGNS = ["!", "?!", "...", ".", ",", ";", "\"", "(", ")", "[", "]", "{", "}", "<", ">", "/", "//", "\\", "-", "--",
         "_", "__", "#",
         "@", "$", "%", "^", "&", "*", "+", "=", "|", "~", "`", "\u00bf", "\u2014", "\u2026", "\u201c", "\u3002",
         "\uff01", "\u20ac",
         "\u2192", "\u00d7", "\u00b0", "\u2603", "\ufffd", "\ue000", "\U0010ffff", "/\n", "!\r\n", "?\n\n/", "*/"]
EMOJI = ["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea",
         "\u2764\ufe0f",
         "1\ufe0f\u20e3", "\U0001f3f3\ufe0f\u200d\U0001f308"]

HAND_WRITTEN = [
    "", " ", "  ", "\n", "\r\n", "a", " a", "a ", "  a", "a  ", "\ta", "Once upon a time",
    "Once upon a time, there was a King.",
    " leading and trailing ", "two  spaces   three    four", "tabs\tand\t\ttabs", "line\nline\n\nline\n\n\nline",
    "dos\r\nline\r\n\r\nline\r", "mixed \n \r\n \t\n x", "trailing newlines\n\n", "   \n   indented",
    "end in spaces   ",
    "\xa0no\xa0break\xa0\xa0space", "\u3000wide\u3000space\u3000\u3000", "em\u2003quad\u2003\u2003x", "next\x85line",
    "\u2028a\u2029b",
    "zero\u200bwidth\u200bspace", "\ufeffmark", "soft\u00adhyphen", "nul\x00nul",
    "it's we're I've I'm they'll he'd don't can't",
    "IT'S WE'RE I'VE I'M THEY'LL HE'D DON'T CAN'T", "It'S We'rE", "it'\u017f long", "'\u017f'S's", "'s 't 're",
    "x's's's",
    "y'all'd've", "rock 'n' roll", "\u2019s \u2019S it\u2019s", "'", "''", "'''s", "0",
    "1 22 333 4444 55555 666666 7777777",
    "v1.2.3-rc4", "12345678901234567890", "\u0661\u0662\u0663\u0664\u0665 arabic", "\u0967\u0968\u0969 devanagari",
    "x\u00b2 + y\u00b3",
    "\u2167 \u2168 \u216c", "\u00bd cup", "\uff11\uff12\uff13\uff14", "\u2460\u2461", "a1b2c3", "3rd 21st",
    "1,000,000.00", "0x1F 1e-5",
    "caf\u00e9 cafe\u0301", "\u00c5 A\u030a \u212b", "\u1e69 s\u0323\u0307 s\u0307\u0323",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165",
    "\u0958 \u0915\u093c", "\u2126 \u03a9", "\ufb01\ufb02 \ufb06", "\u1e9e \u00df SS", "\u0130stanbul \u0131",
    "\u01c5 \u01c6 \u01c4", "na\u00efve r\u00e9sum\u00e9 \u0152uvre",
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u0441\u043b\u0435\u0437\u0430\u043c \u043d\u0435 \u0432\u0435\u0440\u0438\u0442", "\u0391\u03b8\u03ae\u03bd\u03b1 \u039f\u03b4\u03c5\u03c3\u03c3\u03b5\u03cd\u03c2",
    "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u0627\u0644\u0633\u0651\u064e\u0644\u0627\u0645\u064f",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22\u0e01\u0e33",
    "\u4e2d\u6587\u5b57\u7b26\uff0c\u6ca1\u6709\u7a7a\u683c\u3002",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u304b\u3099 \u304c", "\u13e3\u13b3\u13a9 \uab73",
    "\u10d0\u10d1\u10d2 \u1c90",
    "\U0001f600\U0001f601 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\u2764\ufe0f 1\ufe0f\u20e3",
    "\u0301 alone", "a\u0301\u0302\u0303b", "\u0301\u0302", " \u0301x", "x \u0301", "!\u0301", "1\u0301",
    "\u02b0\u02b1 \u00aa\u00ba", "\u20dd\u0903",
    "HTTPServer parseJSONFile iPhone eBay McDonald's O'Neil NASA's", "ABC's abc'S AbC'lL", "X\u0301Y\u0301z\u0301",
    "\u4e2dA\u6587b",
    "def f(x):\n    return x ** 2  # square\n", "if (a && b) { c->d[0]++; }\r\n",
    "/* comment */ // end\n/path/to/file/", "a/b/\n/c",
    "https://example.org/path?q=1&r=%20#frag", "mail@example.org", "<html>\n  <b>x</b>\n</html>",
    "{\"k\": [1, 2.5, null]}", "-----", "......",
    "!!!???", "#$%^&*()", "\u2014 dash \u2013 dash", "\u00bfQu\u00e9?", "\u201cquoted\u201d \u2018single\u2019",
    "\u20ac5 \u00a33 $1", "\ufffd\ue000\U0010ffff",
    "<|im_start|>user\nTell me a tale.<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "]~!b[]~b]system\nYou.[e~[\n]~b]user\nHi[e~[\n]~b]ai\n<think>\n", "<|endoftext|>", "<|endoftext|><|endoftext|>",
    "a<|endoftext|>b",
    " <|endoftext|> ", "<|endoftext", "<|im_start|", "<|im_start|>>", "<<|im_start|>",
    "<think>hm</think> <think><deep> <think> <deep>",
    "<tool_call>\n{}\n</tool_call>", "<minimax:tool_call>x</minimax:tool_call>", "]~b]]~b]~b]", "[e~[e~[",
    "a  [left]  b", "a  [right]  b", "a \n [both]\t\n b", "[left][right][both]", "  [left]", "[right]  ",
    "\n\n[both]\n\n", "x[left]  [right]y",
    "\u3000[left]\u3000", "\xa0[both]\xa0x", "the whole story", "wholesome", "unwhole", "whole", "whole.", "_whole_",
    "whole1", "(whole)", "\u00e9whole", "whole\u0301",
    "whole whole  whole", "[n\u01ce] [na\u030c] [na\u030c", "[e\u0323] [\u1eb9]", "x[na\u030c]y",
    "e\u0323[e\u0323]\u0323", "a <pad> b", "a  <pad>\n\nb<pad>",
    "<pad><pad>", "[\u0301]", "[left]\u0301", "e<|im_end|>\u0301",
]

ALPHABETS = [SPACES, NOT_SPACES, DIGITS, CONTRACTIONS, WORDS, LETTERS, MARKS, SIGNS, EMOJI]
WEIGHTS = [6, 1, 2, 2, 4, 4, 2, 3, 1]


def mixed(rng: random.Random, added: list[str]) -> str:
    """A string of 1 to 16 pieces, drawn from a random few of the alphabets; one in five has an added token in it."""
    chosen = rng.sample(range(len(ALPHABETS)), rng.randrange(1, 6))
    pieces = []
    for _ in range(rng.randrange(1, 17)):
        alphabet = rng.choices(chosen, [WEIGHTS[i] for i in chosen])[0]
        pieces.append(rng.choice(ALPHABETS[alphabet]))
    if rng.random() < 0.2:
        for _ in range(rng.randrange(1, 4)):
            pieces.insert(rng.randrange(len(pieces) + 1), rng.choice(added))
    return "".join(pieces)
