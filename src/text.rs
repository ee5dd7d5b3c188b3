//! Escaping and formatting of text and numbers for display: one function per output format.
//!
//! Error messages, names and scores from users, evaluators and files may contain anything: markup, formulas, terminal
//! escape sequences, ten thousand characters, 1e308. Use [`line`](fn@line) for terminals and logs, [`markdown`] for
//! Markdown tables, and [`number`] or [`quantity`] for numbers.

use std::{any::Any, borrow::Cow, error::Error};

/// Maximum length of a line, in characters.
const LONGEST_LINE: usize = 1000;

/// Numbers from this size on are written with an exponent.
const LARGEST_PLAIN: f64 = 1e9;

/// Formats text as one line for a terminal or a log.
///
/// Control characters, line breaks and characters that change the writing direction are escaped. Long text is
/// truncated.
///
/// ```
/// assert_eq!(composer_nas::text::line("diverged\n\u{1b}[31mat 3"), "diverged\\n\\u{1b}[31mat 3");
/// ```
pub fn line(text: &str) -> String {
    shortened(&visible(text, |_| false), LONGEST_LINE)
}

/// Escapes text for an element or attribute of HTML or SVG. Line feeds and tabs are kept.
pub(crate) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in visible(text, |c| matches!(c, '\n' | '\t')).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Formats a cell of comma-separated values and quotes it if necessary.
///
/// Text that a spreadsheet would interpret as a formula gets a leading apostrophe; numbers stay numbers. A record is
/// always one line.
pub(crate) fn cell(text: &str) -> String {
    let text = visible(text, |_| false);
    let text = if is_formula(&text) { Cow::from(format!("'{text}")) } else { text };
    match text.contains([',', '"', ';']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into_owned(),
    }
}

/// Formats a cell of a Markdown table: one line like [`line`](fn@line), with Markdown characters escaped.
///
/// ```
/// assert_eq!(composer_nas::text::markdown("a|<b>\n"), r"a\|\<b>\n");
/// ```
pub fn markdown(text: &str) -> String {
    let text = line(text);
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '|' | '<' | '[' | '`' | '*') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Formats a number for people, with `digits` digits after the point, and with an exponent if it is huge.
pub fn number(value: f64, digits: usize) -> String {
    match value {
        value if value.is_nan() => "-".into(),
        value if value.is_infinite() => if value > 0.0 { "∞" } else { "-∞" }.into(),
        value if value.abs() >= LARGEST_PLAIN => format!("{value:.digits$e}"),
        value => format!("{value:.digits$}"),
    }
}

/// Formats a score or a size for people: four digits after the point, or from 10,000 on three digits and an SI prefix.
/// Zero is `0`.
///
/// ```
/// use composer_nas::text::quantity;
/// assert_eq!([0.0, 0.34526, 9_999.0, 25_792_512.0].map(quantity), ["0", "0.3453", "9999.0000", "25.8M"]);
/// ```
pub fn quantity(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let size = value.abs();
    match UNITS.into_iter().find(|&(unit, _)| size >= unit) {
        Some((unit, letter)) if (1e4..1e15).contains(&size) => {
            let scaled = value / unit;
            let digits = match scaled.abs() {
                scaled if scaled < 10.0 => 2,
                scaled if scaled < 100.0 => 1,
                _ => 0,
            };
            format!("{scaled:.digits$}{letter}")
        }
        _ if value == 0.0 => "0".into(),
        _ => number(value, 4),
    }
}

/// Formats a number so that parsing it gives the same bits; an empty string if it is not finite.
pub(crate) fn exact(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

/// Truncates text to `most` characters and states how many were left out.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}… ({} more characters)", &text[..end], text[end..].chars().count()),
        None => text.into(),
    }
}

/// Formats an error and its causes as one text, from the outermost to the root cause, such as `cannot open a.jsonl:
/// permission denied`.
///
/// The errors of this crate do not repeat their [`source`](Error::source) in their message.
///
/// ```
/// use composer_nas::text::causes;
/// let error = "A+".parse::<composer_nas::space::Architecture>().unwrap_err();
/// assert_eq!(causes(&error), error.to_string());
/// ```
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}

/// Returns the text of a panic.
pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").into()
}

/// Escapes all characters that are not printable, except those that `keep` accepts.
fn visible(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let hidden = |c: char| is_command(c) && !keep(c);
    if !text.contains(hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' if hidden(c) => shown.extend(c.escape_default()),
            c if hidden(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown.into()
}

/// Returns whether this is a control character, a line separator, a mark that changes the writing direction (Unicode
/// Standard Annex 9, table of explicit formatting characters), or a character that XML forbids.
fn is_command(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Returns whether a spreadsheet would interpret the cell as a formula (OWASP, "CSV Injection"). Tabs and carriage
/// returns are escaped before.
fn is_formula(text: &str) -> bool {
    let starts = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    starts && text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that must be escaped everywhere.
    pub(crate) fn nasty() -> Vec<String> {
        let texts = [
            "<script>alert('x')</script>",
            "\" onload=\"alert(1)",
            "' onload='alert(1)",
            "&lt;b&gt;",
            "</title></svg><img src=x>",
            "=cmd|' /C calc'!A0",
            "+1+1",
            "-2+3",
            "@SUM(A1)",
            "\t=1+1",
            "\r=1+1",
            " =1+1",
            "a,b\"c\nd",
            "\u{1b}[2J\u{1b}]0;title\u{7}",
            "nul\0byte",
            "\u{9b}31m",
            "abc\u{202e}fed\u{2066}x",
            "line\u{2028}line",
            "🦀 héllo 日本",
            "",
        ];
        texts.map(String::from).into_iter().chain(["x".repeat(10_000), "\u{1b}".repeat(10_000)]).collect()
    }

    /// Parses the cells of one record by RFC 4180.
    fn record(line: &str) -> Vec<String> {
        let mut cells = vec![String::new()];
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let cell = cells.last_mut().unwrap();
            match (c, quoted) {
                ('"', true) if chars.peek() == Some(&'"') => cell.push(chars.next().unwrap()),
                ('"', _) => quoted = !quoted,
                (',', false) => cells.push(String::new()),
                (c, _) => cell.push(c),
            }
        }
        assert!(!quoted, "{line}");
        cells
    }

    fn check_line(text: &str) {
        let shown = line(text);
        assert!(!shown.chars().any(is_command), "{shown:?}");
        assert!(shown.chars().count() <= LONGEST_LINE + 40);
    }

    fn check_html(text: &str) {
        let shown = html(text);
        assert!(!shown.contains(['<', '>', '"', '\'']), "{shown}");
        assert!(shown.chars().all(|c| !is_command(c) || c == '\n' || c == '\t'), "{shown:?}");
        let back = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
        assert_eq!(back.replace("&amp;", "&"), visible(text, |c| c == '\n' || c == '\t'));
    }

    fn check_markdown(text: &str) {
        let shown = markdown(text);
        assert!(!shown.chars().any(is_command), "{shown:?}");
        let markup = shown.char_indices().filter(|(_, c)| matches!(c, '|' | '<' | '[' | '`' | '*'));
        assert!(markup.into_iter().all(|(at, _)| shown[..at].ends_with('\\')), "{shown}");
    }

    fn check_cell(text: &str) {
        let cells = record(&[cell(text), cell("next")].join(","));
        assert_eq!((cells.len(), cells[1].as_str()), (2, "next"), "{text:?}");
        let own = &cells[0];
        assert!(!own.chars().any(is_command), "{own:?}");
        assert!(!own.trim_start().starts_with(['=', '+', '-', '@']) || own.parse::<f64>().is_ok(), "{own:?}");
    }

    #[test]
    fn nasty_texts_lose_their_sting_in_every_place() {
        for text in nasty() {
            check_line(&text);
            check_html(&text);
            check_cell(&text);
            check_markdown(&text);
        }
    }

    proptest! {
        #[test]
        fn so_does_any_text(text in proptest::collection::vec(prop_oneof![any::<char>(), (0u8..128).prop_map(char::from)], 0..40)) {
            let text: String = text.into_iter().collect();
            check_line(&text);
            check_html(&text);
            check_cell(&text);
            check_markdown(&text);
        }

        #[test]
        fn numbers_stay_numbers(value in any::<f64>(), digits in 0usize..6) {
            if value.is_finite() {
                prop_assert_eq!(cell(&exact(value)).parse::<f64>(), Ok(value));
            }
            prop_assert!(number(value, digits).chars().count() <= 24, "{}", number(value, digits));
        }
    }

    #[test]
    fn ordinary_text_and_numbers_stay_as_they_are() {
        for text in ["failed at step 3: loss 2.5", "héllo 🦀", "2A+1M", ""] {
            assert_eq!([line(text), html(text), cell(text), markdown(text)], [text; 4]);
        }
        assert_eq!(["-1.5", "+3", "-1e-9"].map(cell), ["-1.5", "+3", "-1e-9"]);
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("say \"no\", twice"), "\"say \"\"no\"\", twice\"");
        assert_eq!(number(0.123_45, 4), "0.1235");
        assert_eq!(number(1e308, 3), "1.000e308");
        assert_eq!([number(f64::NAN, 2), number(f64::NEG_INFINITY, 2)], ["-", "-∞"]);
        assert_eq!([exact(f64::INFINITY), exact(0.1)], ["", "0.1"]);
        assert_eq!(shortened("abcdef", 2), "ab… (4 more characters)");
    }
}
