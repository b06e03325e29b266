//! The numbers the kernels compute in, and exp and ln of our own.
//!
//! `exp` is built for rows of logits. What is wanted there is exp((z − a) / T)
//! for all z of a row with the largest logit a, and z − a would be rounded. So
//! nothing is subtracted from the argument but multiples of ln 2, exactly
//! (Cody & Waite 1980), and the result comes in units of a power of two that
//! suits the row: see `Unit`.

use crate::simd::Cpu;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A float the kernels compute in.
pub trait Real:
    Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// −∞
    const LOW: Self;
    /// Not a number.
    const NAN: Self;
    /// Adding this rounds to a whole number, which then stands in the last bits.
    const ROUND: Self;
    /// The exponent field of the unit in which a row's exponentials are summed: 2⁻⁶⁴ and
    /// 2⁻⁵¹² of the largest are then far from being subnormal. Even: half-way between two whole
    /// numbers, rounding goes the same way with and without it.
    const UNIT: Self;
    /// 2 to minus the exponent that `UNIT` is the field of.
    const PER_UNIT: f64;
    /// Double precision is not wide enough to add up many of these: what it rounds is kept.
    const KEEPS_LOST: bool;
    /// Beyond this many nats, logits within reach of the largest differ from it exactly.
    const MODERATE: Self;

    /// What added to the largest number is not infinite.
    const FAR: Self;

    /// A sum in this precision, rounded once.
    fn from_f64(value: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// a · b + c; one rounding in single precision, two in double.
    fn multiply_add(cpu: impl Cpu, a: Self, b: Self, c: Self) -> Self;
    /// Neither infinite nor NaN.
    fn finite(self) -> bool;
    /// NaN
    fn is_nan(self) -> bool;
    /// The number; any NaN as the one that `NAN` is. By its bits: a compiler may think that
    /// whatever NaN arithmetic made will do.
    fn with_one_nan(self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// T ln 2 in two parts; a multiple of the first by any exponent is exact.
    fn octave(temperature: f64) -> (Self, Self);
    /// ROUND + UNIT + n → 2ⁿ in `Unit`s.
    fn power_of_two(self) -> Self;
    /// eʳ, r = (x − n · hi − n · lo) / T within ± ln 2 / 2; error about half an ULP.
    fn exp_reduced(cpu: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> Self;
    /// eʳ − 1 of the same r, more precise than eʳ can be.
    fn exp_reduced_less_1(cpu: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> Self;
    /// e⁻ʳ of the same r in two parts, for `join_inverse`.
    fn exp_reduced_inverse(cpu: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> (Self, Self);
    /// e⁻ʳ to well below the precision of `Self`.
    fn join_inverse(parts: (Self, Self), scale: &Scale<Self>) -> f64;
    /// ln(1 + s) for each s ≥ 0, to the precision of `Self` and a little more.
    fn log1p<const W: usize>(cpu: impl Cpu, s: &[f64; W]) -> [f64; W];
    /// Rows to columns, four by four.
    fn transpose(rows: [[Self; 4]; 4]) -> [[Self; 4]; 4];
    /// u / total, at most 1 if u ≤ total.
    fn share(cpu: impl Cpu, u: Self, total: Divisor<Self>) -> Self;
    /// To divide by `total`.
    fn divisor(total: f64) -> Divisor<Self>;
}

/// What `Real::share` divides by: 1 / total in two parts, or total itself.
#[derive(Clone, Copy)]
pub struct Divisor<T>(pub T, pub T);

/// Constants of exp(z / T).
#[derive(Clone, Copy)]
pub struct Scale<T> {
    /// (eʳ − 1 − r) / r² as a polynomial in r T, lowest power first.
    series: [T; 5],
    /// log₂ e / T
    pub octaves: T,
    /// T ln 2, in two parts.
    hi: T,
    lo: T,
    /// 1 / T
    pub inverse: T,
    /// 1 / T
    pub coolness: f64,
}

impl<T: Real> Scale<T> {
    /// For a temperature from 2⁻¹⁶ to 2¹⁶.
    pub fn new(temperature: f64) -> Self {
        let (hi, lo) = T::octave(temperature);
        let series = std::array::from_fn(|k| {
            // By multiplications: not every library's power is the same to the bit.
            let power = (0..k + 2).fold(1.0, |power, _| power * temperature);
            T::from_f64(EXP_32[k] / power)
        });
        Self {
            series,
            octaves: T::from_f64(std::f64::consts::LOG2_E / temperature),
            hi,
            lo,
            inverse: T::from_f64(1.0 / temperature),
            coolness: 1.0 / temperature,
        }
    }
}

impl<T: Real> Scale<T> {
    /// (z − max) / T. Where that difference might overflow, logits are divided first.
    #[inline(always)]
    pub fn below(&self, z: T, max: T, far: bool) -> T {
        if far { z * self.inverse - max * self.inverse } else { (z - max) * self.inverse }
    }

    /// Whether differences from `max` may be too large a number.
    #[inline(always)]
    pub fn far(max: T) -> bool {
        max.abs() > T::FAR
    }
}

/// The unit of a row's exponentials: exp(base / T) · 2ⁿ⁻ᵁ, near exp of its largest logit.
///
/// `base` is 0 while the largest logit is moderate: subtracting it would round. Where
/// it is not, the difference is exact for all that counts, and `base` is the largest itself.
#[derive(Clone, Copy)]
pub struct Unit<T> {
    /// What is subtracted.
    pub base: T,
    /// ROUND + UNIT − n.
    pub magic: T,
    /// From here down an exponential is 0 in this unit.
    pub low: T,
}

impl<T: Real> Unit<T> {
    /// Of no row yet.
    pub const NONE: Self = Self { base: T::ZERO, magic: T::ZERO, low: T::ZERO };

    /// For a row whose largest logit is `max`.
    #[inline(always)]
    pub fn new(cpu: impl Cpu, scale: &Scale<T>, max: T) -> Self {
        let moderate = (max * scale.inverse).abs() < T::MODERATE;
        let base = if moderate { T::ZERO } else { max };
        let n = T::multiply_add(cpu, max - base, scale.octaves, T::ROUND) - T::ROUND;
        let last = n - T::UNIT;
        Self { base, magic: T::ROUND - last, low: last * (scale.hi + scale.lo) }
    }

    /// (x, n) with exp((z − base) / T) = 2ⁿ eʳ, and 2ⁿ in this unit.
    #[inline(always)]
    fn reduce(&self, cpu: impl Cpu, scale: &Scale<T>, z: T) -> (T, T, T) {
        let x = z - self.base;
        // Written so that NaN passes.
        let x = if x < self.low { self.low } else { x };
        let y = T::multiply_add(cpu, x, scale.octaves, self.magic);
        (x, y - self.magic, y.power_of_two())
    }

    /// exp((z − base) / T) in this unit, for z up to the row's largest.
    #[inline(always)]
    pub fn exp(&self, cpu: impl Cpu, scale: &Scale<T>, z: T) -> T {
        let (x, n, power) = self.reduce(cpu, scale, z);
        T::exp_reduced(cpu, x, n, scale) * power
    }

    /// exp((z − base) / T) in this unit, and (max − z) / T, which is finite for z = −∞, too.
    #[inline(always)]
    pub fn exp_and_depth(&self, cpu: impl Cpu, scale: &Scale<T>, max: T, z: T) -> (T, T) {
        let (x, n, power) = self.reduce(cpu, scale, z);
        (T::exp_reduced(cpu, x, n, scale) * power, (max - self.base - x) * scale.inverse)
    }

    /// The exponential in two parts, the first a power of two; and (max − z) / T.
    #[inline(always)]
    pub fn exp_in_parts(&self, cpu: impl Cpu, scale: &Scale<T>, max: T, z: T) -> (T, T, T) {
        let (x, n, power) = self.reduce(cpu, scale, z);
        let part = T::exp_reduced_less_1(cpu, x, n, scale) * power;
        (power, part, (max - self.base - x) * scale.inverse)
    }

    /// The row's whole mass in this unit, to divide by; `rest` counts from exp(max / T).
    ///
    /// It is made of the same exponential of the largest that the others are divided with,
    /// so that no share exceeds 1.
    #[inline(always)]
    pub fn total(&self, cpu: impl Cpu, scale: &Scale<T>, max: T, rest: f64) -> f64 {
        self.exp(cpu, scale, max).to_f64() + rest / self.per_max(cpu, scale, max)
    }

    /// What turns a sum in this unit into a multiple of exp(max / T).
    #[inline(always)]
    pub fn per_max(&self, cpu: impl Cpu, scale: &Scale<T>, max: T) -> f64 {
        T::join_inverse(self.per_max_parts(cpu, scale, max), scale) * T::PER_UNIT
    }

    /// The same in two parts, for `Real::join_inverse`, and per 1 of `PER_UNIT`.
    #[inline(always)]
    pub fn per_max_parts(&self, cpu: impl Cpu, scale: &Scale<T>, max: T) -> (T, T) {
        let (x, n, _) = self.reduce(cpu, scale, max);
        T::exp_reduced_inverse(cpu, x, n, scale)
    }
}

/// 1.5 · 2²³ and 1.5 · 2⁵².
const ROUND_32: f32 = 12_582_912.0;
const ROUND_64: f64 = 6_755_399_441_055_744.0;
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// (eʳ − 1 − r) / r² on ± 0.348: relative error of eʳ 3·10⁻⁹.
const EXP_32: [f64; 5] = [0.499_999_94, 0.166_665_18, 0.041_668_415, 0.008_369_001, 0.001_381_401_1];

/// (ln(1 + f) − f) / f² on [√½ − 1, √2 − 1]: relative error of ln(1 + f) 4·10⁻⁹.
const LN_1P_32: [f32; 9] = [
    -0.076_218_56,
    0.129_044_95,
    -0.132_429_85,
    0.141_818_14,
    -0.166_090_82,
    0.200_019_75,
    -0.250_015_83,
    0.333_333_25,
    -0.499_999_88,
];

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOW: Self = Self::NEG_INFINITY;
    const NAN: Self = Self::NAN;
    const ROUND: Self = ROUND_32;
    const UNIT: Self = 127.0 + 63.0;
    const PER_UNIT: f64 = f64::from_bits((1023 - 63) << 52);
    const KEEPS_LOST: bool = false;
    const MODERATE: Self = 256.0;
    const FAR: Self = 1e30;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn multiply_add(cpu: impl Cpu, a: Self, b: Self, c: Self) -> Self {
        cpu.fma(a, b, c)
    }

    #[inline(always)]
    fn finite(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn with_one_nan(self) -> Self {
        Self::from_bits(if self.is_nan() { Self::NAN.to_bits() } else { self.to_bits() })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    fn octave(temperature: f64) -> (Self, Self) {
        let whole = temperature * std::f64::consts::LN_2;
        // Twelve bits, which times an exponent of up to ten are no more than 24.
        let hi = Self::from_bits((whole as Self).to_bits() & !0xFFF);
        (hi, (whole - f64::from(hi)) as Self)
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self::from_bits(self.to_bits() << 23)
    }

    #[inline(always)]
    fn exp_reduced(cpu: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> Self {
        // r T: the series is one in it, so that a temperature costs nothing.
        let r = cpu.fma(-n, scale.lo, cpu.fma(-n, scale.hi, x));
        cpu.fma(cpu.fma(series_32(cpu, r, scale), r, scale.inverse), r, 1.0)
    }

    #[inline(always)]
    fn exp_reduced_less_1(cpu: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> Self {
        let r = cpu.fma(-n, scale.lo, cpu.fma(-n, scale.hi, x));
        cpu.fma(series_32(cpu, r, scale), r, scale.inverse) * r
    }

    #[inline(always)]
    fn exp_reduced_inverse(cpu: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> (Self, Self) {
        let r = -cpu.fma(-n, scale.lo, cpu.fma(-n, scale.hi, x));
        (r, series_32(cpu, r, scale) * (r * r))
    }

    #[inline(always)]
    fn join_inverse(parts: (Self, Self), scale: &Scale<Self>) -> f64 {
        // What has been rounded is small.
        1.0 + (f64::from(parts.0) * scale.coolness + f64::from(parts.1))
    }

    #[inline(always)]
    fn log1p<const W: usize>(cpu: impl Cpu, s: &[f64; W]) -> [f64; W] {
        // Three loops, each over numbers of one width.
        let (mut value, mut g) = ([0.0; W], [0.0; W]);
        for i in 0..W {
            let (k, f) = split_1p(s[i]);
            value[i] = k * std::f64::consts::LN_2 + f;
            g[i] = f as Self;
        }
        for g in &mut g {
            let q = LN_1P_32.into_iter().skip(1).fold(LN_1P_32[0], |q, c| cpu.fma(q, *g, c));
            *g = q * (*g * *g);
        }
        for i in 0..W {
            value[i] += f64::from(g[i]);
        }
        value
    }

    #[inline(always)]
    fn transpose(rows: [[Self; 4]; 4]) -> [[Self; 4]; 4] {
        crate::simd::transpose(rows)
    }

    #[inline(always)]
    fn share(cpu: impl Cpu, u: Self, total: Divisor<Self>) -> Self {
        cpu.fma(u, total.0, u * total.1)
    }

    #[inline(always)]
    fn divisor(total: f64) -> Divisor<Self> {
        let inverse = 1.0 / total;
        let hi = inverse as Self;
        Divisor(hi, (inverse - f64::from(hi)) as Self)
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOW: Self = Self::NEG_INFINITY;
    const NAN: Self = Self::NAN;
    const ROUND: Self = ROUND_64;
    const UNIT: Self = 1023.0 + 511.0;
    const PER_UNIT: f64 = f64::from_bits((1023 - 511) << 52);
    const KEEPS_LOST: bool = true;
    const MODERATE: Self = 2048.0;
    const FAR: Self = 1e290;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn multiply_add(_: impl Cpu, a: Self, b: Self, c: Self) -> Self {
        a * b + c
    }

    #[inline(always)]
    fn finite(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn with_one_nan(self) -> Self {
        Self::from_bits(if self.is_nan() { Self::NAN.to_bits() } else { self.to_bits() })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    fn octave(temperature: f64) -> (Self, Self) {
        // ln 2 to 85 bits times T, which is split so that each product is exact.
        let t = Self::from_bits(temperature.to_bits() & !0xFFF_FFFF);
        let tail = (temperature - t) * std::f64::consts::LN_2 + t * LN_2_LOW;
        let head = t * LN_2_HIGH;
        let error = t.mul_add(LN_2_HIGH, -head);
        let hi = Self::from_bits((head + tail).to_bits() & !0xFFFF);
        (hi, (head - hi) + (error + tail))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self::from_bits(self.to_bits() << 52)
    }

    #[inline(always)]
    fn exp_reduced(_: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> Self {
        let (r, low) = reduced_64(x, n, scale);
        exp_64(r, low)
    }

    #[inline(always)]
    fn exp_reduced_less_1(_: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> Self {
        let (r, low) = reduced_64(x, n, scale);
        r + (low + r * r * series_64(r))
    }

    #[inline(always)]
    fn exp_reduced_inverse(_: impl Cpu, x: Self, n: Self, scale: &Scale<Self>) -> (Self, Self) {
        let (r, low) = reduced_64(x, n, scale);
        (exp_64(-r, -low), 0.0)
    }

    #[inline(always)]
    fn join_inverse(parts: (Self, Self), _: &Scale<Self>) -> f64 {
        parts.0
    }

    #[inline(always)]
    fn log1p<const W: usize>(_: impl Cpu, s: &[f64; W]) -> [f64; W] {
        let mut value = *s;
        for value in &mut value {
            *value = ln_1p_f64(*value);
        }
        value
    }

    #[inline(always)]
    fn transpose(rows: [[Self; 4]; 4]) -> [[Self; 4]; 4] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }

    #[inline(always)]
    fn share(_: impl Cpu, u: Self, total: Divisor<Self>) -> Self {
        u / total.0
    }

    #[inline(always)]
    fn divisor(total: f64) -> Divisor<Self> {
        Divisor(total, 0.0)
    }
}

/// By pairs rather than from the highest power down: fewer steps wait for one another.
#[inline(always)]
fn series_32(cpu: impl Cpu, r: f32, scale: &Scale<f32>) -> f32 {
    let [c2, c3, c4, c5, c6] = scale.series;
    let square = r * r;
    let high = cpu.fma(c6, square, cpu.fma(c5, r, c4));
    cpu.fma(high, square, cpu.fma(c3, r, c2))
}

/// r and what it lacks.
#[inline(always)]
fn reduced_64(x: f64, n: f64, scale: &Scale<f64>) -> (f64, f64) {
    let head = x - n * scale.hi;
    let small = n * scale.lo;
    let r = head - small;
    let low = (head - r) - small;
    (r * scale.inverse, low * scale.inverse)
}

/// 1/k! for k from 13 down to 2.
const EXP_64: [f64; 12] = {
    let mut all = [1.0; 12];
    let (mut k, mut factorial) = (2, 1.0);
    while k <= 13 {
        factorial *= k as f64;
        all[13 - k] = 1.0 / factorial;
        k += 1;
    }
    all
};

/// (eʳ − 1 − r) / r²
#[inline(always)]
fn series_64(r: f64) -> f64 {
    EXP_64.into_iter().skip(1).fold(EXP_64[0], |q, c| q * r + c)
}

/// e^(r + low) for |r| ≤ ln 2 / 2: 1 + r is kept in two parts, so half an ULP and a little.
#[inline(always)]
fn exp_64(r: f64, low: f64) -> f64 {
    let head = 1.0 + r;
    let tail = r - (head - 1.0);
    head + (tail + (low + r * r * series_64(r)))
}

/// (k, f) with 1 + s = 2ᵏ (1 + f) and f in [√½ − 1, √2 − 1), f to a relative precision.
#[inline(always)]
fn split_1p(s: f64) -> (f64, f64) {
    // √½'s bits split the binade where 1 + f must change sides of 1. 1 + s ≥ 1, so k ≥ 0.
    let k = (1.0 + s).to_bits().wrapping_sub(0x3FE6_A09E_667F_3BCD) >> 52;
    let power = f64::from_bits(1023u64.wrapping_sub(k) << 52);
    // The bits of 2⁵² + k.
    let whole = f64::from_bits(k | 0x4330_0000_0000_0000) - 4_503_599_627_370_496.0;
    (whole, s * power + (power - 1.0))
}

/// ln(1 + s) for s ≥ 0, within an ULP: the series of atanh, in the form of fdlibm's log1p.
#[inline(always)]
fn ln_1p_f64(s: f64) -> f64 {
    let (k, f) = split_1p(s);
    let power = f64::from_bits(1023u64.wrapping_sub(k as u64) << 52);
    // What rounding took from f.
    let (a, b) = (s * power, power - 1.0);
    let part = f - a;
    let lost = ((a - (f - part)) + (b - part)) / (1.0 + f);
    let t = f / (2.0 + f);
    let q = t * t;
    let mut series = 0.0;
    let mut i = 23;
    while i >= 3 {
        series = series * q + 2.0 / i as f64;
        i -= 2;
    }
    let half_square = 0.5 * f * f;
    let tail = half_square - (t * (half_square + series * q) + (k * LN_2_LOW + lost));
    if s < f64::INFINITY { k * LN_2_HIGH - (tail - f) } else { s }
}

/// ln x of a positive number, 0 or infinity.
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    // Subnormals are brought into range first.
    let (x, offset) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, -54.0) } else { (x, 0.0) };
    let bits = x.to_bits();
    // √½'s bits split the binade where m must change sides of 1.
    let shifted = bits.wrapping_sub(0x3FE6_A09E_667F_3BCD);
    let exponent = (shifted as i64 >> 52) as f64 + offset;
    let m = f64::from_bits(bits.wrapping_sub(shifted & 0xFFF0_0000_0000_0000));
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let mut series = 0.0;
    let mut k = 23;
    while k >= 3 {
        series = series * q + 1.0 / k as f64;
        k -= 2;
    }
    let ln_m = 2.0 * s + 2.0 * s * q * series;
    let value = exponent * LN_2_HIGH + (ln_m + exponent * LN_2_LOW);
    if x > 0.0 && x < f64::INFINITY {
        value
    } else if x == 0.0 {
        f64::NEG_INFINITY
    } else if x == f64::INFINITY {
        x
    } else {
        f64::NAN
    }
}

/// eˣ of any number; below 1 ULP where the result is not subnormal.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    // Two steps to the power of two, so that subnormal results are right.
    let clamped = if x < -746.0 { -746.0 } else { x };
    let clamped = if clamped > 710.0 { 710.0 } else { clamped };
    let n = clamped * std::f64::consts::LOG2_E + ROUND_64 - ROUND_64;
    let (head, small) = (clamped - n * LN_2_HIGH, n * LN_2_LOW);
    let r = head - small;
    let y = exp_64(r, (head - r) - small);
    let n = n as i64;
    let half = n >> 1;
    let power = |k: i64| f64::from_bits(((k + 1023) as u64) << 52);
    y * power(half) * power(n - half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;
    use crate::simd::Level::{Avx2, Avx512, Portable};
    use crate::simd::dispatch;

    /// Distance in units in the last place of `want`.
    fn ulps(got: f64, want: f64) -> f64 {
        (got - want).abs() / (f64::from_bits(want.abs().to_bits() + 1) - want.abs())
    }

    type Given<'a, T> = (&'a [T], T, f64);
    kernel!(Exps<'a; T: Real;>(Given<'a, T>) -> Vec<f64> = exps);

    /// exp((z − max) / T), by the unit of `max`.
    fn exps<T: Real>(cpu: impl Cpu, (all, max, temperature): Given<'_, T>) -> Vec<f64> {
        let scale = Scale::new(temperature);
        let unit = Unit::new(cpu, &scale, max);
        let per_max = unit.per_max(cpu, &scale, max);
        all.iter().map(|&z| unit.exp(cpu, &scale, z).to_f64() * per_max).collect()
    }

    #[test]
    fn exponentials_are_those_of_the_difference_however_it_would_round() {
        for temperature in [1.0, 0.3, 7.0, 1000.0] {
            for max in [0.01f32, 0.0, -3.3, 200.0, -250.0, 255.9, 300.0, -1e5] {
                let max = max * temperature as f32;
                let all: Vec<f32> =
                    (0..2000).map(|i| max - i as f32 * 0.043_7 * temperature as f32).collect();
                for (got, &z) in dispatch(Avx512, Exps((&all, max, temperature))).into_iter().zip(&all) {
                    let want: f64 = ((f64::from(z) - f64::from(max)) / temperature).exp();
                    assert!((got / want - 1.0).abs() < 1e-7, "T {temperature} max {max} z {z}: {got} {want}");
                }
            }
        }
        let all: Vec<f64> = (0..2000).map(|i| 2.0 - f64::from(i) * 0.25).collect();
        for (got, &z) in dispatch(Portable, Exps((&all, 2.0, 1.0))).into_iter().zip(&all) {
            assert!(ulps(got, (z - 2.0).exp()) <= 3.0, "{z}");
        }
    }

    #[test]
    fn what_is_masked_is_nothing_and_nan_stays() {
        let all = [f32::NEG_INFINITY, -1e30, f32::NAN, 1.0];
        let got = dispatch(Portable, Exps((&all, 1.0, 1.0)));
        assert_eq!((got[0], got[1], got[2].is_nan()), (0.0, 0.0, true));
        assert!((got[3] - 1.0).abs() < 1e-7);
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let all: Vec<f32> = (0..4096).map(|i| i as f32 * -0.0217).collect();
        let run = |level| dispatch(level, Exps((&all, 0.0, 1.0)));
        assert_eq!(run(Portable), run(Avx2));
        assert_eq!(run(Portable), run(Avx512));
    }

    type Sums<'a> = &'a [f64; 64];
    kernel!(Logs<'a; T: Real;>((Sums<'a>, std::marker::PhantomData<T>)) -> [f64; 64] = |cpu, (s, _)| T::log1p(cpu, s));

    #[test]
    fn logarithms_are_near_the_librarys() {
        let mut s = 1e-310;
        while s < 1e300 {
            let many: [f64; 64] = std::array::from_fn(|i| s * (1.0 + i as f64 / 64.0));
            let single = dispatch(Avx2, Logs::<f32>((&many, Default::default())));
            let double = dispatch(Avx2, Logs::<f64>((&many, Default::default())));
            for i in 0..64 {
                let want = f64::ln_1p(many[i]);
                assert!((single[i] / want - 1.0).abs() < 4e-8, "{}: {} {want}", many[i], single[i]);
                assert!(ulps(double[i], want) <= 1.5, "{}: {} {want}", many[i], double[i]);
            }
            assert!(ulps(ln(s), s.ln()) <= 2.0, "{s}");
            s *= 1.37;
        }
        let mut x = -740.0;
        while x < 700.0 {
            assert!(ulps(exp(x), f64::exp(x)) <= 1.0 || (exp(x) - f64::exp(x)).abs() < 1e-320, "{x}");
            x += 0.037;
        }
        assert_eq!((ln(1.0), ln(0.0), exp(f64::NEG_INFINITY), exp(0.0)), (0.0, f64::NEG_INFINITY, 0.0, 1.0));
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan() && exp(f64::NAN).is_nan());
    }
}
