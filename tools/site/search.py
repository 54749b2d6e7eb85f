"""The words by which a page is found: English by their stems, Chinese by each character and each pair of them.

No dictionary of Chinese is needed: a query is cut in the same way in the browser, and a page must have all its pairs.
"""

import re

from sphinx.search.en import SearchEnglish

CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{CHINESE}]+|[^\W{CHINESE}]+")


def pairs(text: str) -> list[str]:
    return [text[start : start + 2] for start in range(len(text) - 1)]


class BothLanguages(SearchEnglish):
    """English and Chinese side by side, also in one sentence."""

    lang = "en-zh"
    language_name = "English"  # Sphinx makes the name of the stemmer in JavaScript of it
    js_splitter_code = rf"""
function splitQuery(query) {{
  const words = query.match(/[{CHINESE}]+|[\p{{Letter}}\p{{Number}}_]+/gu) ?? [];
  return words.flatMap((word) => {{
    const parts = word.match(/[{CHINESE}]+|[^{CHINESE}]+/g);
    return parts.flatMap((part) =>
      /[{CHINESE}]{{2}}/.test(part) ? Array.from({{ length: part.length - 1 }}, (_, i) => part.slice(i, i + 2)) : [part]
    );
  }});
}}
"""

    def split(self, input: str) -> list[str]:
        words = []
        for word in WORD.findall(input):
            if re.match(f"[{CHINESE}]", word):
                words += [*word, *pairs(word)]
            else:
                words += {word, *word.split("_")} - {""}  # a name of Python also by its parts
        return words
