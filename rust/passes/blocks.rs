//! Rows of an array, block by block, whatever its strides.

use std::ops::Range;

use ndarray::{ArrayView2, Axis};

use crate::logits::BLOCK;
use crate::simd::prefetch;

/// The stored numbers of a part of a row where they stand one after the other.
#[inline(always)]
fn run<'v, S>(view: &'v ArrayView2<'_, S>, row: usize, begin: usize, end: usize) -> Option<&'v [S]> {
    if view.strides()[1] != 1 && view.dim().1 != 1 {
        return None;
    }
    view.index_axis(Axis(0), row).to_slice().map(|row| &row[begin..end])
}

/// Gather a block of several rows, one after the other, walking along memory.
pub fn gather<S: Copy + Default>(
    view: &ArrayView2<'_, S>,
    rows: Range<usize>,
    begin: usize,
    end: usize,
    to: &mut Vec<S>,
) {
    let width = end - begin;
    let part = view.slice(ndarray::s![rows, begin..end]);
    to.clear();
    to.resize(part.len(), S::default());
    if part.strides()[0].unsigned_abs() < part.strides()[1].unsigned_abs() {
        for (c, column) in part.axis_iter(Axis(1)).enumerate() {
            column.iter().enumerate().for_each(|(r, &z)| to[r * width + c] = z);
        }
    } else {
        to.iter_mut().zip(part).for_each(|(to, &z)| *to = z);
    }
}

/// The blocks of some rows, one after the other: (row, where it begins, what is stored).
///
/// Rows whose numbers do not stand one after the other are gathered, a block of all of them
/// at a time, so that each cache line is fetched once.
pub struct Blocks<'a, S> {
    view: &'a ArrayView2<'a, S>,
    rows: Range<usize>,
    gathered: &'a mut Vec<S>,
    row: usize,
    begin: usize,
    /// All of the view, where it stands one number after the other.
    flat: Option<&'a [S]>,
}

impl<'a, S: Copy + Default> Blocks<'a, S> {
    /// Of rows of a view that has classes.
    pub fn new(view: &'a ArrayView2<'a, S>, rows: Range<usize>, gathered: &'a mut Vec<S>) -> Self {
        let row = rows.start;
        let flat = view.to_slice();
        Self { view, rows, gathered, row, begin: 0, flat }
    }

    /// Have the next block fetched while this one is worked on: a hardware prefetcher stops at
    /// the end of every page.
    #[inline(always)]
    fn ask_for_more(&self, at: usize) {
        if let Some(flat) = self.flat {
            let line = 64 / size_of::<S>();
            (0..BLOCK / line).for_each(|i| prefetch(flat, at + i * line));
        }
    }

    /// The next one. Not an `Iterator`: what is gathered is overwritten by the next.
    #[inline(always)]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<(usize, usize, &[S])> {
        let classes = self.view.dim().1;
        let contiguous = self.view.strides()[1] == 1 || classes == 1;
        if contiguous && self.begin >= classes {
            (self.row, self.begin) = (self.row + 1, 0);
        } else if !contiguous && self.row == self.rows.end {
            (self.row, self.begin) = (self.rows.start, self.begin + BLOCK);
        }
        if self.row >= self.rows.end || self.begin >= classes {
            return None;
        }
        let (row, begin, end) = (self.row, self.begin, classes.min(self.begin + BLOCK));
        if contiguous {
            self.begin = end;
            self.ask_for_more(row * classes + end);
            return Some((row, begin, run(self.view, row, begin, end)?));
        }
        if row == self.rows.start {
            gather(self.view, self.rows.clone(), begin, end, self.gathered);
        }
        self.row += 1;
        let at = (row - self.rows.start) * (end - begin);
        Some((row, begin, &self.gathered[at..at + end - begin]))
    }
}
