//! Numbers in units that people read. The spaces do not break.

use crate::{
    study::Measure,
    text::{number, quantity},
};

const NO_BREAK: char = '\u{a0}';

/// Bytes: `128 MiB`, `7.57 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Things that are counted, such as parameters: `45.8 k`, `1.24 B`.
pub(super) fn count(count: u64) -> String {
    scaled(count as f64, 1000.0, &["", "k", "M", "B", "T"]).trim_end().to_owned()
}

/// Many things of any number, such as sequences of a space: `64`, `4.29 B`, `7.9e28`.
pub(super) fn many(count: u128) -> String {
    match count {
        0..=9_999 => count.to_string(),
        10_000..=999_999_999_999_999 => self::count(count as u64),
        _ => format!("{:.1e}", count as f64),
    }
}

/// Floating-point operations: `15.4 TFLOP`.
pub(super) fn flops(flops: f64) -> String {
    scaled(flops, 1000.0, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"])
}

/// A cost of a model at the target's size, by its name among [`TargetCosts`](crate::extrapolate::TargetCosts).
pub(super) fn target_cost(name: &str, value: f64) -> String {
    match name {
        // What is not known is no count.
        _ if !value.is_finite() || value < 0.0 => quantity(value),
        "parameters" | "active_parameters" => count(value as u64),
        "work" => flops(value),
        "cache" => bytes(value as u64),
        "prefill" | "decode" => scaled(1e6 * value, 1000.0, &["µs", "ms", "s"]),
        _ => quantity(value),
    }
}

/// The name of a measure for an axis: with its unit, if it is such a cost.
pub(super) fn axis_name(measure: &Measure) -> String {
    let unit = match measure {
        Measure::Score(_) => None,
        Measure::Cost(name) => match name.as_str() {
            "work" => Some("FLOPs per token"),
            "cache" => Some("bytes"),
            "prefill" | "decode" => Some("seconds"),
            _ => None,
        },
    };
    unit.map_or_else(|| measure.name().into(), |unit| format!("{}, {unit}", measure.name()))
}

/// From one end to the other, or the one text that both ends are.
pub(super) fn range(low: String, high: String) -> String {
    if low == high { low } else { format!("{low} to {high}") }
}

/// Seconds: `0.4 s`, `12 s`, `6 min 4 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    const LONGEST: f64 = 1e6 * DAY;
    let whole = seconds.round();
    let pair = |large: f64, [name, rest]: [&str; 2], small: f64| {
        let first = (whole / large).floor();
        let second = ((whole - first * large) / small).floor();
        if second > 0.0 {
            format!("{first}{NO_BREAK}{name}{NO_BREAK}{second}{NO_BREAK}{rest}")
        } else {
            format!("{first}{NO_BREAK}{name}")
        }
    };
    match whole {
        _ if seconds.is_nan() || seconds < 0.0 => number(seconds, 1) + "\u{a0}s",
        _ if seconds < 9.95 => number(seconds, 1) + "\u{a0}s",
        whole if whole < 60.0 => format!("{whole}{NO_BREAK}s"),
        whole if whole < 3600.0 => pair(60.0, ["min", "s"], 1.0),
        whole if whole < DAY => pair(3600.0, ["h", "min"], 60.0),
        whole if whole < LONGEST => pair(DAY, ["d", "h"], 3600.0),
        whole => number(whole / DAY, 0) + "\u{a0}d",
    }
}

/// A number with its sign: `+0.0070`, `-0.0070`.
pub(super) fn signed(value: f64, digits: usize) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    // No minus before a zero.
    sign.to_owned() + &number(value + 0.0, digits)
}

/// Three digits in the largest unit of which there is one.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut rest = value;
    let mut at = 0;
    // What would be rounded to a whole next unit is one.
    while rest.abs() >= step - 0.5 && at + 1 < units.len() {
        rest /= step;
        at += 1;
    }
    let digits = match rest.abs() {
        _ if rest.fract() == 0.0 => 0,
        rest if rest < 9.995 => 2,
        rest if rest < 99.95 => 1,
        _ => 0,
    };
    format!("{}{NO_BREAK}{}", number(rest, digits), units[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_unit_that_suits_them() {
        let plain = |text: String| text.replace(NO_BREAK, " ");
        assert_eq!(
            [0, 512, 32_768, 134_217_728, 8_133_025_792].map(bytes).map(plain),
            ["0 bytes", "512 bytes", "32 KiB", "128 MiB", "7.57 GiB"]
        );
        assert_eq!(
            [7, 45_800, 999_999, 973_144_064, 1_235_814_400].map(count).map(plain),
            ["7", "45.8 k", "1.00 M", "973 M", "1.24 B"]
        );
        assert_eq!(
            [1.536e13, 0.0, 1e300].map(flops).map(plain),
            ["15.4 TFLOP", "0 FLOP", "1e279 ZFLOP"].map(String::from)
        );
        let costs =
            [("parameters", 45_800.0), ("cache", 0.0), ("decode", 0.0125), ("work", 2.5e9), ("cache", f64::NAN)];
        assert_eq!(
            costs.map(|(name, value)| target_cost(name, value)).map(plain),
            ["45.8 k", "0 bytes", "12.5 ms", "2.50 GFLOP", "-"]
        );
        assert_eq!(
            [Measure::cost("cache"), Measure::cost("mine"), Measure::score("cache")].map(|measure| axis_name(&measure)),
            ["cache, bytes", "mine", "cache"]
        );
        assert_eq!(range("1".into(), "1".into()) + &range("1".into(), "2".into()), "11 to 2");
        assert_eq!([64, 1 << 32, 1 << 96].map(many).map(plain), ["64", "4.29 B", "7.9e28"]);
        assert_eq!(
            [0.42, 7.2, 9.97, 59.6, 364.0, 3600.0, 7530.0, 273_600.0, 1e308, -1.0].map(duration).map(plain),
            ["0.4 s", "7.2 s", "10 s", "1 min", "6 min 4 s", "1 h", "2 h 5 min", "3 d 4 h", "1e303 d", "-1.0 s"]
        );
        assert_eq!([0.007, -0.007, -0.0].map(|value| signed(value, 4)), ["+0.0070", "-0.0070", "0.0000"]);
    }
}
