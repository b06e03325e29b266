// CSV in and out (RFC 4180), keeping what it does not understand. No page in here.

const DELIMITERS = [",", ";", "\t"];

/** Guess what stands between cells: what cuts the first records into the most, most evenly. */
export function guessDelimiter(text) {
  const head = text.slice(0, 20000);
  let best = ",";
  let most = 0;
  for (const delimiter of DELIMITERS) {
    const rows = records(head, delimiter, 20).rows;
    const widths = rows.slice(0, rows.length > 1 && head.length < text.length ? -1 : undefined).map((r) => r.length);
    const even = widths.filter((width) => width === widths[0]).length / widths.length;
    const score = widths[0] > 1 ? even * 100 + Math.min(widths[0], 50) : 0;
    if (score > most) [best, most] = [delimiter, score];
  }
  return best;
}

/** Cut a text into records, at most so many. `open` is the line of a quote that is not closed. */
function records(text, delimiter, most = Infinity) {
  const rows = [];
  let row = [];
  let at = 0;
  let line = 1;
  let open = 0;
  while (at < text.length && rows.length < most) {
    let cell = "";
    if (text[at] === '"') {
      const began = line;
      at += 1;
      for (;;) {
        const end = text.indexOf('"', at);
        if (end < 0) {
          open = began;
          cell += text.slice(at);
          at = text.length;
          break;
        }
        cell += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        cell += '"';
        at += 1;
      }
      line += cell.split("\n").length - 1;
    }
    // What follows a closing quote, against the rules, is kept as it stands.
    let end = at;
    while (end < text.length && text[end] !== delimiter && text[end] !== "\n" && text[end] !== "\r") end += 1;
    cell += text.slice(at, end);
    row.push(cell);
    at = end;
    if (text[at] === delimiter) {
      at += 1;
      if (at === text.length) row.push("");
      else continue;
    }
    if (text[at] === "\r") at += text[at + 1] === "\n" ? 2 : 1;
    else at += 1;
    line += 1;
    // An empty line is no record where there are several columns; in a single one it is an empty cell.
    if (row.length > 1 || row[0] !== "" || (rows.length > 0 && rows[0].length === 1)) rows.push(row);
    row = [];
  }
  if (row.length) rows.push(row);
  return { rows, open };
}

/**
 * Parse a CSV file.
 * @returns {{rows: string[][], delimiter: string, newline: string, bom: boolean, open: number}}
 *   open: the line of a quote that is never closed, else 0.
 */
export function parse(text, delimiter) {
  const bom = text.startsWith("\ufeff");
  if (bom) text = text.slice(1);
  const between = delimiter ?? guessDelimiter(text);
  const { rows, open } = records(text, between);
  const first = /\r\n|\n|\r/.exec(text.replace(/"[^"]*"/g, "").slice(0, 100000));
  return { rows, delimiter: between, newline: first ? first[0] : "\n", bom, open };
}

/** Spell one cell: in quotes only where it must be. */
export function cell(value, delimiter) {
  const quoted =
    value.includes('"') || value.includes(delimiter) || value.includes("\n") || value.includes("\r");
  return quoted ? `"${value.replaceAll('"', '""')}"` : value;
}

/** Write rows as parts of a file (a long one as one string would be held twice). */
export function write(rows, { delimiter = ",", newline = "\n", bom = false } = {}) {
  const parts = bom ? ["\ufeff"] : [];
  for (const row of rows) {
    // A lone empty cell would be an empty line, which most readers skip.
    const line = row.length === 1 && row[0] === "" ? '""' : row.map((v) => cell(v, delimiter)).join(delimiter);
    parts.push(line + newline);
  }
  return parts;
}

const USUAL = ["text", "sentence", "body", "message", "content", "review", "comment", "question", "headline", "title"];

/** Guess the column of the texts: by its name, else the one with the longest cells. */
export function guessColumn(rows, named) {
  if (!rows.length) return 0;
  if (named) {
    const names = rows[0].map((name) => name.trim().toLowerCase());
    for (const usual of USUAL) if (names.includes(usual)) return names.indexOf(usual);
    for (const usual of USUAL) {
      const found = names.findIndex((name) => name.includes(usual));
      if (found >= 0) return found;
    }
  }
  const sample = rows.slice(named ? 1 : 0, 200);
  const lengths = rows[0].map((_, k) => sample.reduce((sum, row) => sum + (row[k] ?? "").length, 0));
  return lengths.indexOf(Math.max(...lengths));
}

/** Whether the first row looks like names: short, all there, all different, and not met again below. */
export function hasNames(rows) {
  if (rows.length < 2) return false;
  const first = rows[0].map((name) => name.trim());
  if (first.some((name) => name === "" || name.length > 60 || !Number.isNaN(Number(name)))) return false;
  if (new Set(first).size < first.length) return false;
  if (first.some((name) => USUAL.includes(name.toLowerCase()))) return true;
  return first.every((name) => name.split(/\s+/).length <= 4);
}
