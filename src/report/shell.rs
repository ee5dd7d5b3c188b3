//! The common frame of all pages: one file without external resources, for light and dark screens and for print.

use super::{
    axis::Axis,
    figure::{Figure, color, is_pale},
};
use crate::{
    space::Architecture,
    text::{self, html as escape, number},
};

/// Number of rows of a table that are shown at first.
pub(super) const SHOWN: usize = 12;
/// The maximum number of rows of a table.
pub(super) const LISTED: usize = 500;

/// Returns a whole page with this title and body. If `reload` is given, the browser reloads it after so many seconds.
pub(super) fn page(title: &str, body: &str, reload: Option<u64>) -> String {
    let reload = reload.map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n"));
    let reload = reload.unwrap_or_default();
    let style = include_str!("page.css");
    let script = include_str!("page.js");
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n{reload}<title>{title}</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n{body}\n<footer>Written by composer-nas {version}.</footer>\n\
         <div id=\"hint\" role=\"tooltip\"></div>\n<script>\n{script}</script>\n</body>\n</html>\n",
        title = escape(title),
    )
}

/// Returns a figure with its heading, a link to its numbers, and another picture for narrow screens.
pub(super) fn adaptive(figure: &Figure, narrow: &str) -> String {
    let wide = figure.svg.replacen("<svg ", "<svg class=\"wide\" ", 1);
    let narrow = narrow.replacen("<svg ", "<svg class=\"narrow\" ", 1);
    format!(
        "<figure id=\"{name}\"><h3>{title}</h3><figcaption>{caption}. \
         <a download=\"{name}.csv\" href=\"data:text/csv;charset=utf-8,{data}\">Numbers (CSV)</a></figcaption>\n{wide}\n\
         {narrow}</figure>\n",
        name = figure.name,
        title = escape(&figure.title),
        caption = escape(figure.caption.trim_end_matches('.')),
        data = percent(&figure.csv),
    )
}

/// A card with one of the most important numbers.
pub(super) struct Card {
    name: String,
    /// HTML.
    value: String,
    note: String,
}

impl Card {
    pub(super) fn new(name: &str, value: impl AsRef<str>, note: impl Into<String>) -> Self {
        Self { name: name.into(), value: escape(value.as_ref()), note: note.into() }
    }

    /// A card whose value is an architecture.
    pub(super) fn of(name: &str, architecture: &Architecture, note: String) -> Self {
        // Long sequences break between their runs.
        let text = escape(&architecture.to_string()).replace('+', "+<wbr>");
        Self { name: name.into(), value: format!("{text} {}", strip(architecture)), note }
    }
}

/// Returns a row of cards.
pub(super) fn cards(cards: &[Card]) -> String {
    let card = |Card { name, value, note }: &Card| {
        let name = escape(name);
        let note = escape(note);
        format!("<div class=\"card\"><span>{name}</span><b>{value}</b><span>{note}</span></div>\n")
    };
    let class = if cards.len().is_multiple_of(3) { "cards" } else { "cards two" };
    format!("<div class=\"{class}\">{}</div>\n", cards.iter().map(card).collect::<String>())
}

/// Number of layers beyond which letters are small.
const LONG_STRIP: usize = 24;
/// Number of layers up to which a table shows a sequence as letters and as runs.
const WITH_RUNS: usize = 12;

/// The layers of a sequence as coloured letters.
pub(super) fn strip(architecture: &Architecture) -> String {
    let layer = |&symbol| {
        let tone = color(symbol);
        let class = if is_pale(tone) { " class=\"pale\"" } else { "" };
        format!("<i{class} style=\"background:rgb({},{},{})\">{symbol}</i>", tone.0, tone.1, tone.2)
    };
    let layers: String = architecture.layers().iter().map(layer).collect();
    let class = if architecture.len() > LONG_STRIP { "strip long" } else { "strip" };
    format!("<span class=\"{class}\" title=\"{architecture}\">{layers}</span>")
}

/// A cell of a table, with the key by which it is sorted.
pub(super) struct Cell {
    /// HTML.
    html: String,
    key: Option<f64>,
}

impl Cell {
    /// A text.
    pub(super) fn text(text: &str) -> Self {
        Self { html: folded(text), key: None }
    }

    /// A missing number, which is sorted below all others.
    pub(super) fn blank() -> Self {
        Self { html: String::new(), key: Some(f64::NEG_INFINITY) }
    }

    /// A number as text.
    pub(super) fn number(value: f64, text: String) -> Self {
        Self { html: escape(&text), key: Some(value) }
    }

    /// A number with its standard error, if it is known, as text and as a dot with a bar on a scale.
    pub(super) fn measured(value: f64, error: Option<f64>, axis: &Axis) -> Self {
        let at = on_scale(axis.share(value));
        let [from, to] = axis.bar(value, error.unwrap_or(0.0)).map(|end| on_scale(axis.share_of_tick(end)));
        let soft = |error| format!(" <span class=\"soft\">± {}</span>", number(error, 4));
        let value_text = number(value, 4);
        let text = error.map(soft).unwrap_or_default();
        let mark = match axis.leaves_out(value) {
            // An arrow to where it lies.
            true if at < SCALE / 2.0 => "<path d=\"M9 2L3 6L9 10\"/>".into(),
            true => format!("<path d=\"M{0:.1} 2L{1:.1} 6L{0:.1} 10\"/>", SCALE - 9.0, SCALE - 3.0),
            false => format!("<path d=\"M{from:.1} 6H{to:.1}\"/><circle cx=\"{at:.1}\" cy=\"6\" r=\"2.5\"/>"),
        };
        let html = format!(
            "{value_text}{text} <svg class=\"mark\" width=\"{SCALE}\" height=\"12\" aria-hidden=\"true\">{mark}</svg>"
        );
        Self { html, key: Some(value) }
    }

    /// The layers of a sequence as coloured letters.
    pub(super) fn strip(architecture: &Architecture) -> Self {
        Self { html: strip(architecture), key: None }
    }

    /// The same with its runs, if it is short.
    pub(super) fn layers(architecture: &Architecture) -> Self {
        if architecture.len() > WITH_RUNS {
            return Self::strip(architecture);
        }
        let html = format!("{} <span class=\"soft runs\">{architecture}</span>", strip(architecture));
        Self { html, key: None }
    }

    /// The cell with a note behind it, if there is one.
    pub(super) fn noted(mut self, note: &str) -> Self {
        if !note.is_empty() {
            self.html += &format!(" <span class=\"soft\">{}</span>", escape(note));
        }
        self
    }

    fn html(&self) -> String {
        match self.key {
            // Missing numbers sort below all others; JavaScript writes out infinity.
            Some(key) if !key.is_finite() => format!("<td data-value=\"-Infinity\">{}</td>", self.html),
            // Debug has an exponent where a number would have hundreds of digits.
            Some(key) => format!("<td data-value=\"{key:?}\">{}</td>", self.html),
            None => format!("<td class=\"text\">{}</td>", self.html),
        }
    }
}

/// Width of the scale in a table, in pixels.
const SCALE: f64 = 116.0;

/// Returns a position on the scale.
fn on_scale(share: f64) -> f64 {
    10.0 + (SCALE - 20.0) * share
}

/// Returns the labels of the scale in a table.
fn scale(axis: &Axis) -> String {
    let mut ticks = String::new();
    let mut end = f64::NEG_INFINITY;
    for (share, label) in axis.ticks(4) {
        let x = on_scale(share);
        let half = 3.5 * label.chars().count() as f64;
        if x - half > end {
            ticks += &format!("<path d=\"M{x:.1} 13V18\"/><text x=\"{x:.1}\" y=\"10\">{}</text>", escape(&label));
            end = x + half;
        }
    }
    format!("<br><svg class=\"scale\" width=\"{SCALE}\" height=\"18\" aria-hidden=\"true\">{ticks}</svg>")
}

/// Returns a table that is sorted by a click on a heading. Rows beyond `shown` are hidden behind a button.
pub(super) fn table(id: &str, heads: &[&str], rows: &[Vec<Cell>], shown: usize) -> String {
    table_with_scale(id, heads, rows, shown, None)
}

/// Like [`table`], with a scale above the column of this index, which has [measured](Cell::measured) cells.
pub(super) fn table_with_scale(
    id: &str,
    heads: &[&str],
    rows: &[Vec<Cell>],
    shown: usize,
    axis: Option<(usize, &Axis)>,
) -> String {
    let head = |(column, head): (usize, &&str)| {
        let text = rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.key.is_none());
        let class = if text { " class=\"text\"" } else { "" };
        let scale = axis.filter(|&(at, _)| at == column).map(|(_, axis)| scale(axis));
        format!("<th scope=\"col\"{class}>{}{}</th>", escape(head), scale.unwrap_or_default())
    };
    let heads: String = heads.iter().enumerate().map(head).collect();
    let row = |(at, cells): (usize, &Vec<Cell>)| {
        let class = if at < shown { "" } else { " class=\"rest\"" };
        format!("<tr{class}>{}</tr>\n", cells.iter().map(Cell::html).collect::<String>())
    };
    let body: String = rows.iter().enumerate().map(row).collect();
    let button = match rows.len() > shown {
        true => format!("<button data-all=\"{id}\">Show all {}</button>\n", rows.len()),
        false => String::new(),
    };
    format!(
        "<div class=\"scroll\" id=\"{id}\"><table class=\"sort\"><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody>\
         </table></div>\n{button}"
    )
}

/// Facts longer than this, in characters, are folded.
const LONG: usize = 200;

/// The maximum length of the first word, which is shown instead, in characters.
const FIRST: usize = 60;
/// Texts longer than this, in characters, are cut.
const LONGEST: usize = 5000;

/// Returns a text, folded behind its first word if it is long.
fn folded(value: &str) -> String {
    let first = value.split_whitespace().next().unwrap_or_default();
    folded_behind(&text::shortened(first, FIRST), value)
}

/// Returns a text, folded behind these words if it is long.
fn folded_behind(words: &str, value: &str) -> String {
    if value.chars().count() <= LONG || words.is_empty() {
        return escape(value);
    }
    let text = text::shortened(value, LONGEST);
    format!("<details><summary>{}</summary><code>{}</code></details>", escape(words), escape(&text))
}

/// A name, its value in words and, if that differs, the exact value.
pub(super) type Fact = (&'static str, String, Option<String>);

/// Returns names with their values.
pub(super) fn facts(facts: &[Fact]) -> String {
    let fact = |(name, value, exact): &Fact| {
        let exact = exact
            .as_ref()
            .map(|exact| format!(" <span class=\"soft\">{}</span>", folded_behind("all settings", exact)));
        format!("<dt>{}</dt><dd>{}{}</dd>", escape(name), folded(value), exact.unwrap_or_default())
    };
    format!("<dl>{}</dl>\n", facts.iter().map(fact).collect::<String>())
}

/// Returns a note that a table has only the `which` rows of many. Empty if it has all.
pub(super) fn note_of_rest(which: &str, rows: usize, all: usize) -> String {
    match rows < all {
        true => format!(
            "<p class=\"soft\">The {which} {rows} of {all}. The numbers of all trials are with the figure \"Every trial\".</p>\n"
        ),
        false => String::new(),
    }
}

/// The text as part of a link.
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b',' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
