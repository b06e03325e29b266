//! exp and ln of our own, lanes, and the dispatch by CPU feature.
//!
//! Every function is written once, in plain arithmetic over fixed lanes, and
//! compiled for several levels of CPU. Multiplication and addition are never
//! fused and sums follow one tree of `LANES`, so every level gives the same bits.

use std::sync::OnceLock;

/// Virtual lanes of every reduction, whatever the CPU has.
pub const LANES: usize = 16;

/// What the CPU can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every CPU of the architecture can do.
    Portable,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW, DQ.
    Avx512,
}

/// The level in use: the CPU's best, or what `LOGITEXT_SIMD` (portable, avx2, avx512) allows.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let asked = match std::env::var("LOGITEXT_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        asked.min(best())
    })
}

#[cfg(target_arch = "x86_64")]
fn best() -> Level {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    if avx512 {
        Level::Avx512
    } else if is_x86_feature_detected!("avx2") {
        Level::Avx2
    } else {
        Level::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best() -> Level {
    Level::Portable
}

/// Run a closure compiled for the CPU at hand. All it calls in its inner loops
/// must be `#[inline(always)]` to be compiled for that level, too.
#[inline]
pub fn dispatch<R>(level: Level, run: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(run: impl FnOnce() -> R) -> R {
            run()
        }
        #[target_feature(enable = "avx2,avx512f,avx512vl,avx512bw,avx512dq")]
        fn avx512<R>(run: impl FnOnce() -> R) -> R {
            run()
        }
        match level.min(best()) {
            // SAFETY: `best` has seen that the CPU has these features.
            Level::Avx512 => return unsafe { avx512(run) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { avx2(run) },
            Level::Portable => {}
        }
    }
    let _ = level;
    run()
}

/// Ask for the cache line at `slice[index]` ahead of its use; out of range is ignored.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if index < slice.len() {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is inside the slice, and a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().add(index).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}

/// A float the kernels compute in.
pub trait Real: Copy + PartialOrd + Send + Sync + 'static {
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// −∞
    const LOW: Self;
    /// Not a number.
    const NAN: Self;
    /// a + b
    fn plus(self, other: Self) -> Self;
    /// a − b
    fn minus(self, other: Self) -> Self;
    /// a · b
    fn times(self, other: Self) -> Self;
    /// a / b
    fn over(self, other: Self) -> Self;
    /// eˣ, for x ≤ 0 or −∞ or NaN; below 1 ULP.
    fn exp(self) -> Self;
    /// ln x.
    fn ln(self) -> Self;
    /// ln(1 + x) for x ≥ 0.
    fn ln_1p(self) -> Self;
    /// Neither infinite nor NaN.
    fn finite(self) -> bool;
}

/// Taylor coefficients 1/k! of eʳ, highest first.
const fn inverse_factorials<const N: usize>() -> [f64; N] {
    let mut all = [1.0; N];
    let mut k = 1;
    let mut factorial = 1.0;
    while k < N {
        factorial *= k as f64;
        all[N - 1 - k] = 1.0 / factorial;
        k += 1;
    }
    all
}

/// eʳ by Taylor's series for |r| ≤ ln 2 / 2: `N` terms.
#[inline(always)]
fn exp_series<const N: usize>(r: f64) -> f64 {
    let coefficients = const { inverse_factorials::<N>() };
    coefficients.iter().fold(0.0, |sum, &c| sum * r + c)
}

/// 2ⁿ · y in two steps, so that subnormal results are right.
#[inline(always)]
fn scale_by_power_of_two(y: f64, n: f64) -> f64 {
    let n = n as i64;
    let half = n >> 1;
    let power = |k: i64| f64::from_bits(((k + 1023) as u64) << 52);
    y * power(half) * power(n - half)
}

/// Adding this rounds a double below 2⁵¹ to a whole number.
const ROUND: f64 = 6_755_399_441_055_744.0;
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

#[inline(always)]
fn exp_f64(x: f64) -> f64 {
    let clamped = x.clamp(-746.0, 710.0);
    let n = clamped * std::f64::consts::LOG2_E + ROUND - ROUND;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    scale_by_power_of_two(exp_series::<14>(r), n)
}

/// ln m for m in [√½, √2) by atanh's series, plus the exponent's share.
#[inline(always)]
fn ln_f64(x: f64) -> f64 {
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

macro_rules! real {
    ($type:ty, $exp:expr, $ln_1p:expr) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOW: Self = <$type>::NEG_INFINITY;
            const NAN: Self = <$type>::NAN;
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn over(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                ln_f64(f64::from(self)) as $type
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $ln_1p(self)
            }
            #[inline(always)]
            fn finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

/// Cephes' expf: the shifted argument in two parts of ln 2, six terms.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    let clamped = x.clamp(-104.0, 88.8);
    let n = clamped * std::f32::consts::LOG2_E + 12_582_912.0 - 12_582_912.0;
    let r = (clamped - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let y = p * r * r + r + 1.0;
    let n = n as i32;
    let half = n >> 1;
    let power = |k: i32| f32::from_bits(((k + 127) as u32) << 23);
    y * power(half) * power(n - half)
}

#[inline(always)]
fn ln_1p_f64(x: f64) -> f64 {
    // ln(1 + x) · x / ((1 + x) − 1): the rounding of 1 + x cancels (Kahan).
    let u = 1.0 + x;
    if u == 1.0 {
        x
    } else if u == f64::INFINITY {
        u
    } else {
        ln_f64(u) * (x / (u - 1.0))
    }
}

real!(f32, exp_f32, |x: f32| ln_1p_f64(f64::from(x)) as f32);
real!(f64, exp_f64, ln_1p_f64);

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(got: f64, want: f64) -> f64 {
        (got - want).abs() / (f64::from_bits(want.abs().to_bits() + 1) - want.abs())
    }

    #[test]
    fn exp_and_ln_are_near_the_libms() {
        let mut x = -740.0;
        while x < 1.0 {
            let want: f64 = f64::exp(x);
            assert!(ulps(Real::exp(x), want) <= 2.0 || (Real::exp(x) - want).abs() < 1e-320, "{x}");
            let narrow = x as f32 / 8.0;
            let want = f64::from(narrow).exp();
            let got = f64::from(Real::exp(narrow));
            assert!((got - want).abs() <= 1.3e-7 * want + 2e-45, "{narrow}: {got} {want}");
            x += 0.01;
        }
        assert_eq!(Real::exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(0.0f32), 1.0);
        assert!(Real::exp(f32::NAN).is_nan() && Real::exp(f64::NAN).is_nan());
        let mut x = 1e-310;
        while x < 1e300 {
            assert!(ulps(Real::ln(x), f64::ln(x)) <= 2.0, "{x} {} {}", Real::ln(x), f64::ln(x));
            assert!(ulps(Real::ln_1p(x), f64::ln_1p(x)) <= 3.0, "{x}");
            x *= 1.37;
        }
        assert_eq!(Real::ln(1.0f64), 0.0);
        assert_eq!(Real::ln(0.0f64), f64::NEG_INFINITY);
        assert_eq!(Real::ln(f64::INFINITY), f64::INFINITY);
        assert!(Real::ln(-1.0f64).is_nan() && Real::ln(f64::NAN).is_nan());
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f32> = (0..4096).map(|i| -(i as f32) * 0.0217).collect();
        let run = |level| dispatch(level, || x.iter().map(|&x| Real::exp(x).to_bits()).collect::<Vec<_>>());
        assert_eq!(run(Level::Portable), run(Level::Avx2));
        assert_eq!(run(Level::Portable), run(Level::Avx512));
    }
}
