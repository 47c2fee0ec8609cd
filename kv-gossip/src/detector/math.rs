//! `exp`, `ln` and `sqrt` for `no_std`: the core library has none.
//!
//! Range reduction and a short series, good to about 1e-12 where the detectors use them; the same
//! result on every machine, because only additions, multiplications and divisions are in them.

use core::f64::consts::LN_2;

/// e^x for x in -700 to 700.
pub(super) fn exp(x: f64) -> f64 {
    let power = (x / LN_2) as i32;
    let rest = x - f64::from(power) * LN_2;
    let (mut term, mut sum) = (1.0, 1.0);
    for divisor in 1..20 {
        term *= rest / f64::from(divisor);
        sum += term;
    }
    sum * power_of_two(power)
}

/// The natural logarithm of a normal, positive x.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1_023 << 52));
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let (mut term, mut sum) = (ratio, 0.0);
    for odd in (1..40).step_by(2) {
        sum += term / f64::from(odd);
        term *= square;
    }
    2.0 * sum + (exponent as f64 - 1_023.0) * LN_2
}

/// The square root of x, by Newton's method; 0 for what has none.
pub(super) fn sqrt(x: f64) -> f64 {
    if x <= 0.0 || !x.is_finite() {
        return 0.0;
    }
    // Half the exponent is within a factor of two of the root.
    let mut root = f64::from_bits((x.to_bits() >> 1) + (511 << 52) + (1 << 51));
    for _ in 0..6 {
        root = f64::midpoint(root, x / root);
    }
    root
}

fn power_of_two(power: i32) -> f64 {
    let exponent = u64::try_from(power + 1_023).unwrap_or(0).min(2_046);
    f64::from_bits(exponent << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, exact: f64) -> bool {
        (found - exact).abs() <= 1e-12 * exact.abs().max(1.0)
    }

    #[test]
    fn all_three_are_close_to_std() {
        for step in -600..600 {
            let x = f64::from(step) / 10.0;
            assert!(close(exp(x) / x.exp(), 1.0), "exp {x}");
            let positive = x.exp();
            assert!(close(ln(positive), positive.ln()), "ln {positive}");
            assert!(close(sqrt(positive) / positive.sqrt(), 1.0), "sqrt {positive}");
        }
        assert!(sqrt(0.0).abs() < f64::EPSILON);
        assert!(sqrt(-1.0).abs() < f64::EPSILON);
    }
}
