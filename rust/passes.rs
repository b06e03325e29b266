//! Whole arrays of logits: which rows go where, what is read, what is written.
//!
//! One engine serves softmax, log-softmax, log-sum-exp, entropy, cross-entropy and its
//! gradient. A first pass finds each row's `Mass`; from it, per row, come the numbers asked
//! for; a second pass, while the row is still in a cache, writes what is as large as the
//! logits. What is summed in which order depends on the shape alone, never on the threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::elements::Format;
use crate::kernel;
use crate::logits::{BLOCK, Mass, Scan, Trees};
use crate::loss::{Aim, BadLabel, Targets, Terms, weigh_shares};
use crate::packed::{Found, MOST, Tile};
use crate::real::{Divisor, Real, Scale, Unit};
use crate::simd::{Cpu, Level, dispatch, end_of_stream, stream};
use crate::threads::share;

/// Rows longer than this are read in parts, which may go to different threads: a multiple of `BLOCK`.
const SEGMENT: usize = 1 << 17;
/// About how many logits make a piece of work.
const PIECE: usize = 1 << 16;
/// Rows whose numbers are finished together.
const ROWS: usize = 16;
/// Rows of few logits side by side.
const WIDE: usize = 128;
/// Results from this size on go past the caches, in bytes.
const STREAM: usize = 8 << 20;

/// What each logit becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// Probabilities.
    Softmax,
    /// Their logarithms, in nats.
    LogSoftmax,
    /// The slope of the loss.
    Gradient,
}

/// What is asked, of which logits.
pub struct Question<'a, F: Format> {
    /// The logits; none: they stand where the map is written to.
    pub z: Option<ArrayView2<'a, F::Store>>,
    /// T
    pub temperature: f64,
    /// The truth.
    pub targets: Targets<'a, F::Store>,
    /// How it becomes a loss.
    pub terms: Terms<'a>,
    /// What the gradient is divided by.
    pub norm: f64,
}

/// Where the answers are written.
pub struct Answers<'a, S> {
    /// One place per row.
    pub numbers: Numbers<'a, S>,
    /// One place per logit.
    pub map: Option<(Map, ArrayViewMut2<'a, S>)>,
}

/// Numbers of each row that are asked for.
pub struct Numbers<'a, S> {
    /// Log-sum-exp.
    pub lse: Option<&'a mut [S]>,
    /// Index of the largest.
    pub at: Option<&'a mut [i64]>,
    /// The largest.
    pub max: Option<&'a mut [S]>,
    /// In nats.
    pub entropy: Option<&'a mut [S]>,
    /// In nats.
    pub loss: Option<&'a mut [S]>,
}

impl<'a, S> Numbers<'a, S> {
    /// Nothing asked.
    pub const NONE: Self = Self { lse: None, at: None, max: None, entropy: None, loss: None };

    /// Those of the first `rows` rows, and the others.
    fn split(self, rows: usize) -> (Self, Self) {
        fn cut<'a, T>(all: Option<&'a mut [T]>, rows: usize) -> (Option<&'a mut [T]>, Option<&'a mut [T]>) {
            all.map(|all| all.split_at_mut(rows)).unzip()
        }
        let (lse, lse2) = cut(self.lse, rows);
        let (at, at2) = cut(self.at, rows);
        let (max, max2) = cut(self.max, rows);
        let (entropy, entropy2) = cut(self.entropy, rows);
        let (loss, loss2) = cut(self.loss, rows);
        let first = Self { lse, at, max, entropy, loss };
        (first, Self { lse: lse2, at: at2, max: max2, entropy: entropy2, loss: loss2 })
    }
}

impl<'a, S> Answers<'a, S> {
    fn split(self, rows: usize) -> (Self, Self) {
        let (numbers, numbers2) = self.numbers.split(rows);
        let (map, map2) = match self.map {
            Some((map, out)) => {
                let (a, b) = out.split_at(Axis(0), rows);
                (Some((map, a)), Some((map, b)))
            }
            None => (None, None),
        };
        (Self { numbers, map }, Self { numbers: numbers2, map: map2 })
    }
}

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
    let pass = Pass { question, scale, classes, streams: question.z.is_some() && size >= STREAM, bad: AtomicUsize::new(usize::MAX) };
    if rows < 4 * threads && classes > SEGMENT {
        let sums = pass.few_long_rows::<SPREAD>(level, threads, rows, answers);
        return pass.unless_bad(sums);
    }
    // Whole tiles of packed rows, so that where a row stands in its tile depends on the shape alone.
    let step = if classes <= MOST { (PIECE / classes.max(1)).next_multiple_of(WIDE) } else { PIECE.div_ceil(classes) };
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
        *sum = match (classes <= MOST, here > ROWS) {
            (true, true) => dispatch(level, Packed::<F, SPREAD, WIDE>(given)),
            (true, false) => dispatch(level, Packed::<F, SPREAD, ROWS>(given)),
            _ => dispatch(level, Rows::<F, SPREAD>(given)),
        };
        end_of_stream();
    });
    pass.unless_bad(sums.into_iter().fold(Sums::default(), Sums::plus))
}

/// Sums over rows.
#[derive(Clone, Copy, Default)]
pub struct Sums {
    /// Of the losses.
    pub loss: f64,
    /// Of the weights.
    pub weight: f64,
}

impl Sums {
    fn plus(self, other: Self) -> Self {
        Self { loss: self.loss + other.loss, weight: self.weight + other.weight }
    }
}

/// Memory of one thread.
struct Scratch<F: Format> {
    stored: Vec<F::Store>,
    wide: Vec<F::Real>,
    out: Vec<F::Real>,
    result: Vec<F::Store>,
    trees: Box<Trees<F::Real>>,
}

impl<F: Format> Default for Scratch<F> {
    fn default() -> Self {
        Self { stored: Vec::new(), wide: Vec::new(), out: Vec::new(), result: Vec::new(), trees: Box::new(Trees::new()) }
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
    /// The first row met whose label is no class.
    bad: AtomicUsize,
}

/// The stored numbers of a part of a row where they stand one after the other.
#[inline(always)]
fn run<'v, S>(view: &'v ArrayView2<'_, S>, row: usize, begin: usize, end: usize) -> Option<&'v [S]> {
    if view.strides()[1] != 1 && view.dim().1 != 1 {
        return None;
    }
    view.index_axis(Axis(0), row).to_slice().map(|row| &row[begin..end])
}

/// Gather a block of several rows, one after the other, walking along memory.
pub fn gather<S: Copy + Default>(view: &ArrayView2<'_, S>, rows: Range<usize>, begin: usize, end: usize, to: &mut Vec<S>) {
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
}

impl<'a, S: Copy + Default> Blocks<'a, S> {
    /// Of rows of a view that has classes.
    pub fn new(view: &'a ArrayView2<'a, S>, rows: Range<usize>, gathered: &'a mut Vec<S>) -> Self {
        let row = rows.start;
        Self { view, rows, gathered, row, begin: 0 }
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
    const NONE: Self =
        Self { unit: Unit::NONE, max: T::ZERO, above: T::ZERO, total: Divisor(T::ZERO, T::ZERO), slope: Slope::NONE };
}

/// How a row's gradient follows from its softmax.
#[derive(Clone, Copy)]
struct Slope {
    /// The row is left out.
    left_out: bool,
    /// What softmax is multiplied by.
    pull: f64,
    /// What is taken from each element per unit of its class's weight.
    each: f64,
    /// What is taken from each element per unit of its share and its class's weight.
    share: f64,
    /// Where the largest stands.
    top: usize,
    /// What of the pull goes to the others.
    others: f64,
}

impl Slope {
    const NONE: Self = Self { left_out: false, pull: 1.0, each: 0.0, share: 0.0, top: 0, others: 0.0 };
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
    fn unless_bad(&self, sums: Sums) -> Result<Sums, BadLabel> {
        match self.bad.load(Ordering::Relaxed) {
            usize::MAX => Ok(sums),
            row => Err(BadLabel(row)),
        }
    }

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
        let mut tile = Tile::<F::Real, W>::new();
        let mut found = Found::<F::Real, W>::new();
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
                Map::Gradient => {
                    tile.softmax(cpu, classes, &found);
                    let slopes = pass.slopes(count, &found, &rows);
                    tile.multiply(classes, &slopes.each_ref().map(|slope| F::Real::from_f64(slope.pull)));
                    tile.spill(wide, classes);
                    for (i, (row, slope)) in wide.chunks_exact_mut(classes).zip(&slopes).enumerate() {
                        pass.take_target(slope, first + begin + i, 0, row);
                    }
                }
            }
            if *map != Map::Gradient {
                tile.spill(wide, classes);
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
        let mut found = Found::<F::Real, ROWS>::new();
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
        let mut blocks = Blocks::new(z, 0..z.dim().0, &mut scratch.stored);
        while let Some((row, begin, block)) = blocks.next() {
            let (scan, end) = (&mut scans[row], begin + block.len());
            scan.read::<SPREAD>(cpu, scale, F::widen(cpu, block, wide), &mut scratch.trees);
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
        let terms = &self.question.terms;
        match &self.question.targets {
            Targets::None => {}
            // Most of the time nothing but the class counts.
            Targets::Classes(classes) if terms.plain() => {
                let flat = z.to_slice();
                let here = &classes[first..first + count];
                let one = Aim { row: 1.0, hard: 1.0, all: 1.0, ..Aim::default() };
                for (i, &label) in here.iter().enumerate() {
                    let class = self.class(first + i, label);
                    let (mut loss, mut aim) = (0.0, Aim::default());
                    if let Some(class) = class {
                        let z = flat.map_or_else(|| z[[i, class]], |flat| flat[i * self.classes + class]);
                        let below = (found.max[i] - F::number(z)).to_f64() * self.scale.coolness;
                        (loss, aim) = (below + rows.above[i], one);
                        rows.sums.weight += 1.0;
                    }
                    rows.loss[i] = loss;
                    if slopes {
                        rows.aim[i] = aim;
                    }
                }
            }
            _ => {
                for i in 0..count {
                    rows.aim[i] = self.aim(first + i, z, i, found.max[i]);
                    rows.loss[i] = terms.loss(&rows.aim[i], rows.above[i], rows.lse[i]);
                    rows.sums.weight += rows.aim[i].row * rows.aim[i].hard;
                }
            }
        }
        if !matches!(self.question.targets, Targets::None) {
            rows.sums.loss = rows.loss[..count].iter().sum();
        }
    }

    /// The index that a label is, unless its rows are left out or it is no class.
    #[inline(always)]
    fn class(&self, row: usize, label: i64) -> Option<usize> {
        if Some(label) == self.question.terms.ignored {
            return None;
        }
        let class = usize::try_from(label).ok().filter(|&class| class < self.classes);
        if class.is_none() {
            self.bad.fetch_min(row, Ordering::Relaxed);
        }
        class
    }

    /// What a row's target asks for.
    #[inline(always)]
    fn aim(&self, row: usize, z: &ArrayView2<'_, F::Store>, i: usize, max: F::Real) -> Aim {
        let terms = &self.question.terms;
        let kept = 1.0 - terms.smoothing;
        let mut aim = Aim { row: terms.row(row), ..Aim::default() };
        // Probabilities are the softmax of z / T, and so depths are divided by T, too.
        let depth = |z: F::Store| (max - F::number(z)).to_f64() * self.scale.coolness;
        let z = z.index_axis(Axis(0), i);
        let shares;
        match &self.question.targets {
            Targets::None => return Aim::default(),
            Targets::Classes(classes) => {
                let Some(class) = self.class(row, classes[row]) else { return Aim::default() };
                aim.hard = terms.class(class);
                shares = 1.0;
                if kept * aim.hard != 0.0 {
                    aim.below = kept * aim.hard * depth(z[class]);
                }
            }
            Targets::Shares(all) => {
                let all = all.index_axis(Axis(0), row);
                let Some((sum, hard)) = weigh_shares::<F>(all.iter().copied(), terms) else {
                    self.bad.fetch_min(row, Ordering::Relaxed);
                    return Aim::default();
                };
                (shares, aim.hard) = (sum, hard);
                for (c, (&share, &z)) in all.iter().zip(z).enumerate() {
                    // 0 · ∞ is 0: a masked class without a share costs nothing.
                    let weighted = kept * F::number(share).to_f64() * terms.class(c);
                    if weighted != 0.0 {
                        aim.below += weighted * depth(z);
                    }
                }
            }
        }
        aim.all = kept * aim.hard;
        if terms.smoothing != 0.0 {
            aim.each = terms.smoothing * shares / self.classes as f64;
            let (mut weights, mut below) = (0.0, 0.0);
            for (c, &z) in z.iter().enumerate() {
                let weight = terms.class(c);
                weights += weight;
                if weight != 0.0 {
                    below += weight * depth(z);
                }
            }
            aim.all += aim.each * weights;
            if aim.each != 0.0 {
                aim.below += aim.each * below;
            }
        }
        aim
    }

    /// How each row's gradient follows from its softmax; nothing where none is asked for.
    #[inline(always)]
    fn slopes<const W: usize>(
        &self,
        count: usize,
        found: &Found<F::Real, W>,
        rows: &Finished<W>,
    ) -> [Slope; W] {
        let mut slopes = [Slope::NONE; W];
        if matches!(self.question.targets, Targets::None) {
            return slopes;
        }
        let terms = &self.question.terms;
        let scale = 1.0 / (self.question.norm * self.question.temperature);
        for i in 0..count {
            let (aim, rest) = (&rows.aim[i], found.rest[i]);
            let pull = terms.pull(aim, rows.lse[i]) * scale;
            slopes[i] = Slope {
                left_out: aim.row == 0.0,
                pull,
                each: aim.row * aim.each * scale,
                share: aim.row * (1.0 - terms.smoothing) * scale,
                top: found.at[i] as usize,
                others: pull * (rest / (1.0 + rest)),
            };
        }
        slopes
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

    /// Take the targets from a part of a row of softmax times pull.
    #[inline(always)]
    fn take_target(&self, slope: &Slope, row: usize, begin: usize, slopes: &mut [F::Real]) {
        if slope.left_out {
            slopes.fill(F::Real::ZERO);
            return;
        }
        let terms = &self.question.terms;
        if slope.each != 0.0 {
            match terms.class_weight {
                None => {
                    let each = F::Real::from_f64(slope.each);
                    slopes.iter_mut().for_each(|slope| *slope = *slope - each);
                }
                Some(weights) => {
                    for (place, weight) in slopes.iter_mut().zip(&weights[begin..]) {
                        *place = *place - F::Real::from_f64(slope.each * weight);
                    }
                }
            }
        }
        match &self.question.targets {
            Targets::None => {}
            Targets::Classes(classes) => {
                let class = classes[row] as usize;
                let taken = slope.share * terms.class(class);
                let Some(place) = class.checked_sub(begin).and_then(|i| slopes.get_mut(i)) else { return };
                *place = if class == slope.top {
                    // From the largest: not p · pull − taken, which cancels where p is near 1.
                    let smoothed = slope.each * terms.class(class);
                    F::Real::from_f64((slope.pull - taken - smoothed) - slope.others)
                } else {
                    *place - F::Real::from_f64(taken)
                };
            }
            Targets::Shares(all) => {
                let shares = all.index_axis(Axis(0), row);
                for (c, (place, &share)) in slopes.iter_mut().zip(shares.iter().skip(begin)).enumerate() {
                    let taken = slope.share * terms.class(begin + c) * F::number(share).to_f64();
                    *place = *place - F::Real::from_f64(taken);
                }
            }
        }
    }

    /// The second pass over up to `ROWS` rows, or a part of them that begins at class `offset`.
    #[inline(always)]
    fn write_map(
        cpu: impl Cpu,
        (pass, scratch, map, first, offset, mut out, seconds): Written<'_, 'q, '_, '_, F>,
    ) {
        let (rows, width) = out.dim();
        let Scratch { stored, wide, out: result, .. } = scratch;
        wide.resize(BLOCK, F::Real::ZERO);
        result.resize(BLOCK, F::Real::ZERO);
        let mut narrow = [F::Store::default(); BLOCK];
        let given = pass.question.z.map(|z| z.slice_move(ndarray::s![first..first + rows, offset..offset + width]));
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
            pass.map_block(cpu, map, &seconds[row], F::widen(cpu, z, wide), result);
            if map == Map::Gradient {
                pass.take_target(&seconds[row].slope, first + row, offset + begin, result);
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
    fn map_block(&self, cpu: impl Cpu, map: Map, second: &Second<F::Real>, z: &[F::Real], to: &mut [F::Real]) {
        let scale = &self.scale;
        match map {
            Map::LogSoftmax => {
                for (to, &z) in to.iter_mut().zip(z) {
                    *to = (z - second.max) * scale.inverse - second.above;
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
        let mut found = Found::<F::Real, 1>::new();
        found.set(0, mass);
        let mut finished = Finished::new();
        pass.finish::<1>(cpu, &found, row, 1, z, &mut finished, map == Map::Gradient);
        write_numbers::<F, SPREAD, 1>(cpu, numbers, row, 1, z, &found, &finished);
        let [slope] = pass.slopes(1, &found, &finished);
        (finished.sums, pass.second(cpu, map, &found, 0, finished.above[0], slope))
    }
}

/// What is finished of some rows before their logits are read again.
struct Finished<const W: usize> {
    /// ln(1 + rest)
    above: [f64; W],
    lse: [f64; W],
    aim: [Aim; W],
    loss: [f64; W],
    sums: Sums,
}

impl<const W: usize> Finished<W> {
    fn new() -> Self {
        let (above, lse, loss) = ([0.0; W], [0.0; W], [0.0; W]);
        Self { above, lse, aim: [Aim::default(); W], loss, sums: Sums::default() }
    }
}

/// Write the numbers of each row.
#[inline(always)]
fn write_numbers<F: Format, const SPREAD: bool, const W: usize>(
    cpu: impl Cpu,
    numbers: &mut Numbers<'_, F::Store>,
    first: usize,
    count: usize,
    z: &ArrayView2<'_, F::Store>,
    found: &Found<F::Real, W>,
    rows: &Finished<W>,
) {
    let here = first..first + count;
    if let Some(out) = &mut numbers.lse {
        put::<F, W>(cpu, &mut out[here.clone()], |i| F::Real::from_f64(rows.lse[i]));
    }
    if let Some(out) = &mut numbers.loss {
        put::<F, W>(cpu, &mut out[here.clone()], |i| F::Real::from_f64(rows.loss[i]));
    }
    if let (true, Some(out)) = (SPREAD, &mut numbers.entropy) {
        put::<F, W>(cpu, &mut out[here.clone()], |i| {
            F::Real::from_f64(rows.above[i] + found.spread[i] / (1.0 + found.rest[i]))
        });
    }
    if numbers.at.is_none() && numbers.max.is_none() {
        return;
    }
    let (mut at, mut max) = (found.at.map(i64::from), found.max);
    for i in (0..count).filter(|&i| found.rest[i].is_nan()) {
        // The largest of a row with NaN is NaN, as NumPy has it.
        #[allow(clippy::eq_op)]
        let nan = z.index_axis(Axis(0), i).iter().position(|&z| F::number(z) != F::number(z));
        if let Some(nan) = nan {
            (at[i], max[i]) = (nan as i64, F::Real::NAN);
        }
    }
    if let Some(out) = &mut numbers.at {
        out[here.clone()].copy_from_slice(&at[..count]);
    }
    if let Some(out) = &mut numbers.max {
        put::<F, W>(cpu, &mut out[here], |i| max[i]);
    }
}

#[inline(always)]
fn put<F: Format, const W: usize>(cpu: impl Cpu, out: &mut [F::Store], value: impl Fn(usize) -> F::Real) {
    let (mut values, mut stored) = ([F::Real::ZERO; W], [F::Store::default(); W]);
    for (i, to) in values.iter_mut().enumerate() {
        *to = value(i);
    }
    let count = out.len();
    out.copy_from_slice(&F::narrow(cpu, &values, &mut stored)[..count]);
}
