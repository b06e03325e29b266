// Which words of a text an n-gram stands in, so that what it adds can be shown in the text itself.
// The library cuts text in its core; here the same is done nearly so, and what cannot be placed is
// counted apart. No page in here.

// Scripts written without spaces: each character is a token, a run of them one word for characters.
const SCRIPTS = ["Han", "Hiragana", "Thai", "Lao", "Khmer", "Myanmar"].map((name) => `\\p{Script=${name}}`);
const UNSPACED = new RegExp(`[${SCRIPTS.join("")}]\\p{M}*|[\\p{Script=Katakana}ー]+`, "u");
const PARTS = new RegExp(`${UNSPACED.source}|[\\t-\\r ]+|(?:(?!${UNSPACED.source})[^\\t-\\r ])+`, "gu");
const INVISIBLE = /[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff\u061c]/g;

const segmenter = typeof Intl.Segmenter === "function" ? new Intl.Segmenter("en", { granularity: "word" }) : null;

/** Words of a run without white space: by UAX #29, as far as the browser follows it. */
function pieces(run) {
  if (segmenter) return [...segmenter.segment(run)].map((part) => part.segment);
  return run.match(/[\p{L}\p{N}\p{M}]+(?:['’.][\p{L}\p{N}\p{M}]+)*|./gsu) ?? [];
}

/** How the library spells a token: no invisible marks, NFC, small letters. */
export function folded(text) {
  const small = text.replace(INVISIBLE, "").normalize("NFC").toLowerCase();
  return small.replaceAll("ß", "ss").replaceAll("ς", "σ").normalize("NFC");
}

/**
 * Cut a text into tokens and what stands between them; joined, they are the text.
 * @param {string} rule "unicode", or "whitespace": at white space alone.
 * @returns {{text: string, token: string | null, unspaced: boolean}[]} token: null of white space.
 */
export function cut(text, rule = "unicode") {
  const parts = [];
  for (const [run] of text.matchAll(rule === "whitespace" ? /[\t-\r ]+|[^\t-\r ]+/g : PARTS)) {
    if (/^[\t-\r ]/.test(run)) parts.push({ text: run, token: null, unspaced: false });
    else if (rule === "whitespace") parts.push({ text: run, token: folded(run), unspaced: false });
    else if (UNSPACED.test(run) && run.match(UNSPACED)[0] === run) {
      parts.push({ text: run, token: folded(run), unspaced: true });
    } else {
      for (const piece of pieces(run)) {
        const token = /^\s+$/.test(piece) ? null : folded(piece) || null;
        parts.push({ text: piece, token, unspaced: false });
      }
    }
  }
  return parts;
}

/** Words for characters: a token each, but a run of unspaced ones together; with the ends' spaces. */
function runs(parts) {
  const found = [];
  let before = null;
  parts.forEach((part, at) => {
    if (part.token === null) {
      before = null;
    } else if (part.unspaced && before?.unspaced) {
      before.letters.push(...[...part.token].map((letter) => ({ letter, at })));
    } else {
      before = { unspaced: part.unspaced, letters: [...part.token].map((letter) => ({ letter, at })) };
      found.push(before);
    }
  });
  for (const run of found) {
    run.letters.unshift({ letter: " ", at: run.letters[0]?.at });
    run.letters.push({ letter: " ", at: run.letters.at(-1).at });
  }
  return found;
}

/** Where each n-gram begins: for each, a list of the parts it stands in. Made once a text. */
function places(parts, lengths) {
  const where = { words: new Map(), chars: new Map() };
  const add = (block, name, at) => {
    const known = where[block].get(name);
    if (known) known.push(at);
    else where[block].set(name, [at]);
  };
  const tokens = parts.map((part, at) => ({ token: part.token, at })).filter((one) => one.token !== null);
  for (const n of lengths.words) {
    for (let i = 0; i + n <= tokens.length; i++) {
      const some = tokens.slice(i, i + n);
      add("words", some.map((one) => one.token).join(" "), some.map((one) => one.at));
    }
  }
  if (!lengths.chars.length) return where;
  for (const { letters } of runs(parts)) {
    for (const n of lengths.chars) {
      for (let i = 0; i + n <= letters.length; i++) {
        const some = letters.slice(i, i + n);
        const at = [...new Set(some.map((one) => one.at))];
        add("chars", some.map((one) => one.letter).join(""), at);
      }
    }
  }
  return where;
}

const between = (ends) => {
  const found = [];
  if (ends) for (let n = ends[0]; n <= ends[1]; n++) found.push(n);
  return found;
};

/**
 * Lay n-grams over a text.
 * @param {{tokens: string, word_ngrams: number[] | null, char_ngrams: number[] | null}} features of the model.
 * @param {{ngram: string, block: string}[]} ngrams those the model knows.
 * @param {string[]} unknown those it does not.
 * @returns {{parts: object[], of: number[][][], lost: number[], unheard: boolean[]}}
 *   of: for each n-gram its occurrences, each a list of parts; lost: n-grams that were not found;
 *   unheard: whether the model knows nothing at all of a part.
 */
export function lay(text, features, ngrams, unknown) {
  const parts = cut(text, features.tokens);
  const lengths = { words: between(features.word_ngrams), chars: between(features.char_ngrams) };
  const where = places(parts, lengths);
  const of = ngrams.map(({ ngram, block }) => where[block].get(ngram) ?? []);
  const lost = of.flatMap((found, i) => (found.length ? [] : [i]));
  const missing = new Set(unknown);
  const heard = new Set(of.flat(2));
  const unheard = parts.map((part, at) => part.token !== null && !heard.has(at) && missing.size > 0);
  return { parts, of, lost, unheard };
}

/**
 * What each part adds to a logit: an n-gram's amount is shared evenly by where it stands.
 * @param {number[]} amounts of each n-gram.
 * @returns {{sums: number[], words: number[], chars: number[], unplaced: number}}
 */
export function spread(laid, ngrams, amounts) {
  const blank = () => new Array(laid.parts.length).fill(0);
  const found = { sums: blank(), words: blank(), chars: blank(), unplaced: 0 };
  amounts.forEach((amount, i) => {
    const occurrences = laid.of[i];
    if (!occurrences.length) found.unplaced += amount;
    for (const parts of occurrences) {
      const share = amount / occurrences.length / parts.length;
      for (const at of parts) {
        found.sums[at] += share;
        found[ngrams[i].block][at] += share;
      }
    }
  });
  return found;
}
