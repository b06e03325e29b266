//! Whole arrays of logits: which rows go where, what is read, what is written.
//!
//! One engine serves softmax, log-softmax, log-sum-exp, entropy, cross-entropy and its
//! gradient. A first pass finds each row's `Mass`; from it, per row, come the numbers asked
//! for; a second pass, while the row is still in a cache, writes what is as large as the
//! logits. What is summed in which order depends on the shape alone, never on the threads.

use std::sync::atomic::AtomicUsize;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::elements::Format;
use crate::kernel;
use crate::logits::{BLOCK, Mass, Scan};
use crate::loss::BadLabel;
use crate::packed::{Found, MOST, Tile, one_nan};
use crate::real::{Divisor, Real, Scale, Unit};
use crate::simd::{Cpu, Level, dispatch, end_of_stream, prefetch, stream};
use crate::threads::share;

mod answers;
mod blocks;
mod targets;

pub use answers::{Answers, Map, Numbers, Question, Sums};
use answers::{Finished, write_numbers};
pub use blocks::{Blocks, gather};
use targets::Slope;

/// Rows longer than this are read in parts, which may go to different threads: a multiple of `BLOCK`.
const SEGMENT: usize = 1 << 17;
/// About how many logits make a piece of work.
const PIECE: usize = 1 << 16;
/// Rows whose numbers are finished together.
const ROWS: usize = 16;
/// Rows of few logits side by side.
const WIDE: usize = 32;
/// The same, where there are but a few.
const NARROW: usize = 8;
/// Results from this size on go past the caches, in bytes.
const STREAM: usize = 8 << 20;

/// Answer. The entropy is only found if `SPREAD`.
pub fn answer<'q, F: Format, const SPREAD: bool>(
    level: Level,
    threads: usize,
    question: &'q Question<'q, F>,
    answers: Answers<'_, F::Store>,
) -> Result<Sums, BadLabel> {
    let (rows, classes) = match (&question.z, &answers.map) {
        (Some(z), _) => z.dim(),
        (None, Some((_, out))) => out.dim(),
        (None, None) => return Ok(Sums::default()),
    };
    let scale = Scale::new(question.temperature);
    let size = rows * classes * size_of::<F::Store>();
    let pass = Pass {
        question,
        scale,
        classes,
        streams: question.z.is_some() && size >= STREAM,
        keeps: classes <= BLOCK && answers.map.as_ref().is_some_and(|(map, _)| *map != Map::LogSoftmax),
        bad: AtomicUsize::new(usize::MAX),
    };
    if rows < 4 * threads && classes > SEGMENT {
        let sums = pass.few_long_rows::<SPREAD>(level, threads, rows, answers);
        return pass.unless_bad(sums);
    }
    // Whole tiles of packed rows, so that where a row stands in its tile depends on the shape alone.
    let step = if classes <= MOST {
        (PIECE / classes.max(1)).next_multiple_of(WIDE)
    } else {
        PIECE.div_ceil(classes)
    };
    let mut sums = vec![Sums::default(); rows.div_ceil(step)];
    let mut work = Vec::with_capacity(sums.len());
    let mut rest = answers;
    for (i, sum) in sums.iter_mut().enumerate() {
        let (piece, others) = rest.split(step.min(rows - i * step));
        rest = others;
        work.push((i * step, piece, sum));
    }
    share(threads, work, Scratch::<F>::default, |scratch, (first, piece, sum)| {
        let here = step.min(rows - first);
        let given = (&pass, scratch, first, here, piece);
        *sum = match (classes <= MOST, here > NARROW) {
            (true, true) => dispatch(level, Packed::<F, SPREAD, WIDE>(given)),
            (true, false) => dispatch(level, Packed::<F, SPREAD, NARROW>(given)),
            _ => dispatch(level, Rows::<F, SPREAD>(given)),
        };
        if pass.streams {
            end_of_stream();
        }
    });
    pass.unless_bad(sums.into_iter().fold(Sums::default(), Sums::plus))
}

/// Memory of one thread.
struct Scratch<F: Format> {
    stored: Vec<F::Store>,
    wide: Vec<F::Real>,
    out: Vec<F::Real>,
    result: Vec<F::Store>,
    /// Exponentials of a block, or of all blocks of the rows at hand.
    terms: Vec<F::Real>,
    /// The same times how far down they stand.
    depths: Vec<F::Real>,
}

impl<F: Format> Default for Scratch<F> {
    fn default() -> Self {
        let (terms, depths) = (Vec::new(), Vec::new());
        Self { stored: Vec::new(), wide: Vec::new(), out: Vec::new(), result: Vec::new(), terms, depths }
    }
}

/// A piece of work: the memory for it, its first row, how many rows, and where the answers go.
type Given<'p, 's, 'q, 'a, F> =
    (&'p Pass<'q, F>, &'s mut Scratch<F>, usize, usize, Answers<'a, <F as Format>::Store>);

struct Pass<'q, F: Format> {
    question: &'q Question<'q, F>,
    scale: Scale<F::Real>,
    classes: usize,
    /// Results go past the caches.
    streams: bool,
    /// The exponentials of rows of a single block are kept for the second pass.
    keeps: bool,
    /// The first row met whose label is no class.
    bad: AtomicUsize,
}

/// What the second pass needs to know of a row.
#[derive(Clone, Copy)]
struct Second<T> {
    unit: Unit<T>,
    max: T,
    /// ln(1 + rest)
    above: T,
    /// Of the exponentials.
    total: Divisor<T>,
    slope: Slope,
}

impl<T: Real> Second<T> {
    const NONE: Self = Self {
        unit: Unit::NONE,
        max: T::ZERO,
        above: T::ZERO,
        total: Divisor(T::ZERO, T::ZERO),
        slope: Slope::NONE,
    };
}

/// The memory for it, some rows, and where their masses go.
type Read<'p, 'q, 's, 'z, F> = (
    &'p Pass<'q, F>,
    &'s mut Scratch<F>,
    &'z ArrayView2<'z, <F as Format>::Store>,
    &'s mut [Mass<<F as Format>::Real>],
);

/// Where the numbers of a row go, which row, what was found of it, its logits, and what they become.
type One<'p, 'q, 'n, 'o, F> = (
    &'p Pass<'q, F>,
    &'n mut Numbers<'o, <F as Format>::Store>,
    usize,
    &'p Mass<<F as Format>::Real>,
    &'p ArrayView2<'p, <F as Format>::Store>,
    Map,
);

/// The memory for it, what the logits become, their first row and class, where they go, and what is
/// known of the rows.
type Written<'p, 'q, 's, 'a, F> = (
    &'p Pass<'q, F>,
    &'s mut Scratch<F>,
    Map,
    usize,
    usize,
    ArrayViewMut2<'a, <F as Format>::Store>,
    &'p [Second<<F as Format>::Real>; ROWS],
);

kernel!(Packed<'p, 's, 'q, 'a; F: Format; SPREAD: bool, W: usize>
    (Given<'p, 's, 'q, 'a, F>) -> Sums = Pass::packed::<SPREAD, W>);
kernel!(Rows<'p, 's, 'q, 'a; F: Format; SPREAD: bool>
    (Given<'p, 's, 'q, 'a, F>) -> Sums = Pass::rows::<SPREAD>);
kernel!(Masses<'p, 'q, 's, 'z; F: Format; SPREAD: bool>
    (Read<'p, 'q, 's, 'z, F>) -> () = Pass::masses::<SPREAD>);
kernel!(Single<'p, 'q, 'n, 'o; F: Format; SPREAD: bool>
    (One<'p, 'q, 'n, 'o, F>) -> (Sums, Second<F::Real>) = Pass::single::<SPREAD>);
kernel!(Write<'p, 'q, 's, 'a; F: Format;>
    (Written<'p, 'q, 's, 'a, F>) -> () = Pass::write_map);

/// The logits of rows `first..first + here`: given, or standing where the map is written.
macro_rules! source {
    ($pass:expr, $map:expr, $first:expr, $here:expr) => {
        match (&$pass.question.z, &$map) {
            (Some(z), _) => z.slice(ndarray::s![$first..$first + $here, ..]),
            (None, Some((_, out))) => out.view(),
            (None, None) => ArrayView2::from(&[] as &[[F::Store; 0]]),
        }
    };
}

impl<'q, F: Format> Pass<'q, F> {
    /// Rows of few logits, tile by tile; the sums over them.
    #[inline(always)]
    fn packed<const SPREAD: bool, const W: usize>(
        cpu: impl Cpu,
        (pass, scratch, first, here, answers): Given<'_, '_, 'q, '_, F>,
    ) -> Sums {
        let (classes, scale) = (pass.classes, &pass.scale);
        let Answers { mut numbers, mut map } = answers;
        let slopes = matches!(map, Some((Map::Gradient, _)));
        if classes == 0 {
            return Sums::default();
        }
        let mut tile = Tile::<F::Real, W>::default();
        let mut found = Found::<F::Real, W>::default();
        let mut rows = Finished::new();
        let mut sum = Sums::default();
        scratch.wide.resize(W * classes, F::Real::ZERO);
        scratch.out.resize(W * classes, F::Real::ZERO);
        scratch.result.resize(W * classes, F::Store::default());
        for begin in (0..here).step_by(W) {
            let count = W.min(here - begin);
            let z = source!(pass, map, first, here);
            let part = z.slice(ndarray::s![begin..begin + count, ..]);
            tile.take::<F>(cpu, &part, &mut scratch.stored, &mut scratch.wide);
            if let Some(flat) = z.to_slice() {
                // The next tile is fetched while this one is worked on.
                let line = 64 / size_of::<F::Store>();
                let next = (begin + count) * classes;
                (next..next + W * classes).step_by(line).for_each(|at| prefetch(flat, at));
            }
            if map.as_ref().is_some_and(|(map, _)| *map != Map::LogSoftmax) {
                tile.masses::<SPREAD, true>(cpu, scale, classes, &mut found);
            } else {
                tile.masses::<SPREAD, false>(cpu, scale, classes, &mut found);
            }
            pass.finish::<W>(cpu, &found, first + begin, count, &part, &mut rows, slopes);
            write_numbers::<F, SPREAD, W>(cpu, &mut numbers, begin, count, &part, &found, &rows);
            sum = sum.plus(rows.sums);
            let Some((map, out)) = &mut map else { continue };
            let wide = &mut scratch.out[..count * classes];
            match map {
                Map::Softmax => tile.softmax(cpu, classes, &found),
                Map::LogSoftmax => {
                    let above = rows.above.map(F::Real::from_f64);
                    tile.log_softmax(scale, classes, &found.max, &above);
                }
                Map::Gradient if pass.plain_classes() => {
                    tile.softmax(cpu, classes, &found);
                    pass.take_classes(&mut tile, first + begin, count, &found);
                }
                Map::Gradient => {
                    tile.softmax(cpu, classes, &found);
                    let slopes = pass.slopes(count, &found, &rows);
                    tile.multiply(classes, &slopes.each_ref().map(|slope| F::Real::from_f64(slope.pull)));
                    tile.spill(wide, classes);
                    for (i, (row, slope)) in wide.chunks_exact_mut(classes).zip(&slopes).enumerate() {
                        pass.take_target(slope, first + begin + i, 0, row);
                    }
                    one_nan(wide);
                }
            }
            if *map != Map::Gradient || pass.plain_classes() {
                tile.spill(wide, classes);
            }
            for i in (0..count).filter(|&i| found.rest[i].is_nan()) {
                one_nan(&mut wide[i * classes..(i + 1) * classes]);
            }
            let stored = F::narrow(cpu, wide, &mut scratch.result);
            let mut out = out.slice_mut(ndarray::s![begin..begin + count, ..]);
            match out.as_slice_mut() {
                Some(out) if pass.streams => stream(stored, out),
                Some(out) => out.copy_from_slice(stored),
                None => out.iter_mut().zip(stored).for_each(|(out, &value)| *out = value),
            }
        }
        sum
    }

    /// Rows of many logits; the sums over them.
    #[inline(always)]
    fn rows<const SPREAD: bool>(
        cpu: impl Cpu,
        (pass, scratch, first, here, answers): Given<'_, '_, 'q, '_, F>,
    ) -> Sums {
        let Answers { mut numbers, mut map } = answers;
        let slopes = matches!(map, Some((Map::Gradient, _)));
        let mut found = Found::<F::Real, ROWS>::default();
        let mut rows = Finished::new();
        let mut sum = Sums::default();
        let mut masses = [Mass::NONE; ROWS];
        let mut seconds = [Second::NONE; ROWS];
        // Few enough rows to be still in the second cache when they are read again.
        let together = (PIECE / 4 / pass.classes).clamp(1, ROWS);
        for begin in (0..here).step_by(together) {
            let count = together.min(here - begin);
            let z = source!(pass, map, first, here);
            let part = z.slice(ndarray::s![begin..begin + count, ..]);
            Self::masses::<SPREAD>(cpu, (pass, scratch, &part, &mut masses[..count]));
            masses.iter().enumerate().for_each(|(i, mass)| found.set(i, mass));
            pass.finish::<ROWS>(cpu, &found, first + begin, count, &part, &mut rows, slopes);
            write_numbers::<F, SPREAD, ROWS>(cpu, &mut numbers, begin, count, &part, &found, &rows);
            sum = sum.plus(rows.sums);
            if let Some((map, out)) = &mut map {
                let slopes = pass.slopes(count, &found, &rows);
                for (i, slope) in slopes.into_iter().enumerate() {
                    seconds[i] = pass.second(cpu, *map, &found, i, rows.above[i], slope);
                }
                let out = out.slice_mut(ndarray::s![begin..begin + count, ..]);
                Self::write_map(cpu, (pass, scratch, *map, first + begin, 0, out, &seconds));
            }
        }
        sum
    }

    /// The masses of up to `ROWS` rows.
    #[inline(always)]
    fn masses<const SPREAD: bool>(cpu: impl Cpu, (pass, scratch, z, all): Read<'_, 'q, '_, '_, F>) {
        let (scale, classes) = (&pass.scale, z.dim().1);
        let mut scans = [Scan::BEGIN; ROWS];
        all.fill(Mass::NONE);
        scratch.wide.resize(BLOCK, F::Real::ZERO);
        let wide = &mut scratch.wide[..BLOCK];
        let keeps = pass.keeps;
        scratch.terms.resize(if keeps { all.len() * classes } else { BLOCK }, F::Real::ZERO);
        scratch.depths.resize(BLOCK, F::Real::ZERO);
        let mut blocks = Blocks::new(z, 0..z.dim().0, &mut scratch.stored);
        while let Some((row, begin, block)) = blocks.next() {
            let (scan, end) = (&mut scans[row], begin + block.len());
            let terms = &mut scratch.terms[if keeps { row * classes } else { 0 }..];
            scan.read::<SPREAD>(cpu, scale, F::widen(cpu, block, wide), terms, &mut scratch.depths);
            if end % SEGMENT == 0 || end == classes {
                if end <= SEGMENT {
                    all[row] = scan.mass();
                } else {
                    all[row].join(scale, scan.mass(), (end - 1) / SEGMENT * SEGMENT);
                }
                *scan = Scan::BEGIN;
            }
        }
    }

    /// What follows from the masses before the logits are read again.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn finish<const W: usize>(
        &self,
        cpu: impl Cpu,
        found: &Found<F::Real, W>,
        first: usize,
        count: usize,
        z: &ArrayView2<'_, F::Store>,
        rows: &mut Finished<W>,
        slopes: bool,
    ) {
        rows.sums = Sums::default();
        rows.above = F::Real::log1p(cpu, &found.rest);
        for i in 0..W {
            rows.lse[i] = found.max[i].to_f64() * self.scale.coolness + rows.above[i];
        }
        self.lose(found, first, count, z, rows, slopes);
    }

    /// What the second pass needs to know of row `i`.
    #[inline(always)]
    fn second<const W: usize>(
        &self,
        cpu: impl Cpu,
        map: Map,
        found: &Found<F::Real, W>,
        i: usize,
        above: f64,
        slope: Slope,
    ) -> Second<F::Real> {
        let (max, rest) = (found.max[i], found.rest[i]);
        let unit = Unit::new(cpu, &self.scale, max);
        let total = unit.total(cpu, &self.scale, max, rest);
        let pull = if map == Map::Gradient { slope.pull } else { 1.0 };
        let total = F::Real::divisor(total / pull);
        Second { unit, max, above: F::Real::from_f64(above), total, slope }
    }

    /// The second pass over up to `ROWS` rows, or a part of them that begins at class `offset`.
    #[inline(always)]
    fn write_map(
        cpu: impl Cpu,
        (pass, scratch, map, first, offset, mut out, seconds): Written<'_, 'q, '_, '_, F>,
    ) {
        let (rows, width) = out.dim();
        let Scratch { stored, wide, out: result, terms, .. } = scratch;
        wide.resize(BLOCK, F::Real::ZERO);
        result.resize(BLOCK, F::Real::ZERO);
        let mut narrow = [F::Store::default(); BLOCK];
        let given =
            pass.question.z.map(|z| z.slice_move(ndarray::s![first..first + rows, offset..offset + width]));
        let mut own = Vec::new();
        let mut blocks = given.as_ref().map(|z| Blocks::new(z, 0..rows, stored));
        let (mut row, mut begin) = (0, 0);
        loop {
            let z: &[F::Store] = match &mut blocks {
                Some(blocks) => {
                    let Some(next) = blocks.next() else { return };
                    (row, begin) = (next.0, next.1);
                    next.2
                }
                None if row == rows => return,
                None => {
                    own.clear();
                    own.extend(&out.slice(ndarray::s![row, begin..width.min(begin + BLOCK)]));
                    &own
                }
            };
            let result = &mut result[..z.len()];
            if pass.keeps {
                let total = seconds[row].total;
                let terms = &terms[row * width..(row + 1) * width];
                result.iter_mut().zip(terms).for_each(|(to, &u)| *to = F::Real::share(cpu, u, total));
            } else {
                pass.map_block(cpu, map, &seconds[row], F::widen(cpu, z, wide), result);
            }
            if seconds[row].above.is_nan() {
                result.fill(F::Real::NAN);
            }
            if map == Map::Gradient {
                pass.take_target(&seconds[row].slope, first + row, offset + begin, result);
                if !pass.plain_classes() || seconds[row].above.is_nan() {
                    one_nan(result);
                }
            }
            let narrow = F::narrow(cpu, result, &mut narrow);
            let mut part = out.slice_mut(ndarray::s![row, begin..begin + narrow.len()]);
            match part.as_slice_mut() {
                Some(out) if pass.streams => stream(narrow, out),
                Some(out) => out.copy_from_slice(narrow),
                None => part.iter_mut().zip(narrow).for_each(|(out, &value)| *out = value),
            }
            if blocks.is_none() {
                begin += BLOCK;
                if begin >= width {
                    (row, begin) = (row + 1, 0);
                }
            }
        }
    }

    #[inline(always)]
    fn map_block(
        &self,
        cpu: impl Cpu,
        map: Map,
        second: &Second<F::Real>,
        z: &[F::Real],
        to: &mut [F::Real],
    ) {
        let scale = &self.scale;
        match map {
            Map::LogSoftmax => {
                let far = Scale::far(second.max);
                for (to, &z) in to.iter_mut().zip(z) {
                    *to = scale.below(z, second.max, far) - second.above;
                }
            }
            _ => {
                for (to, &z) in to.iter_mut().zip(z) {
                    *to = F::Real::share(cpu, second.unit.exp(cpu, scale, z), second.total);
                }
            }
        }
    }

    /// Rows too few to go round, and long enough to be shared: both passes are cut by class.
    fn few_long_rows<const SPREAD: bool>(
        &self,
        level: Level,
        threads: usize,
        rows: usize,
        answers: Answers<'_, F::Store>,
    ) -> Sums {
        let Answers { mut numbers, map } = answers;
        let z = source!(self, map, 0, rows);
        let segments = self.classes.div_ceil(SEGMENT);
        let part = |i: usize| i * SEGMENT..self.classes.min((i + 1) * SEGMENT);
        let mut masses = vec![Mass::NONE; rows * segments];
        let work = masses.iter_mut().enumerate().collect();
        share(threads, work, Scratch::<F>::default, |scratch, (i, mass): (usize, &mut Mass<_>)| {
            let z = z.slice(ndarray::s![i / segments..=i / segments, part(i % segments)]);
            dispatch(level, Masses::<F, SPREAD>((self, scratch, &z, std::slice::from_mut(mass))));
        });
        let mut sum = Sums::default();
        let mut seconds = Vec::with_capacity(rows);
        let kind = map.as_ref().map_or(Map::Softmax, |(map, _)| *map);
        for (row, parts) in masses.chunks_exact(segments).enumerate() {
            let mut mass = Mass::NONE;
            parts.iter().enumerate().for_each(|(i, part)| mass.join(&self.scale, *part, i * SEGMENT));
            let z = z.slice(ndarray::s![row..=row, ..]);
            let given = (self, &mut numbers, row, &mass, &z, kind);
            let (sums, second) = dispatch(level, Single::<F, SPREAD>(given));
            sum = sum.plus(sums);
            seconds.push(second);
        }
        let Some((map, mut out)) = map else { return sum };
        let mut work = Vec::with_capacity(rows * segments);
        for (row, mut out) in out.axis_chunks_iter_mut(Axis(0), 1).enumerate() {
            for i in 0..segments {
                let (piece, others) = out.split_at(Axis(1), part(i).len());
                out = others;
                work.push((row, i, piece));
            }
        }
        share(threads, work, Scratch::<F>::default, |scratch, (row, i, piece)| {
            let second = [seconds[row]; ROWS];
            dispatch(level, Write((self, scratch, map, row, part(i).start, piece, &second)));
            end_of_stream();
        });
        sum
    }
}

impl<'q, F: Format> Pass<'q, F> {
    /// The numbers of one row, and what its second pass needs to know.
    #[inline(always)]
    fn single<const SPREAD: bool>(
        cpu: impl Cpu,
        (pass, numbers, row, mass, z, map): One<'_, 'q, '_, '_, F>,
    ) -> (Sums, Second<F::Real>) {
        let mut found = Found::<F::Real, 1>::default();
        found.set(0, mass);
        let mut finished = Finished::new();
        pass.finish::<1>(cpu, &found, row, 1, z, &mut finished, map == Map::Gradient);
        write_numbers::<F, SPREAD, 1>(cpu, numbers, row, 1, z, &found, &finished);
        let [slope] = pass.slopes(1, &found, &finished);
        (finished.sums, pass.second(cpu, map, &found, 0, finished.above[0], slope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::{Double, Single};
    use crate::loss::{Targets, Terms};
    use crate::simd::Level::{Avx2, Avx512, Portable};

    /// Softmax, log-sum-exp and loss of rows of logits.
    fn all<F: Format<Store: PartialEq>>(
        level: Level,
        threads: usize,
        z: &[F::Store],
        classes: usize,
        labels: &[i64],
    ) -> [Vec<F::Store>; 3] {
        let view = ArrayView2::from_shape((z.len() / classes, classes), z).unwrap();
        let targets = Targets::Classes(labels);
        let question =
            Question::<F> { z: Some(view), temperature: 1.0, targets, terms: Terms::PLAIN, norm: 1.0 };
        let mut out = vec![F::Store::default(); z.len()];
        let (mut lse, mut loss) =
            (vec![F::Store::default(); labels.len()], vec![F::Store::default(); labels.len()]);
        let numbers = Numbers { lse: Some(&mut lse), loss: Some(&mut loss), ..Numbers::NONE };
        let view = ArrayViewMut2::from_shape((labels.len(), classes), &mut out).unwrap();
        let answers = Answers { numbers, map: Some((Map::Softmax, view)) };
        answer::<F, false>(level, threads, &question, answers).unwrap();
        [out, lse, loss]
    }

    #[test]
    fn the_worked_example() {
        // e² = 7.389, e¹ = 2.718, e^0.1 = 1.105; sum 11.212
        let [p, lse, loss] = all::<Double>(Portable, 1, &[2.0, 1.0, 0.1], 3, &[0]);
        for (got, want) in
            p.iter().chain(&lse).chain(&loss).zip([0.659_001, 0.242_433, 0.098_566, 2.417_030, 0.417_030])
        {
            assert!((got - want).abs() < 1e-6);
        }
    }

    #[test]
    fn rows_that_are_no_rows_are_nan_alone() {
        let inf = f64::INFINITY;
        let z = [0.0, -inf, -inf, -inf, inf, 0.0, f64::NAN, 0.0, 1.0, 1.0];
        let [p, _, loss] = all::<Double>(Portable, 1, &z, 2, &[1, 0, 0, 0, 0]);
        assert_eq!(p[..2], [1.0, 0.0]);
        assert!(p[2..8].iter().all(|p| p.is_nan()));
        assert_eq!(p[8..], [0.5, 0.5]);
        assert_eq!(loss[0], inf);
        assert!((loss[4] - std::f64::consts::LN_2).abs() < 1e-15);
    }

    #[test]
    fn levels_and_threads_agree_to_the_bit() {
        for (rows, classes) in
            [(300, 1), (1000, 2), (200, 17), (65, 128), (70, 129), (9, 1500), (3, 140_000), (1, 300_000)]
        {
            let z: Vec<f32> =
                (0..rows * classes).map(|i| ((i * 7919) % 61_357) as f32 / 900.0 - 30.0).collect();
            let labels: Vec<i64> = (0..rows as i64).map(|i| i % classes as i64).collect();
            let one = all::<Single>(Portable, 1, &z, classes, &labels);
            assert!(one == all::<Single>(Avx2, 1, &z, classes, &labels), "{rows} x {classes}");
            assert!(one == all::<Single>(Avx512, 3, &z, classes, &labels), "{rows} x {classes}");
            // A row by itself.
            let alone = all::<Single>(Avx2, 1, &z[..classes], classes, &labels[..1]);
            assert!(
                one[0][..classes] == alone[0][..] && one[1][0] == alone[1][0] && one[2][0] == alone[2][0]
            );
        }
    }

    #[test]
    fn a_label_that_is_no_class_is_found() {
        let view = ArrayView2::from_shape((3, 2), &[0.0; 6]).unwrap();
        let targets = Targets::Classes(&[0, 2, -1]);
        let question =
            Question::<Double> { z: Some(view), temperature: 1.0, targets, terms: Terms::PLAIN, norm: 1.0 };
        let found =
            answer::<Double, false>(Portable, 1, &question, Answers { numbers: Numbers::NONE, map: None });
        assert_eq!(found.err(), Some(BadLabel(1)));
    }
}
