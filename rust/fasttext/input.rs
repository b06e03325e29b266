//! The input matrix, as it stands in the file: rows of floats that need not be aligned, or codes.

use super::format::CENTROIDS;
use crate::simd::prefetch;

/// The input matrix.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Little-endian floats, row by row.
    Dense(&'a [u8]),
    /// Each part of a row is one of 256 centroids; all of it times the row's norm.
    Quantised {
        /// A byte a part.
        codes: &'a [u8],
        /// Columns of a part; the last may have fewer.
        part: usize,
        /// 256 of the first part, 256 of the second, ...
        centroids: &'a [f32],
        /// A code a row, and the 256 norms.
        norms: Option<(&'a [u8], &'a [f32])>,
    },
}

/// Floats of a line that the processor fetches at once.
const LINE: usize = 64;

impl Input<'_> {
    /// Ask for a row ahead of its use.
    #[inline(always)]
    pub fn ask(&self, row: u32, dim: usize) {
        match self {
            Input::Dense(bytes) => {
                let begin = row as usize * dim * 4;
                for line in 0..(dim * 4).div_ceil(LINE) {
                    prefetch(bytes, begin + line * LINE);
                }
            }
            Input::Quantised { codes, part, .. } => prefetch(codes, row as usize * dim.div_ceil(*part)),
        }
    }

    /// Add rows to a sum as long as each of them, in their order; a row there is none of adds nothing.
    #[inline(always)]
    pub fn add(&self, rows: &[u32], sum: &mut [f32]) {
        match *self {
            Input::Dense(bytes) => add_up(bytes, rows, sum),
            Input::Quantised { codes, part, centroids, norms } => {
                for &row in rows {
                    add_codes(codes, part, centroids, norms, row as usize, sum);
                }
            }
        }
    }
}

#[inline(always)]
fn add_codes(
    all: &[u8],
    part: usize,
    centroids: &[f32],
    norms: Option<(&[u8], &[f32])>,
    row: usize,
    sum: &mut [f32],
) {
    let parts = sum.len().div_ceil(part);
    let Some(codes) = all.get(row * parts..).and_then(|rest| rest.get(..parts)) else { return };
    let norm = match norms {
        None => 1.0,
        Some((codes, norms)) => {
            codes.get(row).and_then(|&code| norms.get(code as usize)).copied().unwrap_or(0.0)
        }
    };
    if part == 2 && sum.len().is_multiple_of(2) {
        let (tables, _) = centroids.as_chunks::<{ 2 * CENTROIDS }>();
        for ((sum, &code), table) in sum.as_chunks_mut::<2>().0.iter_mut().zip(codes).zip(tables) {
            let place = 2 * code as usize;
            sum[0] += norm * table[place];
            sum[1] += norm * table[place + 1];
        }
        return;
    }
    for (which, (sum, &code)) in sum.chunks_mut(part).zip(codes).enumerate() {
        let begin = which * part * CENTROIDS + code as usize * sum.len();
        let centroid = centroids.get(begin..).unwrap_or_default();
        for (sum, &number) in sum.iter_mut().zip(centroid) {
            *sum += norm * number;
        }
    }
}

/// Floats in rows, which may be bytes that are not aligned.
pub trait Floats: Copy {
    /// Those of columns from `begin` on of a row of `columns`.
    fn some<const N: usize>(&self, row: u32, columns: usize, begin: usize) -> Option<[f32; N]>;
}

impl Floats for &[u8] {
    #[inline(always)]
    fn some<const N: usize>(&self, row: u32, columns: usize, begin: usize) -> Option<[f32; N]> {
        let bytes = self.get((row as usize * columns + begin) * 4..)?.get(..4 * N)?;
        let numbers: &[[u8; 4]; N] = bytes.as_chunks().0.first_chunk()?;
        Some(numbers.map(f32::from_le_bytes))
    }
}

impl Floats for &[f32] {
    #[inline(always)]
    fn some<const N: usize>(&self, row: u32, columns: usize, begin: usize) -> Option<[f32; N]> {
        self.get(row as usize * columns + begin..)?.first_chunk().copied()
    }
}

/// Add rows of a matrix to a sum, in their order; the sum stays in registers, some columns at a time.
#[inline(always)]
pub fn add_up(matrix: impl Floats, rows: &[u32], sum: &mut [f32]) {
    let columns = sum.len();
    let (wide, rest) = sum.as_chunks_mut::<64>();
    for (at, sum) in wide.iter_mut().enumerate() {
        add_columns(matrix, rows, columns, at * 64, sum);
    }
    let done = wide.len() * 64;
    let (narrow, last) = rest.as_chunks_mut::<16>();
    for (at, sum) in narrow.iter_mut().enumerate() {
        add_columns(matrix, rows, columns, done + at * 16, sum);
    }
    let done = done + narrow.len() * 16;
    for (at, sum) in last.iter_mut().enumerate() {
        add_columns(matrix, rows, columns, done + at, std::array::from_mut(sum));
    }
}

#[inline(always)]
fn add_columns<const N: usize>(
    matrix: impl Floats,
    rows: &[u32],
    columns: usize,
    begin: usize,
    sum: &mut [f32; N],
) {
    let mut own = *sum;
    for &row in rows {
        if let Some(numbers) = matrix.some::<N>(row, columns, begin) {
            for lane in 0..N {
                own[lane] += numbers[lane];
            }
        }
    }
    *sum = own;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_up_whatever_their_width_and_none_is_made_up() {
        for columns in [1, 3, 16, 17, 64, 100, 200] {
            let numbers: Vec<f32> = (0..5 * columns).map(|i| i as f32).collect();
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let rows = [4, 0, 7, 4, u32::MAX];
            let expected: Vec<f32> = (0..columns).map(|i| 1.0 + (8 * columns + 3 * i) as f32).collect();
            let (mut one, mut other) = (vec![1.0; columns], vec![1.0; columns]);
            add_up(&numbers[..], &rows, &mut one);
            Input::Dense(&bytes).add(&rows, &mut other);
            assert_eq!((one, other), (expected.clone(), expected));
        }
    }
}
