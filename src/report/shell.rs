//! What every page shares: one file without anything from elsewhere, light and dark, fit to be printed.

use super::{
    axis::Axis,
    figure::{Figure, color},
};
use crate::{
    space::Architecture,
    text::{self, html as escape, number},
};

/// Rows of a table that show at once.
pub(super) const SHOWN: usize = 12;
/// Rows that a table has at most.
pub(super) const LISTED: usize = 500;

/// A whole page of this title and these sections. A browser reads it again after so many seconds, where they are given.
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

/// A figure with its heading and its numbers behind a link.
pub(super) fn figure(figure: &Figure) -> String {
    format!(
        "<figure id=\"{name}\"><h3>{title}</h3><figcaption>{caption} \
         (<a download=\"{name}.csv\" href=\"data:text/csv;charset=utf-8,{data}\">numbers</a>)</figcaption>\n{svg}</figure>\n",
        name = figure.name,
        title = escape(&figure.title),
        caption = escape(&figure.caption),
        data = percent(&figure.csv),
        svg = figure.svg,
    )
}

/// A row of numbers that matter most.
pub(super) fn cards(cards: &[(String, String)]) -> String {
    let card = |(value, name): &(String, String)| {
        // Long sequences break between their runs.
        let value = escape(value).replace('+', "+<wbr>");
        format!("<div class=\"card\"><b>{value}</b><span>{}</span></div>", escape(name))
    };
    format!("<div class=\"cards\">{}</div>\n", cards.iter().map(card).collect::<String>())
}

/// One cell of a table: what it shows, and by what it is sorted.
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

    /// A number that is not there; sorts below all others.
    pub(super) fn blank() -> Self {
        Self { html: String::new(), key: Some(f64::NEG_INFINITY) }
    }

    /// A number as text.
    pub(super) fn number(value: f64, text: String) -> Self {
        Self { html: escape(&text), key: Some(value) }
    }

    /// A number with its standard error, where it is known, as text and as a dot with a bar on a scale.
    pub(super) fn measured(value: f64, error: Option<f64>, axis: &Axis) -> Self {
        let place = |share: f64| 4.0 + 72.0 * share;
        let at = place(axis.share(value));
        let [from, to] = axis.bar(value, error.unwrap_or(0.0)).map(|end| place(axis.share_of_tick(end)));
        let soft = |error| format!(" <span class=\"soft\">± {}</span>", number(error, 3));
        let value_text = number(value, 4);
        let text = error.map(soft).unwrap_or_default();
        let html = format!(
            "{value_text}{text} <svg class=\"mark\" width=\"80\" height=\"12\" aria-hidden=\"true\">\
             <path d=\"M{from:.1} 6H{to:.1}\"/><circle cx=\"{at:.1}\" cy=\"6\" r=\"2\"/></svg>"
        );
        Self { html, key: Some(value) }
    }

    /// The layers of a sequence as coloured letters.
    pub(super) fn strip(architecture: &Architecture) -> Self {
        let layer = |&symbol| {
            let tone = color(symbol);
            format!("<i style=\"background:rgb({},{},{})\">{symbol}</i>", tone.0, tone.1, tone.2)
        };
        let layers: String = architecture.layers().iter().map(layer).collect();
        Self { html: format!("<span class=\"strip\" title=\"{architecture}\">{layers}</span>"), key: None }
    }

    fn html(&self) -> String {
        match self.key {
            // What is not there sorts below all; JavaScript spells infinity out.
            Some(key) if !key.is_finite() => format!("<td data-value=\"-Infinity\">{}</td>", self.html),
            // Debug has an exponent where a number would have hundreds of digits.
            Some(key) => format!("<td data-value=\"{key:?}\">{}</td>", self.html),
            None => format!("<td class=\"text\">{}</td>", self.html),
        }
    }
}

/// A table that sorts by a click on a heading; of more than `shown` rows the rest waits behind a button.
pub(super) fn table(id: &str, heads: &[&str], rows: &[Vec<Cell>], shown: usize) -> String {
    let head = |(column, head): (usize, &&str)| {
        let text = rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.key.is_none());
        format!("<th scope=\"col\"{}>{}</th>", if text { " class=\"text\"" } else { "" }, escape(head))
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

/// A fact that is longer, in characters, is folded up.
const LONG: usize = 200;

/// Its first word stands for it, as far as so many characters.
const FIRST: usize = 60;
/// What is longer than this, in characters, is cut: a page is to be read.
const LONGEST: usize = 5000;

/// A text, folded up behind its first word where it is long.
fn folded(value: &str) -> String {
    match (value.chars().count() > LONG, value.split_whitespace().next()) {
        (true, Some(first)) => {
            let first = text::shortened(first, FIRST);
            let text = text::shortened(value, LONGEST);
            format!("<details><summary>{}</summary><code>{}</code></details>", escape(&first), escape(&text))
        }
        _ => escape(value),
    }
}

/// Names with their meanings.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let fact = |(name, value): &(&str, String)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), folded(value));
    format!("<dl>{}</dl>\n", facts.iter().map(fact).collect::<String>())
}

/// Says that a table has only the `which` rows of many; nothing where it has all.
pub(super) fn note_of_rest(which: &str, rows: usize, all: usize) -> String {
    match rows < all {
        true => format!(
            "<p class=\"soft\">The {which} {rows} of {all}; the numbers of all are behind the first figure.</p>\n"
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
