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

    /// Add a row to a sum as long as it; a row there is none of adds nothing.
    #[inline(always)]
    pub fn add(&self, row: u32, sum: &mut [f32]) {
        match *self {
            Input::Dense(bytes) => {
                let length = sum.len() * 4;
                let Some(row) = bytes.get(row as usize * length..).and_then(|rest| rest.get(..length)) else {
                    return;
                };
                let (wide, last) = row.as_chunks::<64>();
                let (sums, rest) = sum.as_chunks_mut::<16>();
                for (sums, row) in sums.iter_mut().zip(wide) {
                    let numbers = row.as_chunks::<4>().0;
                    for lane in 0..16 {
                        sums[lane] += f32::from_le_bytes(numbers[lane]);
                    }
                }
                for (sum, number) in rest.iter_mut().zip(last.as_chunks::<4>().0) {
                    *sum += f32::from_le_bytes(*number);
                }
            }
            Input::Quantised { codes, part, centroids, norms } => {
                let parts = sum.len().div_ceil(part);
                let begin = row as usize * parts;
                let Some(codes) = codes.get(begin..).and_then(|rest| rest.get(..parts)) else { return };
                let norm = match norms {
                    None => 1.0,
                    Some((codes, norms)) => codes
                        .get(row as usize)
                        .and_then(|&code| norms.get(code as usize))
                        .copied()
                        .unwrap_or(0.0),
                };
                if part == 2 && sum.len().is_multiple_of(2) {
                    let (tables, _) = centroids.as_chunks::<{ 2 * CENTROIDS }>();
                    for ((sum, &code), table) in sum.as_chunks_mut::<2>().0.iter_mut().zip(codes).zip(tables)
                    {
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
        }
    }
}
