//! Rows of a weight matrix in registers: `sums += value · row`, `row += value · step`.
//!
//! A row of any width is so many full runs of lanes and, where they do not come out even, one
//! run more at its end that overlaps the one before: what both have is computed twice, alike.
//! So each width is compiled to loads and stores of whole registers, without a loop by class.

/// Columns that go through a list of occurrences together: so many sums stay in registers.
const MOST: usize = 32;

/// Columns `begin..end` of so many, in groups of up to `MOST`.
#[inline(always)]
pub fn groups(columns: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let width = columns.div_ceil(columns.div_ceil(MOST).max(1));
    let width = if width < columns { width.next_multiple_of(8) } else { width.max(1) };
    (0..columns).step_by(width).map(move |begin| begin..columns.min(begin + width))
}

/// Call a function for the number of columns: `L` lanes a run, `F` full runs, whether there is one more.
#[macro_export]
macro_rules! by_width {
    ($width:expr, $call:ident $(.$method:ident)? ($($given:expr),*)) => {
        match $width {
            1 => $call$(.$method)?::<1, 1, false>($($given),*),
            2 => $call$(.$method)?::<2, 1, false>($($given),*),
            3 => $call$(.$method)?::<3, 1, false>($($given),*),
            4 => $call$(.$method)?::<4, 1, false>($($given),*),
            5..=7 => $call$(.$method)?::<4, 1, true>($($given),*),
            8 => $call$(.$method)?::<8, 1, false>($($given),*),
            9..=15 => $call$(.$method)?::<8, 1, true>($($given),*),
            16 => $call$(.$method)?::<8, 2, false>($($given),*),
            17..=23 => $call$(.$method)?::<8, 2, true>($($given),*),
            24 => $call$(.$method)?::<8, 3, false>($($given),*),
            25..=31 => $call$(.$method)?::<8, 3, true>($($given),*),
            _ => $call$(.$method)?::<8, 4, false>($($given),*),
        }
    };
}

/// One number a column, as a row of this width stands in registers.
#[derive(Clone, Copy)]
pub struct Lanes<const L: usize, const F: usize, const TAIL: bool> {
    runs: [[f32; L]; F],
    tail: [f32; L],
}

impl<const L: usize, const F: usize, const TAIL: bool> Lanes<L, F, TAIL> {
    /// Zeros.
    pub const ZERO: Self = Self { runs: [[0.0; L]; F], tail: [0.0; L] };

    /// Of a row of this width; zeros if it is of another.
    #[inline(always)]
    pub fn load<W: Copy + Into<f32>>(row: &[W]) -> Self {
        let mut lanes = Self::ZERO;
        if let Some(runs) = row.as_chunks::<L>().0.first_chunk::<F>() {
            lanes.runs = runs.map(|run| run.map(Into::into));
        }
        if TAIL && let Some(tail) = row.last_chunk::<L>() {
            lanes.tail = tail.map(Into::into);
        }
        lanes
    }

    /// Into a row of this width.
    #[inline(always)]
    pub fn store(&self, row: &mut [f32]) {
        if let Some(runs) = row.as_chunks_mut::<L>().0.first_chunk_mut::<F>() {
            *runs = self.runs;
        }
        if TAIL && let Some(tail) = row.last_chunk_mut::<L>() {
            *tail = self.tail;
        }
    }

    /// self + value · row
    // By value: what is changed behind a reference would go through memory.
    #[inline(always)]
    #[must_use]
    pub fn plus(mut self, value: f32, row: Self) -> Self {
        for f in 0..F {
            for l in 0..L {
                self.runs[f][l] += value * row.runs[f][l];
            }
        }
        if TAIL {
            for l in 0..L {
                self.tail[l] += value * row.tail[l];
            }
        }
        self
    }

    /// self · factor
    #[inline(always)]
    #[must_use]
    pub fn times(self, factor: f32) -> Self {
        Self { runs: self.runs.map(|run| run.map(|x| x * factor)), tail: self.tail.map(|x| x * factor) }
    }

    /// self + Σ value · row, over the rows that the indices name. Two sums run side by side:
    /// one would wait for each addition.
    #[inline(always)]
    #[must_use]
    pub fn plus_rows<W: Copy + Into<f32>>(self, (indices, values): List, rows: &Rows<W>) -> Self {
        let (mut even, mut odd) = (self, Self::ZERO);
        let (pairs, last) = indices.as_chunks::<2>();
        let (value_pairs, last_value) = values.as_chunks::<2>();
        for (index, value) in pairs.iter().zip(value_pairs) {
            even = even.plus(value[0], Self::load(rows.get(index[0])));
            odd = odd.plus(value[1], Self::load(rows.get(index[1])));
        }
        for (&index, &value) in last.iter().zip(last_value) {
            even = even.plus(value, Self::load(rows.get(index)));
        }
        even.plus(1.0, odd)
    }
}

/// Indices of rows, and the value of each.
pub type List<'a> = (&'a [u32], &'a [f32]);

/// Some columns of some rows of a matrix.
pub struct Rows<'w, W = f32> {
    /// All columns of the rows.
    pub weights: &'w [W],
    /// The first of the rows.
    pub begin: u32,
    /// Columns of the matrix.
    pub width: usize,
    /// Those that are wanted.
    pub columns: std::ops::Range<usize>,
}

impl<W> Rows<'_, W> {
    // Not a closure: called in several places it would be compiled for no level of CPU.
    #[inline(always)]
    fn get(&self, index: u32) -> &[W] {
        let at = (index - self.begin) as usize * self.width;
        &self.weights[at + self.columns.start..at + self.columns.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both<const L: usize, const F: usize, const TAIL: bool>(rows: Rows, sums: &mut [f32]) {
        let list: List = (&[5, 6, 7], &[2.0, -1.0, 0.5]);
        Lanes::<L, F, TAIL>::load(sums).plus_rows(list, &rows).store(sums);
    }

    #[test]
    fn every_width_adds_rows_as_a_loop_does() {
        for columns in 1..200 {
            let rows: Vec<Vec<f32>> =
                (0..3).map(|r| (0..columns).map(|k| (k * (r + 1)) as f32 - 7.0).collect()).collect();
            let mut sums = vec![1.0; columns];
            let mut reached = 0;
            for group in groups(columns) {
                assert_eq!(group.start, reached);
                reached = group.end;
                let sums = &mut sums[group.clone()];
                let rows = Rows { weights: &rows.concat(), begin: 5, width: columns, columns: group.clone() };
                by_width!(group.len(), both(rows, sums));
            }
            assert_eq!(reached, columns);
            for (k, sum) in sums.iter().enumerate() {
                assert_eq!(*sum, 1.0 + 2.0 * rows[0][k] - rows[1][k] + 0.5 * rows[2][k]);
            }
        }
    }
}
