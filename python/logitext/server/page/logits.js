// What becomes of logits: shares at a temperature, and the arithmetic written out. No page in here.

/** Index of the largest; ties go to the lowest index, as in the library. */
export function decide(logits) {
  let best = 0;
  for (let k = 1; k < logits.length; k++) if (logits[k] > logits[best]) best = k;
  return best;
}

/** Softmax of logits / T. The largest is subtracted first, so that nothing overflows. */
export function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const powers = logits.map((z) => Math.exp((z - most) / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

/** Sigmoid of logit / T, by whichever form does not overflow. */
export function sigmoid(logit, temperature = 1) {
  const x = logit / temperature;
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const power = Math.exp(x);
  return power / (1 + power);
}

/** ln of the sum of e^(logit / T). */
export function logSumExp(logits, temperature = 1) {
  const most = Math.max(...logits);
  const sum = logits.reduce((a, z) => a + Math.exp((z - most) / temperature), 0);
  return most / temperature + Math.log(sum);
}

/** Indices, the largest logit first; equal ones in their order. */
export function ranked(logits) {
  return logits.map((_, k) => k).sort((a, b) => logits[b] - logits[a] || a - b);
}

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** e^x in words that people read: 7.39, or 3.1 × 10¹² where that is too long. */
export function power(x) {
  if (x > -7 && x < 13.8) {
    const value = Math.exp(x);
    return grouped(value, value >= 1 ? 2 : value >= 0.1 ? 3 : 4);
  }
  if (x === -Infinity) return "0";
  // Of what a float cannot hold, the digits are taken from the exponent itself.
  let digits = x / Math.LN10;
  let exponent = Math.floor(digits);
  let front = 10 ** (digits - exponent);
  if (front >= 9.995) [front, exponent] = [1, exponent + 1];
  const raised = [...String(Math.abs(exponent))].map((d) => SUPERSCRIPT[d]).join("");
  return `${front.toFixed(2)} × 10${exponent < 0 ? "⁻" : ""}${raised}`;
}

/** 1234567.891 as 1,234,567.89. */
export function grouped(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** −0.12 or 0.57, with a true minus. */
export function plain(value, digits = 2) {
  const said = Math.abs(value).toFixed(digits);
  return value < 0 && Number(said) !== 0 ? `−${said}` : said;
}

/** As plain, with a plus where it is above zero. */
export function signed(value, digits = 2) {
  const said = plain(value, digits);
  return said.startsWith("−") || Number(said) === 0 ? said : `+${said}`;
}

/** A logit as in the sum: 2.0 rather than 2.00, 0.57 as it is. */
export function short(value) {
  if (value === -Infinity) return "−∞";
  const said = plain(value);
  return said.endsWith("0") ? said.slice(0, -1) : said;
}

/** A share as 90.1 %; never 0 % or 100 % of what is not. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1\u00a0%";
  if (share < 1 && share >= 0.9995) return ">99.9\u00a0%";
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

/** Round terms to hundredths so that they add up to the rounded sum: the largest remainder gives way. */
export function rounded(terms, sum) {
  const cents = terms.map((value) => Math.round(value * 100));
  let off = Math.round(sum * 100) - cents.reduce((a, b) => a + b, 0);
  const order = terms
    .map((value, i) => ({ i, rest: value * 100 - cents[i] }))
    .sort((a, b) => (off > 0 ? b.rest - a.rest : a.rest - b.rest));
  for (let k = 0; off !== 0 && k < order.length; k++) {
    cents[order[k].i] += Math.sign(off);
    off -= Math.sign(off);
  }
  return cents.map((value) => value / 100);
}

/**
 * The sum of exponentials, worked out: for each logit its exponential and its share.
 * Words for each number, since an exponential may be too large for one.
 */
export function worked(logits, temperature = 1) {
  const shares = softmax(logits, temperature);
  const rows = logits.map((z, k) => ({
    logit: z,
    exponent: temperature === 1 ? short(z) : `${short(z)} / ${short(temperature)}`,
    power: power(z / temperature),
    share: shares[k],
  }));
  return { rows, sum: power(logSumExp(logits, temperature)) };
}
