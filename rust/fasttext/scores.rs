//! The hidden layer to logits, and a tree of labels to their log-probabilities.

use super::hidden::{AMOUNTS, Front, Memory};
use crate::kernel;
use crate::logits::{find, largest};
use crate::real::{Real, Scale, Unit, exp, ln};
use crate::simd::{Cpu, Level, dispatch};
use crate::text::Texts;
use crate::threads::{row_ranges, share};
use std::ops::Range;

/// Labels side by side.
pub const LANES: usize = 16;
/// Texts that share a reading of the output matrix.
const TOGETHER: usize = 4;
/// Texts whose hidden layers are made before their logits.
const AT_ONCE: usize = 32;

/// The output matrix turned for `logits`: sixteen labels side by side, column by column.
pub fn pack(output: &[u8], dim: usize) -> Vec<f32> {
    let rows: Vec<&[[u8; 4]]> = output.chunks_exact(dim.max(1) * 4).map(|row| row.as_chunks().0).collect();
    let mut packed = vec![0.0; rows.len().div_ceil(LANES) * LANES * dim];
    for (block, rows) in packed.chunks_exact_mut((LANES * dim).max(1)).zip(rows.chunks(LANES)) {
        for (column, lanes) in block.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for (lane, row) in lanes.iter_mut().zip(rows) {
                *lane = f32::from_le_bytes(row[column]);
            }
        }
    }
    packed
}

/// The children of each inner node of a tree; the root is the last. Below the number of labels a
/// child is a label.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    /// Where the bit is 0.
    pub left: &'a [u32],
    /// Where the bit is 1.
    pub right: &'a [u32],
}

/// Build Huffman's tree of labels that stand in the order of falling counts.
///
/// # Errors
///
/// A clause that says what is wrong with the counts.
pub fn tree(counts: &[i64]) -> Result<(Vec<u32>, Vec<u32>), String> {
    const NEVER: i64 = 1_000_000_000_000_000;
    let labels = counts.len();
    let mut all: Vec<i64> = counts.to_vec();
    all.resize((2 * labels).saturating_sub(1), NEVER);
    let (mut leaf, mut node) = (labels, labels);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for made in labels..all.len() {
        let mut least = || {
            if leaf > 0 && all.get(node).is_none_or(|&count| all[leaf - 1] < count) {
                leaf -= 1;
                Ok(leaf)
            } else if node < made {
                node += 1;
                Ok(node - 1)
            } else {
                Err("it was edited: the counts of its labels make no tree".to_string())
            }
        };
        let (a, b) = (least()?, least()?);
        all[made] = all[a].saturating_add(all[b]);
        left.push(a as u32);
        right.push(b as u32);
    }
    Ok((left, right))
}

/// A model from its hidden layer on.
#[derive(Clone, Copy)]
pub struct Back<'a> {
    /// The output matrix as `pack` turned it.
    pub packed: &'a [f32],
    /// How many there are.
    pub labels: usize,
    /// Of a hierarchical softmax.
    pub tree: Option<Tree<'a>>,
    /// Logarithms as fastText takes them, of a probability and a hundred-thousandth.
    pub strict: bool,
}

/// What is wanted of texts.
pub enum Wanted<'m> {
    /// Hidden layers (texts, dim), or logits (texts, labels), where there is a `Back`.
    Numbers(&'m mut [f32]),
    /// The label of each text's largest logit, the first of several; −1 where one is not finite.
    Best(&'m mut [i64]),
}

type Asked<'l, 't, 'm> = (
    &'l Front<'l>,
    Option<&'l Back<'l>>,
    &'l Texts<'t>,
    Range<usize>,
    &'m mut Desk<'t>,
    Wanted<'m>,
    &'m mut [f32],
);

kernel!(Part<'l, 't, 'm; ;>(Asked<'l, 't, 'm>) -> () = part_of);

struct Desk<'t> {
    memory: Memory<'t>,
    hidden: Vec<f32>,
    way: Vec<f32>,
    search: Search,
    /// Logits that are only looked through.
    few: Vec<f32>,
}

/// Answer some texts, and tell the amounts.
#[inline(always)]
fn part_of(cpu: impl Cpu, (front, back, texts, rows, desk, mut wanted, amounts): Asked) {
    let dim = front.rows.settings.dim;
    for begin in rows.clone().step_by(AT_ONCE) {
        let part = begin..(begin + AT_ONCE).min(rows.end);
        let (first, last) = (begin - rows.start, part.end - rows.start);
        let Desk { memory, hidden, way, search, few } = &mut *desk;
        hidden.resize(part.len() * dim, 0.0);
        front.all(texts, part, memory, hidden, &mut amounts[first * AMOUNTS..last * AMOUNTS]);
        match (&mut wanted, back) {
            (Wanted::Numbers(out), None) => out[first * dim..last * dim].copy_from_slice(hidden),
            (Wanted::Numbers(out), Some(back)) => {
                back.logits(cpu, hidden, dim, &mut out[first * back.labels..last * back.labels], way);
            }
            (Wanted::Best(out), Some(back)) => {
                let out = &mut out[first..last];
                if let Some(tree) = back.tree {
                    for (out, hidden) in out.iter_mut().zip(hidden.chunks_exact(dim)) {
                        let known = hidden.iter().all(|number| number.is_finite());
                        *out = if known { back.best(cpu, tree, hidden, search) as i64 } else { -1 };
                    }
                } else {
                    few.resize(out.len() * back.labels, 0.0);
                    back.logits(cpu, hidden, dim, few, way);
                    for (out, row) in out.iter_mut().zip(few.chunks_exact(back.labels)) {
                        *out = decision(row);
                    }
                }
            }
            (Wanted::Best(_), None) => {}
        }
    }
}

/// The first of the largest logits; −1 if one is not finite.
#[inline(always)]
fn decision(row: &[f32]) -> i64 {
    let mut odd = false;
    row.iter().for_each(|z| odd |= !z.is_finite());
    if odd { -1 } else { find(row, largest(row)) as i64 }
}

impl Back<'_> {
    /// Logits of hidden layers, both one after another.
    #[inline(always)]
    fn logits(&self, cpu: impl Cpu, hidden: &[f32], dim: usize, out: &mut [f32], way: &mut Vec<f32>) {
        let whole = hidden.len() / dim / TOGETHER * TOGETHER;
        for (block, first) in self.packed.chunks_exact(LANES * dim).zip((0..self.labels).step_by(LANES)) {
            let columns = block.as_chunks::<LANES>().0;
            let count = LANES.min(self.labels - first);
            for (text, hidden) in hidden.chunks_exact(dim * TOGETHER).enumerate() {
                let sums = several::<TOGETHER>(cpu, !self.strict, columns, hidden);
                for (at, sums) in sums.iter().enumerate() {
                    let place = (text * TOGETHER + at) * self.labels + first;
                    out[place..place + count].copy_from_slice(&sums[..count]);
                }
            }
            for (at, hidden) in hidden.chunks_exact(dim).enumerate().skip(whole) {
                let [sums] = several::<1>(cpu, !self.strict, columns, hidden);
                let place = at * self.labels + first;
                out[place..place + count].copy_from_slice(&sums[..count]);
            }
        }
        if let Some(tree) = self.tree {
            for row in out.chunks_exact_mut(self.labels) {
                way.clear();
                way.resize(2 * self.labels - 1, 0.0);
                tree.follow(cpu, self.strict, row, way);
            }
        }
    }

    /// The label of a tree whose log-probability is the largest, as `logits` has it, the first of several.
    ///
    /// Whoever leads so far makes all ways that are less probable futile. Nodes are computed sixteen at a
    /// time, when one of them is met: those near the root stand together.
    #[inline(always)]
    fn best(&self, cpu: impl Cpu, tree: Tree, hidden: &[f32], search: &mut Search) -> usize {
        let Search { blocks, open } = search;
        blocks.clear();
        blocks.resize(self.labels.div_ceil(LANES), None);
        open.clear();
        open.push((2 * self.labels - 2, 0.0));
        let mut best = (f32::NEG_INFINITY, 0);
        while let Some((node, way)) = open.pop() {
            if way < best.0 {
                continue;
            }
            let Some(node) = node.checked_sub(self.labels) else {
                // fastText lets the later of two that are equal win.
                if way > best.0 || self.strict || node < best.1 {
                    best = (way, node);
                }
                continue;
            };
            let (which, lane) = (node / LANES, node % LANES);
            let (Some(known), Some(&left), Some(&right)) =
                (blocks.get_mut(which), tree.left.get(node), tree.right.get(node))
            else {
                continue;
            };
            if known.is_none() {
                let size = LANES * hidden.len();
                let Some(columns) = self.packed.get(which * size..which * size + size) else { continue };
                let [z] = several::<1>(cpu, !self.strict, columns.as_chunks().0, hidden);
                *known = Some(logarithms(cpu, self.strict, &z));
            }
            let Some((no, yes)) = known else { continue };
            let both = [(left as usize, way + no[lane]), (right as usize, way + yes[lane])];
            // A child stands before its parent: there is an end to it. The last one pushed is looked at first.
            let right_first = !self.strict && both[1].1 > both[0].1;
            for child in if right_first { both } else { [both[1], both[0]] } {
                if child.0 < node + self.labels {
                    open.push(child);
                }
            }
        }
        best.1
    }
}

/// Logits of sixteen labels of several texts, each a chain of multiply-adds over the columns: fused, or as
/// fastText has them.
#[inline(always)]
fn several<const TEXTS: usize>(
    cpu: impl Cpu,
    fused: bool,
    columns: &[[f32; LANES]],
    hidden: &[f32],
) -> [[f32; LANES]; TEXTS] {
    let mut sums = [[0.0f32; LANES]; TEXTS];
    let dim = columns.len();
    let hidden = &hidden[..TEXTS * dim];
    for at in 0..dim {
        for text in 0..TEXTS {
            let h = hidden[text * dim + at];
            for lane in 0..LANES {
                let (weight, sum) = (columns[at][lane], &mut sums[text][lane]);
                *sum = if fused { cpu.fma(h, weight, *sum) } else { *sum + weight * h };
            }
        }
    }
    sums
}

impl Tree<'_> {
    /// Turn the logits of the inner nodes, which a row begins with, into log-probabilities of the labels.
    #[inline(always)]
    fn follow(&self, cpu: impl Cpu, strict: bool, row: &mut [f32], way: &mut [f32]) {
        let inner = row.len() - 1;
        way[2 * inner] = 0.0;
        // From the root down: a node stands behind its children.
        for first in (0..inner).step_by(LANES).rev() {
            let count = LANES.min(inner - first);
            let mut z = [0.0; LANES];
            z[..count].copy_from_slice(&row[first..first + count]);
            let (no, yes) = logarithms(cpu, strict, &z);
            for lane in (0..count).rev() {
                let here = way[row.len() + first + lane];
                for (child, step) in [(self.left, no[lane]), (self.right, yes[lane])] {
                    if let Some(way) = child.get(first + lane).and_then(|&child| way.get_mut(child as usize))
                    {
                        *way = here + step;
                    }
                }
            }
        }
        let labels = row.len();
        row.copy_from_slice(&way[..labels]);
    }
}

/// Logarithms of no and of yes: ln of the sigmoid is min(z, 0) − ln(1 + exp(−|z|)), that of its
/// complement the same of −z.
#[inline(always)]
fn logarithms(cpu: impl Cpu, strict: bool, z: &[f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    let (mut no, mut yes) = ([0.0; LANES], [0.0; LANES]);
    if strict {
        // Each of the probability and a hundred-thousandth.
        let log = |p: f32| ln(f64::from(p) + 1e-5) as f32;
        for lane in 0..LANES {
            let p = (1.0 / f64::from(1.0 + exp(f64::from(-z[lane])) as f32)) as f32;
            (no[lane], yes[lane]) = (log((1.0 - f64::from(p)) as f32), log(p));
        }
        return (no, yes);
    }
    let scale = Scale::<f32>::new(1.0);
    let unit = Unit::new(cpu, &scale, 0.0);
    let mut e = [0.0f64; LANES];
    for lane in 0..LANES {
        e[lane] = unit.exp(cpu, &scale, -z[lane].abs()).to_f64() * f32::PER_UNIT;
    }
    let softplus = f32::log1p(cpu, &e);
    for lane in 0..LANES {
        yes[lane] = (f64::from(z[lane].min(0.0)) - softplus[lane]) as f32;
        no[lane] = (f64::from((-z[lane]).min(0.0)) - softplus[lane]) as f32;
    }
    (no, yes)
}

/// Nodes of a tree that are known, and ways that are open.
#[derive(Default)]
struct Search {
    blocks: Vec<Option<([f32; LANES], [f32; LANES])>>,
    open: Vec<(usize, f32)>,
}

/// Texts cut into pieces of work, each with its part of what is written.
fn pieces<'m, T>(texts: &Texts, mut out: &'m mut [T], width: usize) -> Vec<(Range<usize>, &'m mut [T])> {
    let mut own = |range: Range<usize>| {
        let (own, rest) = std::mem::take(&mut out).split_at_mut(range.len() * width);
        out = rest;
        (range, own)
    };
    row_ranges(texts.offsets(), 1 << 16).into_iter().map(&mut own).collect()
}

fn run<'a>(
    level: Level,
    (front, back, texts, threads): (&Front, Option<&Back>, &Texts, usize),
    work: impl Iterator<Item = (Range<usize>, Wanted<'a>)>,
) -> Vec<f32> {
    let mut amounts = vec![0.0; texts.len() * AMOUNTS];
    let counted = pieces(texts, &mut amounts, AMOUNTS);
    let work = work.zip(counted).collect();
    let fresh = || Desk {
        memory: Memory::new(texts.bytes()),
        hidden: Vec::new(),
        way: Vec::new(),
        search: Search::default(),
        few: Vec::new(),
    };
    share(threads, work, fresh, |desk, ((range, wanted), (_, counted))| {
        dispatch(level, Part((front, back, texts, range, desk, wanted, counted)));
    });
    amounts
}

/// Logits (texts, labels) of all texts, or their hidden layers (texts, dim) where there is no `back`;
/// and what is known of each text, see `AMOUNTS`.
pub fn answers(
    level: Level,
    front: &Front,
    back: Option<&Back>,
    texts: &Texts,
    threads: usize,
) -> (Vec<f32>, Vec<f32>) {
    let width = back.map_or(front.rows.settings.dim, |back| back.labels);
    let mut out = vec![0.0; texts.len() * width];
    let work = pieces(texts, &mut out, width).into_iter().map(|(range, own)| (range, Wanted::Numbers(own)));
    let amounts = run(level, (front, back, texts, threads), work);
    (out, amounts)
}

/// The label of each text's largest logit, the first of several; −1 where one is not finite. Not all logits
/// need be known of a tree, and none are kept.
pub fn best(level: Level, front: &Front, back: &Back, texts: &Texts, threads: usize) -> Vec<i64> {
    let mut out = vec![0; texts.len()];
    let work = pieces(texts, &mut out, 1).into_iter().map(|(range, own)| (range, Wanted::Best(own)));
    run(level, (front, Some(back), texts, threads), work);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_two_are_joined_first() {
        // 3 and 2 make 5; 5 and 4 make 9 (a label goes first only if it is rarer); 9 and 10 make 19.
        let (left, right) = tree(&[10, 4, 3, 2]).unwrap();
        assert_eq!((left, right), (vec![3, 1, 5], vec![2, 4, 0]));
        assert_eq!(tree(&[7]).unwrap(), (vec![], vec![]));
        assert!(tree(&[i64::MAX, i64::MAX]).is_err());
        assert_eq!(tree(&[0; 100]).unwrap().0.len(), 99);
    }

    #[test]
    fn the_output_is_packed_sixteen_labels_at_a_time() {
        let output: Vec<u8> = (0..17 * 3).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let packed = pack(&output, 3);
        assert_eq!(packed.len(), 2 * 16 * 3);
        for (label, column) in [(0, 0), (0, 2), (15, 1), (16, 2)] {
            let place = label / 16 * 48 + column * 16 + label % 16;
            assert_eq!(packed[place], (label * 3 + column) as f32);
        }
        assert!(packed[48 + 1..48 + 16].iter().all(|&number| number == 0.0));
    }
}
